"""The types of native objects have the fields of the format, and no others."""

from __future__ import annotations

import pytest

from sgdataplane.statefile import native_objects
from sgdataplane.statefile.keys import INNER_KEYS, KEYS, Keys

TYPES = {
    native_objects.NativeVpc: KEYS["vpcs"],
    native_objects.NativePrefixList: KEYS["prefix_lists"],
    native_objects.NativePrefixEntry: INNER_KEYS["prefix_lists", "entries"],
    native_objects.NativePortList: KEYS["port_lists"],
    native_objects.NativePortEntry: INNER_KEYS["port_lists", "entries"],
    native_objects.NativeGroup: KEYS["security_groups"],
    native_objects.NativeRule: INNER_KEYS["security_groups", "rules"],
    native_objects.NativeInstance: KEYS["instances"],
    native_objects.NativeEni: KEYS["network_interfaces"],
}


@pytest.mark.parametrize(("kind", "keys"), TYPES.items(), ids=[kind.__name__ for kind in TYPES])
def test_a_type_has_the_fields_of_the_format(kind: type, keys: Keys) -> None:
    assert {*kind.__annotations__} == {*keys}


def test_every_kind_of_object_has_a_type() -> None:
    assert [*KEYS.values()] == [keys for keys in TYPES.values() if keys in KEYS.values()]

"""Interface names are told apart where any pattern tells them apart."""

from __future__ import annotations

import pytest

from sgdataplane.proof.spec.axes import MalformedError, is_name, representatives


def test_names_that_are_told_apart() -> None:
    patterns = ["lo", "veth0", "veth*", "veth0*", "v*", "x"]
    found = representatives(patterns)
    ways = {frozenset(pattern for pattern in patterns if is_name(pattern, name)) for name in found}
    some = [f"{stem}{end}" for stem in ("lo", "veth0", "veth", "v", "x", "y", "") for end in ("", "0", "a", "z9")]
    assert ways >= {frozenset(p for p in patterns if is_name(p, name)) for name in some if name}
    assert len(ways) == len(found)
    with pytest.raises(MalformedError):
        representatives([f"{char}*" for char in "abcdefghijklmnopqrstuvwxyz"])

"""Names of the router's ends of links."""

from __future__ import annotations

import pytest

from sgdataplane.host.routing import TAKEN_IFNAMES, router_ifname
from sgdataplane.net.values import IFNAME


@pytest.mark.parametrize(
    ("key", "ifname"),
    [
        ("eni-web1", "eni-web1"),
        ("exactly15chars_", "exactly15chars_"),
        ("eni-bp14v2sdd3v8htln", None),
        ("lo", None),
        ("all", None),
        ("sit0", None),
        ("eni:1", None),
        ("-x", None),
    ],
)
def test_router_ifname_fits_an_interface(key: str, ifname: str | None) -> None:
    found = router_ifname(key)
    assert found == ifname or ifname is None
    assert IFNAME.fullmatch(found)
    assert found not in TAKEN_IFNAMES
    assert router_ifname(key) == found


def test_router_ifnames_of_long_ids_differ() -> None:
    ids = [f"eni-bp14v2sdd3v8htl{number:04}" for number in range(2000)]
    assert len(set(map(router_ifname, ids))) == len(ids)

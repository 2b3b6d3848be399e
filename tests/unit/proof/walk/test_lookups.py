"""A map is read as a whole where its elements are not on the pages they belong to."""

from __future__ import annotations

from sgdataplane.contract.fields import KeyType
from sgdataplane.nft.ir import Map, MapPage, Paged, goto
from sgdataplane.proof.walk.lookups import Lookup


def test_map_with_elements_on_other_pages_is_read_whole() -> None:
    pages = {0: MapPage(((251, goto("a")),)), 7: MapPage(((5, goto("b")),))}
    lookup = Lookup.of(Map("m", KeyType.IPV4, Paged(pages)))
    assert [lookup.get(key) for key in (251, 5, 7)] == [goto("a"), goto("b"), None]
    assert lookup.targets == {"a", "b"}

"""Ranges that touch and have the same value are joined."""

from __future__ import annotations

import pytest

from sgdataplane.nft.ir import Range
from sgdataplane.nft.order import join_neighbours

Entries = list[tuple[Range, str]]


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ([], []),
        ([(Range(1, 2), "a"), (Range(3, 5), "a"), (Range(6, 6), "a")], [(Range(1, 6), "a")]),
        ([(Range(1, 2), "a"), (Range(3, 5), "b"), (Range(6, 6), "a")], None),
        ([(Range(1, 2), "a"), (Range(4, 5), "a")], None),
        ([(Range.of("eth0"), "a"), (Range.of("eth1"), "a")], None),
    ],
    ids=["none", "all touch", "another value", "a gap", "names"],
)
def test_joined(entries: Entries, wanted: Entries | None) -> None:
    assert join_neighbours(entries) == (entries if wanted is None else wanted)

"""Sets as ranges do what Python's own sets do."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from sgdataplane.net.ranges import Ranges, count, holds, meet, minus, symmetric_difference, unite

LAST = 15
INTERVALS = st.lists(st.tuples(st.integers(0, LAST), st.integers(0, LAST)).map(lambda pair: (min(pair), max(pair))))


def numbers(ranges: Ranges) -> set[int]:
    """All numbers in some ranges; fails unless the ranges are in normal form."""
    for (_, last), (first, _) in pairwise(ranges):
        assert first > last + 1
    return {number for first, last in ranges for number in range(first, last + 1)}


@settings(max_examples=200, database=None, deadline=None)
@given(INTERVALS, INTERVALS)
def test_ranges_do_as_sets_do(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    one, other = unite(some), unite(others)
    mine, theirs = numbers(one), numbers(other)
    assert mine == {number for first, last in some for number in range(first, last + 1)}
    assert numbers(meet(one, other)) == mine & theirs
    assert numbers(minus(one, other)) == mine - theirs
    assert numbers(symmetric_difference(one, other)) == mine ^ theirs
    assert count(one) == len(mine)
    assert {number for number in range(LAST + 1) if holds(one, number)} == mine

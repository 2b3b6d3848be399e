"""Sets as ranges, against Python's own sets."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from sgdataplane.analyse.order import overlay
from sgdataplane.analyse.ranges import Ranges, apart, count, holds, meet, minus, united

LAST = 15
INTERVALS = st.lists(st.tuples(st.integers(0, LAST), st.integers(0, LAST)).map(lambda pair: (min(pair), max(pair))))


def numbers(ranges: Ranges) -> set[int]:
    """Fails unless they are in normal form."""
    for (_, last), (first, _) in pairwise(ranges):
        assert first > last + 1
    return {number for first, last in ranges for number in range(first, last + 1)}


@settings(max_examples=200, database=None, deadline=None)
@given(INTERVALS, INTERVALS)
def test_ranges_do_as_sets_do(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    one, other = united(some), united(others)
    mine, theirs = numbers(one), numbers(other)
    assert mine == {number for first, last in some for number in range(first, last + 1)}
    assert numbers(meet(one, other)) == mine & theirs
    assert numbers(minus(one, other)) == mine - theirs
    assert numbers(apart(one, other)) == mine ^ theirs
    assert count(one) == len(mine)
    assert {number for number in range(LAST + 1) if holds(one, number)} == mine


@settings(max_examples=200, database=None, deadline=None)
@given(st.lists(INTERVALS.map(united), max_size=4), INTERVALS.map(united))
def test_overlaid_sets_tell_in_which_each_number_is(sets: list[Ranges], within: Ranges) -> None:
    found = overlay(((ranges, 1 << place) for place, ranges in enumerate(sets)), within)
    told = {number: mask for mask, ranges in found.items() for number in numbers(ranges)}
    assert told == {
        number: sum(1 << place for place, ranges in enumerate(sets) if holds(ranges, number))
        for number in numbers(within)
    }

"""Sets laid over each other agree with Python's own sets."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sgdataplane.analyse.arrangement import overlay
from sgdataplane.net.ranges import Ranges, holds, unite
from tests.unit.net.test_ranges import INTERVALS, numbers


@settings(max_examples=200, database=None, deadline=None)
@given(st.lists(INTERVALS.map(unite), max_size=4), INTERVALS.map(unite))
def test_overlaid_sets_tell_in_which_each_number_is(sets: list[Ranges], within: Ranges) -> None:
    found = overlay(((ranges, 1 << place) for place, ranges in enumerate(sets)), within)
    told = {number: mask for mask, ranges in found.items() for number in numbers(ranges)}
    assert told == {
        number: sum(1 << place for place, ranges in enumerate(sets) if holds(ranges, number))
        for number in numbers(within)
    }

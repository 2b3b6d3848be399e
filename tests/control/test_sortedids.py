"""Sorted ids are what sorted() of a set would be after the same changes, and no former ones ever change."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdataplane.store import sortedids
from sgdataplane.store.layered import Layered
from sgdataplane.store.sortedids import SortedIds, update_index

IDS = st.integers(0, 40).map("id-{:02}".format)
STEPS = st.lists(st.tuples(st.sets(IDS, max_size=3), st.sets(IDS, max_size=3)), max_size=30)


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sortedids, "PIECE", 3)
        yield


@settings(max_examples=300, database=None)
@given(st.sets(IDS), STEPS, st.integers(0, 45), st.integers(0, 45))
def test_they_are_those_of_a_set_in_order(
    first: set[str], steps: list[tuple[set[str], set[str]]], start: int, stop: int
) -> None:
    expected, found = set(first), SortedIds(first)
    everything = [(sorted(expected), found)]
    for come, gone in steps:
        expected = (expected - gone) | come
        found = found.after(sorted(come), sorted(gone))
        everything.append((sorted(expected), found))
    for ids, one in everything:
        assert (list(one), len(one), one.cut(start, stop)) == (ids, len(ids), ids[start:stop])
        assert [f"id-{number:02}" in one for number in range(41)] == [f"id-{number:02}" in ids for number in range(41)]
        assert one == SortedIds(ids)
        assert one != SortedIds([*ids, "other"])


def test_one_more_id_among_many_shares_what_stays() -> None:
    before = SortedIds([f"id-{number:05}" for number in range(9_000)])
    after = before.after(["id-04500-a"])
    assert len(after) == 9_001
    assert len({*map(id, after._pieces)} - {*map(id, before._pieces)}) == 1


def test_an_index_has_the_keys_that_lead_to_something() -> None:
    index = update_index(Layered(), (), [("a", "1"), ("a", "2"), ("b", "1")])
    assert {key: list(ids) for key, ids in index.items()} == {"a": ["1", "2"], "b": ["1"]}
    after = update_index(index, [("a", "1"), ("b", "1")], [("a", "3"), ("c", "1")])
    assert {key: list(ids) for key, ids in after.items()} == {"a": ["2", "3"], "c": ["1"]}
    assert {key: list(ids) for key, ids in index.items()} == {"a": ["1", "2"], "b": ["1"]}

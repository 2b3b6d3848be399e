"""Rows by name, remembered or not: the same as sets of them say."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdataplane.relay import rows as layout
from sgdataplane.relay.rows import FactRow, FactRows, make_row, read_fields, without_row
from sgdataplane.relay.spill import DamagedError, SpillFile
from tests.support.run.spilling import tiny_texts, zero

FIELDS = st.one_of(st.sampled_from(["a", "aa", "a\t", "\r", "a\n", "", "\\", "\\t", "a\\"]), st.text())
ROWS = st.builds(FactRow, st.sampled_from(["", "a", "a/b", "\t"]), st.lists(FIELDS, min_size=1, max_size=3).map(tuple))
SETS = st.sets(ROWS, max_size=6)


@settings(max_examples=200, database=None)
@given(st.lists(st.lists(FIELDS, min_size=1, max_size=3), max_size=20), st.randoms(use_true_random=False))
def test_rows_of_one_name_come_and_go(rows: list[list[str]], chance: random.Random) -> None:
    value = b"".join(make_row(*row) for row in rows)
    assert read_fields(value) == (*chain(*rows),)
    while rows:
        row = chance.choice(rows)
        value = without_row(value, make_row(*row))
        rows.remove(row)
        assert read_fields(value) == (*chain(*rows),)


@pytest.mark.parametrize("remembered", [0, 12, 20_000])
@settings(max_examples=100, database=None)
@given(first=st.lists(ROWS, max_size=20), steps=st.lists(st.tuples(SETS, SETS), max_size=8))
def test_a_change_is_seen_whatever_is_remembered(
    remembered: int, first: list[FactRow], steps: list[tuple[set[FactRow], set[FactRow]]]
) -> None:
    """Each name is asked for before and after each change."""
    with tiny_texts(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "REMEMBERED", remembered)
        there, rows = set(first), FactRows.of(first, SpillFile())
        check(rows, there)
        for old, new in steps:
            rows.replace(old & there, new - (there - old))
            there = there - old | new
            check(rows, there)


def check(rows: FactRows, expected: set[FactRow]) -> None:
    fields = defaultdict[str, list[tuple[str, ...]]](list)
    for row in expected:
        fields[row.name].append(row.fields)
    assert {name for name, _ in rows.items()} == fields.keys()
    for name in ("", "a", "a/b", "\t", "nobody"):
        assert sorted(rows.fields(name)) == sorted(chain(*fields[name]))
        assert rows.fields(name) == rows.fields(name)


def test_what_is_remembered_is_not_told_once_the_file_is_damaged() -> None:
    with tiny_texts():
        file = SpillFile()
        rows = FactRows.of([FactRow(f"{number}", ("x" * 40,)) for number in range(20)], file)
        assert rows.fields("1") == ("x" * 40,)
        zero(file)
        with pytest.raises(DamagedError):
            [*rows.items()]
        with pytest.raises(DamagedError):
            rows.fields("1")

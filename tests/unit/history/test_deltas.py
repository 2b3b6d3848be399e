"""Each packet that a counter has counted is counted once, whatever becomes of the counter, and whoever is late."""

from __future__ import annotations

from sgdataplane.history.deltas import GONE_S, Deltas
from sgdataplane.nft.counters import Counted

NS, RULE = 7, "rule.a"


def counted(packets: int, made: str = "1.5") -> dict[str, Counted]:
    return {RULE: Counted(packets, 60 * packets, made)}


def begun() -> Deltas:
    deltas = Deltas({})
    assert deltas.note(NS, counted(100), 0.0) == {}  # nobody knows when that was
    return deltas


def test_what_came_since_the_last_reading_is_counted() -> None:
    deltas = begun()
    assert deltas.note(NS, counted(103), 1.0) == {RULE: (3, 180)}
    assert deltas.note(NS, counted(103), 2.0) == {}


def test_a_counter_that_was_reset_or_made_anew_begins_at_zero() -> None:
    deltas = begun()
    assert deltas.note(NS, counted(2), 1.0) == {RULE: (2, 120)}
    assert deltas.note(NS, counted(5, "1.9"), 2.0) == {RULE: (5, 300)}
    assert deltas.note(NS, counted(9, "2.1"), 3.0) == {RULE: (9, 540)}


def test_a_removed_counter_s_last_value_counts_once() -> None:
    deltas = begun()
    assert deltas.note_last(NS, counted(120)) == {RULE: (20, 1200)}
    assert deltas.note_last(NS, counted(120)) == {}
    assert deltas.note(NS, {}, 1.0) == {}
    assert deltas.note_last(NS, counted(120)) == {}


def test_a_last_value_that_comes_after_the_next_counter_counts_too() -> None:
    deltas = begun()
    assert deltas.note(NS, counted(4, "1.9"), 1.0) == {RULE: (4, 240)}
    assert deltas.note_last(NS, counted(110)) == {RULE: (10, 600)}
    assert deltas.note_last(NS, counted(110)) == {}
    assert deltas.note(NS, counted(5, "1.9"), 2.0) == {RULE: (1, 60)}


def test_a_last_value_that_is_older_than_our_reading_counts_nothing() -> None:
    assert begun().note_last(NS, counted(90)) == {}


def test_a_counter_that_came_and_went_between_two_readings_is_counted() -> None:
    deltas = begun()
    assert deltas.note_last(NS, counted(6, "1.9")) == {RULE: (6, 360)}
    assert deltas.note(NS, counted(2, "1.11"), 1.0) == {RULE: (2, 120)}


def test_whoever_begins_with_what_the_file_has_counts_what_came_meanwhile() -> None:
    first = begun()
    first.note(NS, counted(105), 1.0)
    kept = {base: read for base, read in first.take_changed().items() if read is not None}
    assert Deltas(kept).note(NS, counted(111), 2.0) == {RULE: (6, 360)}


def test_a_namespace_that_had_counted_nothing_is_known_to_the_file() -> None:
    first = Deltas({})
    first.note(NS, counted(0), 0.0)
    kept = {base: read for base, read in first.take_changed().items() if read is not None}
    assert Deltas(kept).note(NS, counted(4), 1.0) == {RULE: (4, 240)}


def test_readings_of_what_is_gone_are_forgotten() -> None:
    deltas = begun()
    deltas.take_changed()
    deltas.note(NS, {}, 1.0)
    deltas.note(NS, {}, 2.0 + GONE_S)
    assert deltas.take_changed() == {(NS, RULE): None}
    deltas.keep_only(())
    assert None in deltas.take_changed().values()

"""Sums outlive counters, namespaces and boots, and count nothing twice."""

from __future__ import annotations

from sgdataplane.nft.counters import Counted
from sgdataplane.observe.ledger import Ledger, Sum

SCOPE, RULE = "eni-a", "rule.sg.sgr"


def counted(packets: int, made: str = "1.1") -> dict[str, Counted]:
    return {RULE: Counted(packets, 10 * packets, made)}


def test_what_comes_is_added_and_its_times_are_kept() -> None:
    ledger = Ledger()
    for packets, at in ((0, "t1"), (3, "t2"), (3, "t3"), (5, "t4"), (5, "t5")):
        ledger.note(7, SCOPE, counted(packets), at)
    assert ledger.scopes == {SCOPE: {RULE: Sum(5, 50, "t1", "t2", "t4")}}


def test_a_counter_that_was_made_anew_begins_with_nothing() -> None:
    ledger = Ledger()
    ledger.note(7, SCOPE, counted(3), "t1")
    ledger.note(7, SCOPE, counted(8, made="1.2"), "t2")  # as many as if the first one had gone on
    assert ledger.scopes[SCOPE][RULE].packets == 11


def test_a_counter_that_was_set_to_nothing_goes_on() -> None:
    ledger = Ledger()
    ledger.note(7, SCOPE, counted(3), "t1")
    ledger.note(7, SCOPE, counted(2), "t2")
    assert ledger.scopes[SCOPE][RULE] == Sum(5, 50, "t1", "t1", "t2")


def test_what_a_removed_rule_counted_at_last_is_added_and_it_may_come_again() -> None:
    ledger = Ledger()
    ledger.note(7, SCOPE, counted(3), "t1")
    ledger.note_last(7, SCOPE, counted(4), "t2")
    ledger.note(7, SCOPE, {}, "t3")
    assert ledger.scopes[SCOPE][RULE] == Sum(4, 40, "t1", "t1", "t2")
    ledger.note(7, SCOPE, counted(1, made="1.9"), "t4")
    assert ledger.scopes[SCOPE][RULE] == Sum(5, 50, "t1", "t1", "t4")


def test_a_reading_between_a_removal_and_its_last_counts_counts_nothing_twice() -> None:
    ledger = Ledger()
    ledger.note(7, SCOPE, counted(3), "t1")
    ledger.note(7, SCOPE, {}, "t2")
    ledger.note_last(7, SCOPE, counted(4), "t3")
    assert ledger.scopes[SCOPE][RULE] == Sum(4, 40, "t1", "t1", "t3")


def test_a_settled_reading_forgets_what_is_not_there() -> None:
    ledger = Ledger()
    ledger.note(7, SCOPE, counted(3), "t1")
    ledger.note(7, SCOPE, {}, "t2", is_settled=True)
    assert ledger.bases[7].counters == {}


def test_the_last_counts_of_a_namespace_that_was_never_read_count() -> None:
    ledger = Ledger()
    ledger.note_last(7, SCOPE, counted(4), "t1")
    ledger.note(7, SCOPE, {}, "t2")
    assert ledger.scopes[SCOPE][RULE].packets == 4


def test_another_namespace_of_the_same_enis_goes_on_with_their_sums() -> None:
    ledger = Ledger()
    ledger.note(7, SCOPE, counted(3), "t1")
    ledger.keep_only(frozenset({8}))
    ledger.note(8, SCOPE, counted(3), "t2")
    assert ledger.scopes[SCOPE][RULE].packets == 6
    assert ledger.bases.keys() == {8}


def test_what_was_counted_before_enis_joined_belongs_to_those_that_were_there() -> None:
    ledger = Ledger()
    ledger.note(7, SCOPE, counted(3), "t1")
    ledger.note(7, "eni-a\neni-b", counted(5), "t2")
    ledger.note(7, "eni-a\neni-b", counted(6), "t3")
    assert (ledger.scopes[SCOPE][RULE].packets, ledger.scopes["eni-a\neni-b"][RULE].packets) == (5, 1)


def test_it_is_bounded_and_what_is_of_least_use_goes_first() -> None:
    ledger = Ledger()
    ended = {f"ended-{n}": Counted(n + 1, 0, f"1.{n}") for n in range(3)}
    for number, (name, value) in enumerate(ended.items()):
        ledger.note(1, "old", {name: value}, f"t{number}")
    ledger.keep_only(frozenset())
    ledger.note(2, "new", {"hit": Counted(1, 0, "1.1"), "never": Counted(0, 0, "1.2")}, "t9")
    assert (ledger.trim(5), ledger.trim(4)) == (0, 1)
    assert {name for sums in ledger.scopes.values() for name in sums} == {"ended-1", "ended-2", "hit", "never"}
    assert ledger.trim(1) == 3
    assert ledger.scopes == {"new": {"hit": Sum(1, 0, "t9", "t9", "t9")}}

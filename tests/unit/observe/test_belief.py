"""How many packets were denied and not logged, and how many logged ones to believe: counters against reports."""

from __future__ import annotations

from collections.abc import Mapping

from sgdataplane.nft.counters import Counted
from sgdataplane.observe.belief import Account

DEFAULT, RULE = "default.ingress.drop", "rule.sg-a.no"


def counted(packets: Mapping[str, int], made: str = "1") -> dict[str, Counted]:
    return {name: Counted(number, 0, f"{made}.{name}") for name, number in packets.items()}


def test_what_was_not_logged_is_told_as_a_number() -> None:
    account = Account({DEFAULT, RULE})
    account.begin(counted({DEFAULT: 5, RULE: 1, "rule.sg-a.yes": 9}))
    account.note(DEFAULT, 3, 3)
    now = counted({DEFAULT: 15, RULE: 2, "rule.sg-a.yes": 99})
    assert account.list_missing(now, late={RULE}) == [(DEFAULT, 7)]
    assert account.list_missing(now) == [(RULE, 1)]
    assert account.list_missing(now) == []


def test_counters_that_begin_anew() -> None:
    account = Account({DEFAULT})
    account.begin(counted({DEFAULT: 100}))
    assert account.list_missing(counted({DEFAULT: 2})) == [(DEFAULT, 2)]
    assert account.list_missing(counted({})) == []
    assert account.list_missing(counted({DEFAULT: 3})) == [(DEFAULT, 3)]


def test_as_many_may_be_believed_as_were_counted() -> None:
    account = Account({DEFAULT})
    account.begin(counted({DEFAULT: 5}))
    now = counted({DEFAULT: 8})[DEFAULT]
    assert account.spare(DEFAULT, now) == 3
    account.note(DEFAULT, 2, 3)
    assert account.spare(DEFAULT, now) == 0  # nobody may be believed in place of the third
    assert account.list_missing({DEFAULT: now}) == [(DEFAULT, 1)]
    assert account.spare(RULE, None) is None


def test_what_a_rule_has_accepted_is_not_what_it_denies() -> None:
    account = Account({DEFAULT})
    account.begin(counted({RULE: 5}))
    assert account.list_missing(counted({RULE: 1000})) == []
    assert account.spare(RULE, counted({RULE: 1002})[RULE]) == 2
    account.note(RULE, 2, 2)
    assert account.list_missing(counted({RULE: 1003})) == [(RULE, 1)]


def test_nobody_can_tell_what_an_earlier_counter_of_that_name_has_counted() -> None:
    account = Account({DEFAULT})
    account.begin(counted({DEFAULT: 1}))
    anew = counted({DEFAULT: 4}, made="2")
    assert account.spare(DEFAULT, anew[DEFAULT]) is None
    assert account.spare(DEFAULT, anew[DEFAULT]) == 4
    assert account.list_missing(anew) == [(DEFAULT, 4)]

"""How many packets were denied and not logged, and how many may be believed: counters against what was told."""

from __future__ import annotations

from collections.abc import Mapping

from sgdataplane.nft.counters import Counted
from sgdataplane.observe.belief import Tally

DEFAULT, RULE = "default.ingress.drop", "rule.sg-a.no"


def counted(packets: Mapping[str, int], made: str = "1") -> dict[str, Counted]:
    return {name: Counted(number, 0, f"{made}.{name}") for name, number in packets.items()}


def test_what_was_not_logged_is_told_as_a_number() -> None:
    tally = Tally({DEFAULT, RULE})
    tally.begin(counted({DEFAULT: 5, RULE: 1, "rule.sg-a.yes": 9}))
    tally.note(DEFAULT, 3, 3)
    now = counted({DEFAULT: 15, RULE: 2, "rule.sg-a.yes": 99})
    assert tally.missing(now, late={RULE}) == [(DEFAULT, 7)]
    assert tally.missing(now) == [(RULE, 1)]
    assert tally.missing(now) == []


def test_counters_that_begin_anew() -> None:
    tally = Tally({DEFAULT})
    tally.begin(counted({DEFAULT: 100}))
    assert tally.missing(counted({DEFAULT: 2})) == [(DEFAULT, 2)]
    assert tally.missing(counted({})) == []
    assert tally.missing(counted({DEFAULT: 3})) == [(DEFAULT, 3)]


def test_as_many_may_be_believed_as_were_counted() -> None:
    tally = Tally({DEFAULT})
    tally.begin(counted({DEFAULT: 5}))
    now = counted({DEFAULT: 8})[DEFAULT]
    assert tally.spare(DEFAULT, now) == 3
    tally.note(DEFAULT, 2, 3)
    assert tally.spare(DEFAULT, now) == 0  # nobody may be believed in place of the third
    assert tally.missing({DEFAULT: now}) == [(DEFAULT, 1)]
    assert tally.spare(RULE, None) is None


def test_what_a_rule_has_accepted_is_not_what_it_denies() -> None:
    tally = Tally({DEFAULT})
    tally.begin(counted({RULE: 5}))
    assert tally.missing(counted({RULE: 1000})) == []
    assert tally.spare(RULE, counted({RULE: 1002})[RULE]) == 2
    tally.note(RULE, 2, 2)
    assert tally.missing(counted({RULE: 1003})) == [(RULE, 1)]


def test_nobody_can_tell_what_an_earlier_counter_of_that_name_has_counted() -> None:
    tally = Tally({DEFAULT})
    tally.begin(counted({DEFAULT: 1}))
    anew = counted({DEFAULT: 4}, made="2")
    assert tally.spare(DEFAULT, anew[DEFAULT]) is None
    assert tally.spare(DEFAULT, anew[DEFAULT]) == 4
    assert tally.missing(anew) == [(DEFAULT, 4)]

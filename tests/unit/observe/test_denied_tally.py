"""How many packets were denied and not logged: counters against what was told, a tick later."""

from __future__ import annotations

from sgdataplane.observe.denied import _Tally


def test_what_was_not_logged_is_told_once_it_is_sure() -> None:
    tally = _Tally({"rule.sg-a.no"})
    tally.begin({"default.ingress.drop": 5, "rule.sg-a.no": 1, "rule.sg-a.yes": 9})
    tally.logged["default.ingress.drop"] += 3
    assert tally.missing({"default.ingress.drop": 15, "rule.sg-a.no": 2, "rule.sg-a.yes": 99}, is_last=False) == []
    tally.logged["rule.sg-a.no"] += 1  # it was on its way
    now = {"default.ingress.drop": 15, "rule.sg-a.no": 2}
    assert tally.missing(now, is_last=False) == [("default.ingress.drop", 7)]
    assert tally.missing(now, is_last=False) == []
    more = {"default.ingress.drop": 16, "rule.sg-a.no": 2}
    assert tally.missing(more, is_last=True) == [("default.ingress.drop", 1)]


def test_counters_that_begin_anew() -> None:
    tally = _Tally(())
    tally.begin({"ingress.spoofed": 100})
    assert tally.missing({"ingress.spoofed": 2}, is_last=False) == []
    tally.logged["ingress.spoofed"] += 2
    assert tally.missing({"ingress.spoofed": 2}, is_last=False) == []
    assert tally.missing({"ingress.spoofed": 3}, is_last=True) == [("ingress.spoofed", 1)]

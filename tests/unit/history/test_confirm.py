"""Only what a counter has counted is recorded, and what is missing is a number."""

from __future__ import annotations

import pytest

from sgdataplane.history.confirm import Confirmation, Confirmations
from sgdataplane.nft.counters import Counted

NAME = "default.ingress.drop"


def at(packets: int, made: str = "1.5") -> Counted:
    return Counted(packets, 0, made)


@pytest.mark.parametrize(
    ("counted", "came", "coming", "said"),
    [
        (10, 0, 0, Confirmation(True, 0, 0)),
        (13, 3, 0, Confirmation(True, 0, 0)),
        (15, 3, 0, Confirmation(True, 2, 0)),
        (15, 3, 1, Confirmation(True, 1, 0)),  # it may have counted that one already
        (15, 3, 4, Confirmation(True, 0, 0)),
        (13, 4, 0, Confirmation(False, 3, 1)),  # one at least is forged, so all are only a number
    ],
)
def test_a_counter_confirms_as_many_as_it_has_counted(counted: int, came: int, coming: int, said: Confirmation) -> None:
    assert Confirmations({NAME: at(10)}).judge(NAME, at(counted), came, coming) == said


def test_what_was_settled_confirms_nothing_again() -> None:
    seen = Confirmations({NAME: at(10)})
    assert seen.judge(NAME, at(15), 3, 0).missing == 2
    assert seen.judge(NAME, at(16), 1, 0) == Confirmation(True, 0, 0)
    assert seen.judge(NAME, at(16), 1, 0) == Confirmation(False, 0, 1)


def test_a_counter_that_was_made_anew_begins_at_zero() -> None:
    seen = Confirmations({NAME: at(10)})
    assert seen.judge(NAME, at(2, "1.9"), 2, 0) == Confirmation(True, 0, 0)
    assert seen.judge(NAME, at(1, "1.9"), 1, 0) == Confirmation(True, 0, 0)  # reset


def test_a_counter_that_is_gone_confirms_nothing() -> None:
    assert Confirmations({}).judge(NAME, None, 5, 0) == Confirmation(False, 0, 0)

"""What one statement tells of a field holds for the next ones, unless it has looked at some bits only."""

from __future__ import annotations

from itertools import count

import pytest

from sgdataplane.contract.fields import Field
from sgdataplane.nft.encode import encode_rule
from sgdataplane.nft.ir import Match, Range, Statement, rule

IS_TCP, SYN = Match(Field.L4PROTO, (Range.of(6),)), Match(Field.TCP_FLAGS, (Range.of(2),))


def instructions(*statements: Statement) -> bytes:
    return encode_rule(rule(*statements), "inet", count(1)).instructions


def test_a_check_that_is_known_to_hold_is_not_repeated() -> None:
    assert instructions(SYN).startswith(instructions(IS_TCP))
    assert instructions(IS_TCP, SYN) == instructions(SYN)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(Match(Field.L4PROTO, (Range.of(6),), mask=0x0F), id="some-bits"),
        pytest.param(Match(Field.L4PROTO, (Range.of(6),), negate=True), id="any-other-protocol"),
        pytest.param(Match(Field.L4PROTO, (Range.of(17),)), id="another-protocol"),
        pytest.param(Match(Field.L4PROTO, (Range(6, 17),)), id="several"),
    ],
)
def test_what_does_not_say_the_protocol_spares_no_check(first: Match) -> None:
    assert instructions(first, SYN) == instructions(first) + instructions(SYN)

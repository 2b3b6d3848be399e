"""Rules that decide by themselves are read as ways to leaves, if all rules behind leave the same ranks alone."""

from __future__ import annotations

import pytest

from sgdataplane.contract.fields import Field
from sgdataplane.contract.priority import CODES
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.nft.ir import (
    RETURN,
    Chain,
    Count,
    Counter,
    Match,
    Range,
    Rule,
    SetPriority,
    Statement,
    Table,
    goto,
    is_value,
    rule,
)
from sgdataplane.proof.spec.outcomes import Outcome
from sgdataplane.proof.spec.readings import FieldReading
from sgdataplane.proof.walk.program import Program
from sgdataplane.proof.walk.ranks import DECISIONS
from sgdataplane.proof.walk.step import Bound

ACCEPTS = SetPriority(CODES[Direction.INGRESS, Verdict.ACCEPT])
REFUSAL, REFUSED = 30, ((Count("b"),), "ingress-refuse")
TCP = is_value(Field.CT_PROTOCOL, 6)
STRONG, WEAK = (Range(1, 9),), (Range(1, 20),)


def beaten_by(ranges: tuple[Range, ...], *, negate: bool = True) -> Match:
    return Match(Field.PACKET_PRIORITY, ranges, negate=negate)


def accepting(*conditions: Statement) -> Rule:
    return rule(*conditions, Count("a"), ACCEPTS, RETURN)


def refusing(*conditions: Statement, rank: int = REFUSAL) -> Rule:
    return rule(*conditions, SetPriority(rank), RETURN)


def program(*rules: Rule) -> Program:
    """With an end by which rules may go on."""
    chains = Chain("steps", rules), Chain("leaf", (rule(Count("a"), ACCEPTS),))
    table = Table("t", chains, (), (Counter("a"), Counter("b")))
    ranks: dict[int, Outcome | None] = {REFUSAL: REFUSED}
    found = Program(table, FieldReading({}, {(Field.CT_PROTOCOL, None): 0}), {}, codes=DECISIONS, ranks=ranks)
    found.add("steps")
    return found


def ends_of(found: Program) -> list[str]:
    return [step.verdict.chain for step in found.steps["steps"] if step.verdict is not None]


def test_steps_lead_to_leaves_that_say_what_they_do() -> None:
    found = program(accepting(TCP, beaten_by(STRONG)), refusing(beaten_by(WEAK)))
    first, second = ends_of(found)
    assert (found.outs[first], found.outs[second]) == (((Count("a"),), "ingress-accept"), REFUSED)
    assert (found.bounds[first], found.bounds[second]) == (Bound(STRONG), Bound(WEAK))
    assert {first, second} <= found.leaves
    assert found.asked == {REFUSAL: REFUSED}
    assert not any(step.problem or step.asked or step.effects for step in found.steps["steps"])


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param(refusing(beaten_by(STRONG)), id="for-fewer-ranks"),
        pytest.param(refusing(), id="for-none"),
        pytest.param(rule(goto("leaf")), id="in-another-chain"),
        pytest.param(rule(Count("b"), RETURN), id="without-a-decision"),
        pytest.param(refusing(beaten_by(WEAK), rank=31), id="by-a-rank-that-leads-nowhere"),
    ],
)
def test_step_that_leaves_ranks_to_what_does_not_is_a_problem(behind: Rule) -> None:
    """A packet with such a rank would be decided by a weaker rule."""
    assert program(accepting(TCP, beaten_by(WEAK)), behind).steps["steps"][0].problem


def test_a_wrong_step_is_a_problem_of_all_before_it() -> None:
    """All packets that come to the first one go no further in a walk, so nothing but it can tell of what is behind."""
    udp = is_value(Field.CT_PROTOCOL, 17)
    wrong = accepting(TCP, beaten_by(WEAK, negate=False))
    found = program(accepting(TCP, beaten_by(STRONG)), accepting(udp, beaten_by(STRONG)), wrong, refusing())
    assert [bool(step.problem) for step in found.steps["steps"]] == [True, True, False, False]


def test_step_may_leave_fewer_ranks_alone_than_those_behind_it() -> None:
    found = program(
        accepting(TCP), accepting(is_value(Field.CT_PROTOCOL, 17), beaten_by(STRONG)), refusing(beaten_by(WEAK))
    )
    assert not any(step.problem for step in found.steps["steps"])


def test_rule_that_only_decides_for_some_priorities_is_no_end() -> None:
    """The walk of addresses knows no priorities, so that it refuses such a rule."""
    found = program(accepting(TCP, beaten_by(STRONG, negate=False)), refusing())
    assert found.steps["steps"][0].asked
    assert len(ends_of(found)) == 2
    assert found.steps["steps"][0].verdict == RETURN

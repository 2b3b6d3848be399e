"""The proof of limits: they refuse packets that open a session, and do nothing else. It finds each kind of mistake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.contract.fields import CtState, Field
from sgdataplane.contract.tables import limit_name
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.net.values import Direction
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    MEMBER,
    InSet,
    Match,
    Rule,
    SessionsExceed,
    SetMark,
    Statement,
    Table,
    goto,
    is_value,
    jump,
    rule,
)
from sgdataplane.policy.resolve import resolve
from sgdataplane.proof.prove import Proof, prove
from sgdataplane.proof.spec.specification import Specification
from tests.support.inputs.builders import make_eni, make_group, make_state

STATE = make_state(
    [make_group("sg-a", ["ingress tcp 22/22 from 0.0.0.0/0"])],
    [make_eni(f"eni-{n}", f"10.0.0.{n}", "sg-a") for n in range(1, 5)],
)
INTERFACES = {f"eni-{n}": f"host-{n}" for n in range(1, 5)}
SIDE = Direction.EGRESS
NEW = is_value(Field.CT_STATE, CtState.NEW)


def table(limit: int) -> Table:
    policy = replace(resolve(STATE, INTERFACES, DEFAULTS), placement=Placement.HOST, uplinks=("up",))
    return compile_policy(policy, replace(DEFAULTS, sessions_per_eni=limit))


def proof(of: Table, limit: int = 1000) -> Proof:
    options = replace(DEFAULTS, sessions_per_eni=limit)
    return prove(Specification(STATE, INTERFACES, options, placement=Placement.HOST, uplinks=("up",)), of)


def with_rules(of: Table, name: str, *rules: Rule) -> Table:
    return replace(of, chains=tuple(replace(c, rules=rules) if c.name == name else c for c in of.chains))


def with_statements(change: Callable[[Statement], Statement | None]) -> Callable[[Table], Table]:
    """A table whose limit at egress has other statements, or fewer."""

    def made(of: Table) -> Table:
        rules = of.chain[limit_name(SIDE)].rules
        changed = [[change(part) for part in one.statements] for one in rules]
        return with_rules(of, limit_name(SIDE), *(rule(*(p for p in one if p is not None)) for one in changed))

    return made


def entering(*statements: Statement) -> Callable[[Table], Table]:
    """A table that leads to the limit by such a rule."""

    def made(of: Table) -> Table:
        rules = (e for e in of.chain["egress-accept.egress"].rules if jump(limit_name(SIDE)) not in e.statements)
        return with_rules(of, "egress-accept.egress", rule(*statements, jump(limit_name(SIDE))), *rules)

    return made


def elsewhere(of: Table) -> Table:
    rules = of.chain["egress"].rules
    return with_rules(of, "egress", rule(NEW, jump(limit_name(SIDE))), *rules)


def filled(of: Table) -> Table:
    full = replace(of.map["egress-full"], elements=(((0, "host-1"), MEMBER),))
    return replace(of, maps=tuple(full if entry.name == full.name else entry for entry in of.maps))


def unlimited(name: str) -> Callable[[Table], Table]:
    return lambda of: replace(of, maps=tuple(entry for entry in of.maps if entry.name != name))


def first_rule(*statements: Statement) -> Callable[[Table], Table]:
    return lambda of: with_rules(of, limit_name(SIDE), rule(*statements), *of.chain[limit_name(SIDE)].rules)


WRONG: dict[str, Callable[[Table], Table]] = {
    "it accepts": with_statements(lambda p: ACCEPT if p == goto("egress-drop.session-limit") else p),
    "it drops without a count": with_statements(lambda p: DROP if p == goto("egress-drop.session-limit") else p),
    "it counts at the other side": with_statements(
        lambda p: replace(p, interface=Field.OIFNAME) if isinstance(p, SessionsExceed | InSet) else p
    ),
    "it counts sessions of earlier epochs": with_statements(lambda p: None if isinstance(p, Match) else p),
    "it counts those of another half": with_statements(
        lambda p: replace(p, mask=0xFFFF0000) if isinstance(p, Match) else p
    ),
    "it refuses whoever isn't full": with_statements(lambda p: replace(p, negate=True) if isinstance(p, InSet) else p),
    "it refuses everybody": first_rule(goto("egress-drop.session-limit")),
    "it writes a mark": first_rule(SetMark(0, 0x21)),
    "it leads elsewhere": first_rule(jump("egress-pass")),
    "established packets come there": entering(is_value(Field.CT_STATE, CtState.NEW, CtState.ESTABLISHED)),
    "all packets come there": entering(),
    "packets come there before rules": elsewhere,
    "an ENI is full from the start": filled,
    "there is no set": unlimited("egress-full"),
    "there is no count": unlimited("egress-held.1000"),
}


def test_limits_are_proven() -> None:
    assert proof(table(1000)).holds
    assert proof(table(0), 0).holds


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_each_mistake_is_found(wrong: Callable[[Table], Table]) -> None:
    assert not proof(wrong(table(1000))).holds


def test_a_mistake_is_found_after_an_earlier_proof() -> None:
    right = table(1000)
    options = replace(DEFAULTS, sessions_per_eni=1000)
    wanted = Specification(STATE, INTERFACES, options, placement=Placement.HOST, uplinks=("up",))
    before = prove(wanted, right).proven
    for wrong in WRONG.values():
        assert not prove(wanted, wrong(right), before).holds

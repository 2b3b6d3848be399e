"""Which rules that set timeouts an opening packet meets: the proof finds each way past them, and each detour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from sgdataplane.contract.fields import CtState, Field, Hook
from sgdataplane.contract.tables import DELIVERED, dispatch_name, entry_name
from sgdataplane.model.options import Placement
from sgdataplane.net.values import TCP, UDP, Direction
from sgdataplane.nft.ir import (
    ACCEPT,
    RETURN,
    Chain,
    Match,
    Range,
    Rule,
    SetTimeout,
    Table,
    Verdict,
    VerdictKind,
    goto,
    rule,
)
from sgdataplane.proof.checks.timeouts import Openings, sets_timeouts, wrong_timeouts
from sgdataplane.proof.prove import prove
from sgdataplane.proof.spec.specification import Namespace, Specification
from tests.property.test_proof_timeouts import FEW, Change, compiled, specification_of, with_rules

ENTRY = entry_name(Direction.INGRESS)


@cache
def right() -> tuple[Specification, Table]:
    wanted = specification_of(FEW, Placement.HOST)
    return wanted, compiled(wanted)


@cache
def is_right_proven() -> bool:
    return prove(*right()).holds


def eni_chain(hook: Direction) -> str:
    verdict = right()[1].elements_of(dispatch_name(hook))["eth2"]
    assert isinstance(verdict, Verdict)
    return verdict.chain


RECEIVER, SENDER = eni_chain(Direction.INGRESS), eni_chain(Direction.EGRESS)
A_ROOT = next(name for name in right()[1].chain if name.startswith("profile-"))
SET = rule(SetTimeout(next(entry.name for entry in right()[1].timeouts if entry.name.startswith("udp-ip-"))))


def is_it(asked: Field, value: int | str) -> Match:
    return Match(asked, (Range.of(value),))


def last(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Timeouts are set where no packet comes any more."""
    return (*(entry for entry in rules if not sets_timeouts(entry)), *filter(sets_timeouts, rules))


def behind(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return last((*rules, rule(RETURN)))


def twice(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return tuple(entry for one in rules for entry in ((one, one) if sets_timeouts(one) else (one,)))


def before(*statements: Match | Verdict) -> Change:
    return lambda rules: (rule(*statements), *rules)


def narrowed(match: Match) -> Change:
    """Timeouts are set only where this holds, too."""
    return lambda rules: tuple(replace(e, statements=(match, *e.statements)) if sets_timeouts(e) else e for e in rules)


def going(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """To where timeouts are set, and not back."""
    return tuple(
        Rule(tuple(goto(s.chain) if isinstance(s, Verdict) else s for s in e.statements)) if sets_timeouts(e) else e
        for e in rules
    )


def test_all_ways_to_an_interface_pass_the_same_rules() -> None:
    openings = Openings(right()[1])
    for ifname, count in {"eth1": 2, "eth2": 2, "up": 1, "lo": 1}.items():
        passed = openings.collect_rules("ingress", Field.OIFNAME, ifname)
        assert passed is not None
        assert len(passed) == count
    assert openings.collect_rules("ingress", Field.OIFNAME, "unknown") is None
    assert {openings.collect_rules("egress", Field.IIFNAME, ifname) for ifname in ("eth1", "eth2", "up", "lo")} == {()}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param(RECEIVER, behind, id="behind-the-way-to-the-rules"),
        pytest.param(RECEIVER, twice, id="twice"),
        pytest.param(RECEIVER, going, id="not-back"),
        pytest.param(RECEIVER, before(goto(A_ROOT)), id="past-them"),
        pytest.param(RECEIVER, before(is_it(Field.TH_DPORT, 53), goto(A_ROOT)), id="some-past-them"),
        pytest.param(RECEIVER, narrowed(is_it(Field.TH_DPORT, 53)), id="some-only"),
        pytest.param(RECEIVER, narrowed(is_it(Field.CT_STATE, CtState.NEW)), id="no-helpers-sessions"),
        pytest.param(SENDER, lambda rules: (SET, *rules), id="where-packets-come-in"),
        pytest.param(ENTRY, last, id="behind-uplinks"),
        pytest.param(ENTRY, twice, id="twice-to-uplinks"),
        pytest.param(ENTRY, before(is_it(Field.OIFNAME, "up"), ACCEPT), id="uplinks-before"),
        pytest.param("ingress", before(is_it(Field.OIFNAME, "up"), ACCEPT), id="uplinks-at-once"),
        pytest.param("ingress", before(is_it(Field.OIFNAME, "eth2"), goto(A_ROOT)), id="an-eni-at-once"),
        pytest.param(A_ROOT, lambda rules: (SET, *rules), id="behind-the-beginning-of-rules"),
        pytest.param(DELIVERED, lambda rules: rules[1:], id="not-in-the-router"),
        pytest.param(DELIVERED, lambda rules: rules[:-1], id="what-the-router-gets-is-dropped"),
        pytest.param(DELIVERED, lambda rules: rules[::-1], id="accepted-before"),
        pytest.param(DELIVERED, before(is_it(Field.L4PROTO, TCP), ACCEPT), id="some-accepted-before"),
        pytest.param(DELIVERED, before(is_it(Field.L4PROTO, UDP), Verdict(VerdictKind.DROP)), id="some-dropped"),
    ],
)
def test_the_proof_refuses_other_ways(name: str, change: Callable[[tuple[Rule, ...]], tuple[Rule, ...]]) -> None:
    wanted, table = right()
    wrong = with_rules(table, name, change)
    assert is_right_proven()
    assert wrong_timeouts(Namespace.of(wanted, wrong), wrong)


@pytest.mark.parametrize("where", Placement)
def test_another_base_chain_than_the_routers_is_refused(where: Placement) -> None:
    wanted = specification_of(FEW, where)
    table = compiled(wanted)
    assert (DELIVERED in table.chain) == (where is Placement.HOST)
    hook = Hook("input", 150) if where is Placement.INSTANCE else Hook("forward", 150)
    chains = (*(chain for chain in table.chains if chain.name != DELIVERED), Chain(DELIVERED, (rule(ACCEPT),), hook))
    assert "base chains stand at" in prove(wanted, replace(table, chains=chains)).problem

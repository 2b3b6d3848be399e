"""The proof refuses each table that lets an ICMP error pass whose sender can't have seen the packet that it quotes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.contract.fields import CtDirection, CtState, Field
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.nft.ir import Chain, Match, Range, Rule, Table
from sgdataplane.nft.text import rule_text
from sgdataplane.policy.resolve import resolve
from sgdataplane.proof.prove import prove
from sgdataplane.proof.spec.specification import Specification
from tests.support.inputs.builders import make_eni, make_group, make_state

ADDRESSES = {  # of the ENI in question
    "one": "10.0.0.1 2001:db8::1",
    "many": "10.0.0.1 10.0.0.3 10.0.0.5 2001:db8::1 2001:db8::3 2001:db8::5",
    "ipv4": "10.0.0.1",
}
Change = Callable[[Rule], Rule | None]


@cache
def case(placement: Placement, addresses: str) -> tuple[Specification, Table]:
    enis = [make_eni("eni-a", ADDRESSES[addresses], "sg-0"), make_eni("eni-b", "10.0.0.2 2001:db8::2", "sg-0")]
    state = make_state([make_group("sg-0", ["ingress tcp 22/22 from 0.0.0.0/0"])], enis)
    interfaces, uplinks = {"eni-a": "eth0", "eni-b": "eth1"}, ("up0",) if placement.is_outside else ()
    wanted = Specification(state, interfaces, DEFAULTS, (), placement, uplinks)
    policy = replace(resolve(state, interfaces, DEFAULTS), placement=placement, uplinks=uplinks)
    return wanted, compile_policy(policy, DEFAULTS)


def changed(table: Table, name: str, number: int, change: Change) -> Table:
    """With one rule of the chain whose name begins so changed, or left out."""
    (chain,) = (chain for chain in table.chains if chain.name.startswith(name))
    after = change(chain.rules[number])
    rules = (*chain.rules[:number], *([] if after is None else [after]), *chain.rules[number + 1 :])
    mutant = Chain(chain.name, rules, chain.hook)
    return replace(table, chains=tuple(mutant if other is chain else other for other in table.chains))


def left_out(_: Rule) -> None:
    """No rule."""


def other_way(one: Rule) -> Rule:
    """Of the session's packets in the other direction."""
    ways = {Match(Field.CT_DIRECTION, (Range.of(way),)): CtDirection(1 - way) for way in CtDirection}
    assert any(part in ways for part in one.statements if isinstance(part, Match))
    return replace(
        one,
        statements=tuple(
            Match(Field.CT_DIRECTION, (Range.of(ways[part]),)) if isinstance(part, Match) and part in ways else part
            for part in one.statements
        ),
    )


def mutants(placement: Placement, addresses: str) -> list[tuple[str, int, Change]]:
    """Each rule of the chains that the condition is made of."""
    table = case(placement, addresses)[1]

    def rules(name: str) -> list[tuple[int, str]]:
        (chain,) = (chain for chain in table.chains if chain.name.startswith(name))
        return [(number, rule_text(one)) for number, one in enumerate(chain.rules)]

    ends = "ends-egress.eth0"
    found: list[tuple[str, int, Change]] = [(ends, n, left_out) for n, text in rules(ends) if "ct direction" in text]
    found += [(ends, n, other_way) for n, text in rules(ends) if "ct direction" in text]
    found += [(ends, n, left_out) for n, text in rules(ends) if "goto" in text]
    entry = "eni-egress.eth0"
    found += [(entry, n, left_out) for n, text in rules(entry) if f"jump {ends}" in text]
    if placement.is_outside:
        found += [("uplink-ends", n, left_out) for n, text in rules("uplink-ends") if "ct direction" in text]
        found += [("uplink-ends", n, other_way) for n, text in rules("uplink-ends") if "ct direction" in text]
        found += [("uplink-sources", n, left_out) for n, text in rules("uplink-sources") if "ct state" in text]
    return found


PLACES = [(placement, addresses) for placement in Placement for addresses in ADDRESSES]
# A host has all that an instance has, and uplinks.
MUTATED = [(Placement.HOST, "one"), pytest.param(Placement.INSTANCE, "one", marks=pytest.mark.slow)]


@pytest.mark.parametrize(("where", "addresses"), PLACES)
def test_the_condition_is_proven(where: Placement, addresses: str) -> None:
    assert prove(*case(where, addresses)).holds


@pytest.mark.parametrize(("where", "addresses"), MUTATED)
def test_without_any_part_of_the_condition_the_table_is_refused(where: Placement, addresses: str) -> None:
    wanted, table = case(where, addresses)
    tried = mutants(where, addresses)
    assert len(tried) >= 11
    for name, number, change in tried:
        found = prove(wanted, changed(table, name, number, change)).counterexample
        assert found is not None, (name, number, change)
        assert found.fields[Field.CT_STATE] == CtState.RELATED, found

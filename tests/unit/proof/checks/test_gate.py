"""Interfaces are walked once where names and slots make no difference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import cast

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.contract.fields import Field
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.model.state import Eni
from sgdataplane.nft.ir import ACCEPT, Chain, Match, Range, Rule, SetPriority, Table
from sgdataplane.policy.resolve import resolve
from sgdataplane.proof.checks.gate import Beginning, ProvenEnd
from sgdataplane.proof.prove import Proof, ProvenTable, prove
from sgdataplane.proof.spec.specification import Specification
from sgdataplane.proof.walk.program import Program
from tests.support.inputs.builders import make_eni, make_group, make_state

GROUPS = [
    make_group("sg-0", ["ingress tcp 443/443 from sg-1", "ingress tcp 1/1000 from 203.0.113.0/28 drop"]),
    make_group("sg-1", ["egress all to 192.0.2.0/24 drop"]),
]
ENIS = [make_eni(f"eni-{number}", f"10.0.0.{number + 1} 2001:db8::{number + 1}", "sg-0") for number in range(6)]
MEMBER = make_eni("eni-m", "10.0.9.1", "sg-1")


def host(enis: list[Eni], others: list[Eni]) -> tuple[Specification, Table]:
    """A router's table, with interfaces of the first ENIs."""
    state = make_state(GROUPS, [*enis, *others])
    interfaces = {eni.network_interface_id: f"veth-{eni.network_interface_id[4:]}" for eni in enis}
    wanted = Specification(state, interfaces, DEFAULTS, placement=Placement.HOST)
    return wanted, compile_policy(replace(resolve(state, interfaces, DEFAULTS), placement=Placement.HOST), DEFAULTS)


def test_interfaces_that_are_alike_are_walked_once() -> None:
    few, many = (prove(*host(ENIS[:number], [MEMBER])) for number in (4, 6))
    assert proven_by(few).gates.keys() < proven_by(many).gates.keys()
    assert few.cells == many.cells


def test_gate_that_is_wrong_is_refused_though_another_one_is_alike() -> None:
    """The chain of one interface where that of another one should be, and its slot where the other one's should be."""
    wanted, table = host(ENIS, [MEMBER])
    before = proven_by(prove(wanted, table))
    ingress = next(entry for entry in table.maps if entry.name == "ingress-enis")
    (_, first), (name, _), *rest = ingress.elements
    swapped = replace(ingress, elements=(ingress.elements[0], (name, first), *rest))
    wrong = replace(table, maps=tuple(swapped if entry is ingress else entry for entry in table.maps))
    for start in (None, before):
        found = prove(wanted, wrong, start).counterexample
        assert found is not None
        assert f"at {name}" in str(found)


@cache
def known_of_two() -> ProvenTable:
    return proven_by(prove(*host(ENIS[:2], [MEMBER])))


@pytest.mark.parametrize("prefix", ["ingress", "egress", "egress-link-"])
def test_packets_that_pass_unjudged_keep_their_priority(prefix: str) -> None:
    """Those of accepted sessions, and discovery: to write 0 where they are accepted is refused."""
    wanted, table = host(ENIS[:2], [MEMBER])
    before = known_of_two()
    chain = next(c for c in table.chains if c.name.startswith(prefix) and any(map(accepts, c.rules)))
    rules = tuple(losing_priority(each) if accepts(each) else each for each in chain.rules)
    for start in (None, before):
        proof = prove(wanted, with_chain(table, replace(chain, rules=rules)), start)
        assert not proof.holds
        assert "packets that pass lose their priority" in str(proof)


def accepts(found: Rule) -> bool:
    return found.statements[-1] == ACCEPT


def losing_priority(found: Rule) -> Rule:
    return replace(found, statements=(*found.statements[:-1], SetPriority(0), ACCEPT))


def with_chain(table: Table, chain: Chain) -> Table:
    """With one more, or another one of that name."""
    return replace(table, chains=tuple(sorted((table.chain | {chain.name: chain}).values(), key=lambda c: c.name)))


def proven_by(proof: Proof) -> ProvenTable:
    assert proof.holds, str(proof)
    assert proof.proven is not None
    return proof.proven


@dataclass(frozen=True)
class ReadChain:
    """What a walk has read of a chain that carries verdicts out."""

    names: frozenset[Match] = frozenset()
    keys: frozenset[tuple[str, str]] = frozenset()
    maps: frozenset[str] = frozenset()


BEGINNING = Beginning("accept", (), code=1)
NAMES_ETH0 = Match(Field.IIFNAME, (Range("eth0", "eth0"),))


@pytest.mark.parametrize(
    ("read", "beginning", "ifname", "expected"),
    [
        pytest.param(ReadChain(), BEGINNING, "eth1", True, id="asks-nothing"),
        pytest.param(ReadChain(frozenset([NAMES_ETH0])), BEGINNING, "eth2", True, id="name-that-neither-has"),
        pytest.param(ReadChain(frozenset([NAMES_ETH0])), BEGINNING, "eth0", False, id="name-of-one"),
        pytest.param(ReadChain(keys=frozenset([("slots", "eth1")])), BEGINNING, "eth1", False, id="a-key-of-a-map"),
        pytest.param(ReadChain(maps=frozenset(["slots"])), BEGINNING, "eth1", False, id="a-whole-map"),
        pytest.param(ReadChain(), replace(BEGINNING, code=2), "eth1", False, id="packets-with-another-priority"),
        pytest.param(ReadChain(), replace(BEGINNING, chain="drop"), "eth1", False, id="another-chain"),
    ],
)
def test_a_chain_s_end_is_proven_for_another_interface_if_nothing_asks_which_one_it_is(
    read: ReadChain, beginning: Beginning, ifname: str, expected: bool
) -> None:
    known = ProvenEnd(BEGINNING, "eth1", cast(Program, read))
    assert known.is_for(beginning, ifname) is expected

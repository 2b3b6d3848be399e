"""Inner accept has a map of its own: what the proof refuses there, beside the same table as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.contract.fields import Field
from sgdataplane.contract.priority import DECIDED, RANKS
from sgdataplane.contract.tables import WINNERS
from sgdataplane.model.options import DEFAULTS
from sgdataplane.nft.ir import Map, MapPriority, Match, Range, Rule, Table, VerdictMap
from sgdataplane.policy.resolve import resolve
from sgdataplane.proof.prove import prove
from sgdataplane.proof.spec.specification import Specification
from tests.support.inputs.builders import make_eni, make_group, make_state

STATE = make_state(
    [make_group("sg-0", ["ingress tcp 22/22 from sg-1 drop", "ingress all from 192.0.2.0/24"]), make_group("sg-1", [])],
    [
        make_eni("eni-a", "10.0.0.1", "sg-0", instance_id="i-a"),
        make_eni("eni-b", "10.0.0.2", "sg-0"),
        make_eni("eni-c", "10.0.0.3", "sg-1"),
    ],
)
INTERFACES = {"eni-a": "eth0"}
Rules = tuple[Rule, ...]
TABLE = compile_policy(resolve(STATE, INTERFACES, DEFAULTS), DEFAULTS)


def with_rules(name: str, change: Callable[[Rules], Rules]) -> Table:
    chains = (replace(c, rules=change(c.rules)) if c.name.startswith(name) else c for c in TABLE.chains)
    return replace(TABLE, chains=tuple(chains))


def asking_for_ranks(*ranges: Range) -> Table:
    """Base chains ask these priorities for their leaf."""

    def changed(rules: Rules) -> Rules:
        leads = VerdictMap(Field.PACKET_PRIORITY, name=WINNERS)
        asked = (Match(Field.PACKET_PRIORITY, ranges),) if ranges else ()
        return tuple(Rule((*asked, leads)) if rule.statements[-1] == leads else rule for rule in rules)

    return with_rules("ingress", changed)


def giving_way_to(last: int) -> Table:
    """The chain for addresses returns priorities up to this one."""
    gives_way = Match(Field.PACKET_PRIORITY, (Range(1, last),))
    return with_rules("address-ingress.", lambda rules: (Rule((gives_way, *rules[0].statements[1:])), *rules[1:]))


def inner_map() -> Map:
    (entry,) = asked_in("profile-ingress")
    return entry


def asked_in(name: str) -> list[Map]:
    """The maps from group sets to ranks that chains of such names ask."""
    statements = (s for c in TABLE.chains if c.name.startswith(name) for rule in c.rules for s in rule.statements)
    asked = (s.name for s in statements if isinstance(s, MapPriority) and s.field is Field.PACKET_PRIORITY)
    return [TABLE.map[name] for name in asked]


def without_inner() -> Table:
    return replace(TABLE, maps=tuple(replace(m, elements=()) if m is inner_map() else m for m in TABLE.maps))


def told(table: Table) -> str:
    return str(prove(Specification(STATE, INTERFACES, DEFAULTS), table))


def test_members_that_a_port_ranks_are_in_no_other_map() -> None:
    (group_set,) = (key for key, _ in inner_map().elements)
    of_ports = [key for entry in asked_in("rank-") for key, _ in entry.elements]
    assert of_ports
    assert group_set not in of_ports


def test_as_it_is_it_is_proven_so_each_of_the_others_is_wrong() -> None:
    assert told(TABLE).startswith("proven")
    assert told(asking_for_ranks(Range(RANKS[0], RANKS[-1]))).startswith("proven")


@pytest.mark.parametrize("ranges", [(), (Range(1, 5),), (Range(1, DECIDED),)], ids=["no-test", "too-few", "too-many"])
def test_base_chain_must_ask_just_the_ranks_for_their_leaf(ranges: tuple[Range, ...]) -> None:
    assert "packets that return from rules aren't asked for their rank" in told(asking_for_ranks(*ranges))


def test_chain_for_addresses_must_not_return_what_a_leaf_behind_it_keeps() -> None:
    assert "that chain step: " in told(giving_way_to(DECIDED - 1))


def test_inner_accept_must_be_in_its_map() -> None:
    assert "expected: accept: the inner policy of sg-0" in told(without_inner())

"""Near misses, over generated states: exactly the rules that match once that one field of the packet is another, and
`would_decide` says whether the rule would decide if it didn't ask for the field."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.analyse.explain import NearMiss, explain
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import decide, rule_candidates, rule_matches
from sgdataplane.model.state import CloudState, GroupRef, PrefixListRef, SecurityGroup, SecurityGroupRule
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import ALL, Address, PortRange, Prefix
from sgdataplane.policy.dimensions import DIMENSIONS
from tests.support.inputs import gen
from tests.support.run.amounts import few_or_many

PROTOCOL, PORT, SOURCE_PORT, REMOTE, LOCAL = ("protocol", "port", "source_port", "remote", "local")
STATES, FEW, PACKETS = 60, 20, 60


def turned(state: CloudState, rule: SecurityGroupRule, packet: Packet) -> Iterator[tuple[str, Packet]]:
    """The packet with one field as the rule wants it, for each field and for each entry of lists."""
    yield PROTOCOL, replace(packet, protocol=rule.ip_protocol.number)
    ranges = [rule.port_range] if rule.port_range else []
    if rule.port_list_id:
        ranges = [entry.port_range for entry in state.port_list[rule.port_list_id].entries]
    for entry in ranges:
        if packet.port is not None:
            yield PORT, replace(packet, port=entry.last)
    if rule.source_port_range and packet.source_port is not None:
        yield SOURCE_PORT, replace(packet, source_port=rule.source_port_range.first)
    for prefix in remotes(state, rule):
        yield REMOTE, replace(packet, remote=Address(prefix.family_bits, prefix.last))
    if rule.narrowing:
        yield LOCAL, replace(packet, local=Address(rule.narrowing.family_bits, rule.narrowing.first))


def remotes(state: CloudState, rule: SecurityGroupRule) -> list[Prefix]:
    match rule.remote:
        case PrefixListRef(prefix_list_id):
            return [entry.cidr for entry in state.prefix_list[prefix_list_id].entries]
        case GroupRef(group_id):
            return [prefix for eni in state.enis_of_group.get(group_id, ()) for prefix in eni.private_prefixes]
        case prefix:
            return [prefix]


def fixes(state: CloudState, group: SecurityGroup, rule: SecurityGroupRule, packet: Packet) -> set[str]:
    """The fields each of which, if it alone were different, would make the rule match. (A packet keeps its family.)"""
    return {
        field
        for field, other in turned(state, rule, packet)
        if other.remote.family is other.local.family and rule_matches(state, group, rule, other)
    }


def loosened(state: CloudState, rule: SecurityGroupRule, miss: NearMiss, packet: Packet) -> CloudState:
    """The state with the rule changed to want that field as the packet has it."""
    port = None if not packet.port else PortRange(packet.port, packet.port)
    changes: dict[str, dict[str, object]] = {
        PROTOCOL: {"ip_protocol": ALL},
        PORT: {"port_range": port, "port_list_id": ""},
        SOURCE_PORT: {"source_port_range": None},
        REMOTE: {"remote": Prefix.of(packet.remote)},
        LOCAL: {"narrowing": None},
    }
    other = replace(rule, **changes[miss.field])  # type: ignore[arg-type]
    groups = [
        replace(group, rules=tuple(other if entry is rule else entry for entry in group.rules))
        for group in state.security_groups
    ]
    return replace(state, security_groups=tuple(groups))


def check(state: CloudState, packet: Packet, options: Options) -> Iterator[str]:
    """The fields that near misses name."""
    found = explain(state, packet, options)
    misses = {(m.decision.security_group_id, m.decision.security_group_rule_id): m for m in found.near_misses}
    candidates = rule_candidates(state, state.eni[packet.eni_id], packet.direction)
    ordered = [(entry.group, entry.rule) for entry in candidates if entry.group and entry.rule]
    assert list(misses) == [
        key for g, r in ordered if (key := (g.security_group_id, r.security_group_rule_id)) in misses
    ], "in the order that decides"
    for group, rule in ordered:
        miss = misses.get((group.security_group_id, rule.security_group_rule_id))
        if rule_matches(state, group, rule, packet):
            assert miss is None, "it does match"
            continue
        possible = fixes(state, group, rule, packet)
        if miss is None:
            assert not possible, (packet, rule, possible)
            continue
        assert possible <= {miss.field}, (packet, rule, miss)
        assert possible or is_nobody(state, rule, miss.field), (packet, rule, miss)
        decision = decide(loosened(state, rule, miss, packet), packet, options).enforced
        is_settled = (decision == miss.decision) == miss.would_decide
        assert is_settled or is_tie(rule, miss, decision), (packet, rule, miss, decision)
        yield miss.field


def is_tie(rule: SecurityGroupRule, miss: NearMiss, decision: Decision) -> bool:
    """Whether a rule on a group gives way to one that is as strong only because `loosened` took its group away: of two
    such rules, the one on a group is named first."""
    as_strong = (decision.cause, decision.verdict, decision.priority)
    is_on_group = miss.field == REMOTE and isinstance(rule.remote, GroupRef)
    return is_on_group and as_strong == (miss.decision.cause, miss.decision.verdict, miss.decision.priority)


def is_nobody(state: CloudState, rule: SecurityGroupRule, field: str) -> bool:
    """Whether the rule wants what no packet can have: an entry of an empty list, or a member of an empty group."""
    if field == PORT:
        return rule.port_list_id != "" and not state.port_list[rule.port_list_id].entries
    return field == REMOTE and isinstance(rule.remote, (GroupRef, PrefixListRef))


@few_or_many("states", FEW, STATES)
def test_a_near_miss_matches_once_its_field_is_another(states: int) -> None:
    seen: Counter[str] = Counter()

    @seed(701)
    @settings(max_examples=states, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.options(), st.integers(0, 1 << 32))
    def holds(state: CloudState, options: Options, packet_seed: int) -> None:
        for packet in gen.packets(state, random.Random(packet_seed), PACKETS):
            if not decide(state, packet, options).is_fixed and packet.local.family is packet.remote.family:
                seen.update(check(state, packet, options))

    holds()
    assert seen.keys() == {each.name for each in DIMENSIONS}, seen

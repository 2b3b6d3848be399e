"""Rules that would match a packet but for one thing: its port, its remote, and so on.

Owns what the things are and how each reads. Is given a state and a packet. Must not know how rules are printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import (
    destination_port_matches,
    ordered_candidates,
    remote_matches,
    source_port_matches,
)
from sgdataplane.model.state import CloudState, GroupRef, PrefixListRef, SecurityGroup, SecurityGroupRule
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Family, PortRange, Prefix, Protocol

PROTOCOL, PORT, SOURCE_PORT, REMOTE, LOCAL = FIELDS = ("protocol", "port", "source_port", "remote", "local")


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A rule that every field of the packet fits but this one. `asked`: what the rule wants there, `found`: what the
    packet has. `would_decide`: if it matched, it would outrank what decides the packet now."""

    decision: Decision
    field: str
    asked: str
    found: str
    would_decide: bool


def near_misses(state: CloudState, packet: Packet, decision: Decision, options: Options) -> Iterator[NearMiss]:
    """The strongest first. `decision`: what decides the packet, which must be a rule, inner accept or the default."""
    is_stronger = True
    for candidate in ordered_candidates(state, state.eni[packet.eni_id], packet.direction, options):
        is_stronger = is_stronger and candidate.decision != decision
        if candidate.group is None or candidate.rule is None:
            continue
        missed = tuple(islice(missed_fields(state, candidate.group, candidate.rule, packet), 2))
        if len(missed) == 1 and can_speak_of(state, candidate.rule, packet.family):
            wanted, found = asked(state, candidate.rule, missed[0]), _found(packet, missed[0])
            yield NearMiss(candidate.decision, missed[0], wanted, found, is_stronger)


def missed_fields(state: CloudState, group: SecurityGroup, rule: SecurityGroupRule, packet: Packet) -> Iterator[str]:
    """The fields of the packet that the rule doesn't want so; none if it matches. What is dear to ask comes last."""
    if not rule.ip_protocol.matches(packet.protocol, packet.family):
        yield PROTOCOL
    if not destination_port_matches(state, rule, packet):
        yield PORT
    if not source_port_matches(rule, packet):
        yield SOURCE_PORT
    if rule.narrowing is not None and packet.local not in rule.narrowing:
        yield LOCAL
    if not remote_matches(state, group, rule, packet.remote):
        yield REMOTE


def can_speak_of(state: CloudState, rule: SecurityGroupRule, family: Family) -> bool:
    """Whether the rule could match any packet of the family. (If not, more than one field would have to be another.)"""
    families = [entry.family for entry in (rule.remote, rule.narrowing) if isinstance(entry, Prefix)]
    if isinstance(rule.remote, PrefixListRef):
        families.append(state.prefix_list[rule.remote.prefix_list_id].address_family)
    return rule.ip_protocol.exists_in(family) and all(entry is family for entry in families)


def asked(state: CloudState, rule: SecurityGroupRule, field: str) -> str:
    """What the rule wants a field to be."""
    if field == PROTOCOL:
        return str(rule.ip_protocol)
    if field == PORT and rule.port_list_id:
        return f"{rule.port_list_id} ({_count(len(state.port_list[rule.port_list_id].entries), 'entry', 'entries')})"
    if field in (PORT, SOURCE_PORT):
        return _ports(rule.port_range if field == PORT else rule.source_port_range)
    return str(rule.narrowing) if field == LOCAL else _remote(state, rule)


def _ports(ports: PortRange | None) -> str:
    if ports is None:
        return "any"
    return str(ports.first) if ports.first == ports.last else f"{ports.first}-{ports.last}"


def _remote(state: CloudState, rule: SecurityGroupRule) -> str:
    """A prefix list or group is named with how much it holds: what holds nothing matches nothing."""
    match rule.remote:
        case GroupRef(group_id):
            members = [eni for eni in state.enis_of_group.get(group_id, ()) if eni.is_member]
            return f"{group_id} ({_count(len(members), 'ENI')})"
        case PrefixListRef(prefix_list_id):
            return f"{prefix_list_id} ({_count(len(state.prefix_list[prefix_list_id].entries), 'entry', 'entries')})"
        case prefix:
            return str(prefix)


def _count(number: int, one: str, more: str = "") -> str:
    return f"{number} {one if number == 1 else more or one + 's'}"


def _found(packet: Packet, field: str) -> str:
    value = Protocol(packet.protocol) if field == PROTOCOL else getattr(packet, field)
    return "none" if value is None else str(value)

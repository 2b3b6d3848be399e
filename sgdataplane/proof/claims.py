"""What the specification says of one ENI and direction, in one family: the candidates of `decide()` as sets of packets.

Owns the way from a candidate to where it holds. Is given the state. Must not know the table, nor how it was compiled,
but for the name of each rule's counter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sgdataplane.compiler.lower import counter_name
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import Candidate, ordered_candidates
from sgdataplane.model.state import (
    CloudState,
    Eni,
    GroupRef,
    PrefixListRef,
    Remote,
    SecurityGroup,
    SecurityGroupRule,
)
from sgdataplane.net import ranges
from sgdataplane.net.values import PORT_PROTOCOLS, Direction, Family, PortRange, Prefix, Verdict
from sgdataplane.nft.ir import Count, Range
from sgdataplane.proof.kinships import Kinships
from sgdataplane.proof.walk import Outcome

Ranges = tuple[Range, ...]  # disjoint and sorted


@dataclass(frozen=True, slots=True)
class Claim:
    """One candidate: what it says, and of which packets. None: any. `remote` None: any far address."""

    decision: Decision
    outcome: Outcome
    remote: Remote | None = None
    protocols: Ranges | None = None
    local: Ranges | None = None
    source_ports: Ranges | None = None
    ports: Ranges | None = None

    def ranges(self) -> tuple[Ranges | None, ...]:
        """In the order of the axes of a profile's walk."""
        return self.protocols, self.local, self.source_ports, self.ports


def end_chain(direction: Direction, verdict: Verdict) -> str:
    """Where the fixed part of a table takes what the rules of a direction have decided."""
    return f"{direction.value}-{'accept' if verdict is Verdict.ACCEPT else 'refuse'}"


def claims(state: CloudState, eni: Eni, direction: Direction, family: Family, options: Options) -> Iterator[Claim]:
    """The candidates that can hold in a family, strongest first. The last one holds for everything."""
    for candidate in ordered_candidates(state, eni, direction, options):
        claim = _claim(state, candidate, family)
        if claim is not None:
            yield claim


def _claim(state: CloudState, candidate: Candidate, family: Family) -> Claim | None:
    decision, group, rule = candidate.decision, candidate.group, candidate.rule
    outcome = expected(decision)
    if group is None:
        return Claim(decision, outcome)
    if rule is None:
        return Claim(decision, outcome, GroupRef(group.security_group_id))
    if not _is_possible(state, group, rule, family):
        return None
    ports, source_ports = _ports(state, rule), _merged([rule.source_port_range] if rule.source_port_range else None)
    if ports == () or not rule.ip_protocol.exists_in(family):
        return None
    protocols: Ranges | None = None if rule.ip_protocol.is_all else (Range.of(rule.ip_protocol.number),)
    if ports is not None or source_ports is not None:  # which other protocols don't have
        protocols = _with_ports(protocols)
    local = None if rule.narrowing is None else (Range(rule.narrowing.first, rule.narrowing.last),)
    return Claim(decision, outcome, rule.remote, protocols, local, source_ports, ports)


def expected(decision: Decision) -> Outcome:
    """What the table has to do: count by the decision's name, and go where the verdict is carried out."""
    return (Count(counter_name(decision)),), end_chain(decision.direction, decision.verdict)


def _is_possible(state: CloudState, group: SecurityGroup, rule: SecurityGroupRule, family: Family) -> bool:
    """Whether its remote and its narrowing have addresses of that family at all."""
    if rule.narrowing is not None and rule.narrowing.family is not family:
        return False
    match rule.remote:
        case Prefix():
            return rule.remote.family is family
        case GroupRef(group_id):
            other = state.group.get(group_id)
            return other is not None and other.vpc_id == group.vpc_id
        case PrefixListRef():
            return True


def _with_ports(protocols: Ranges | None) -> Ranges:
    return tuple(Range.of(p) for p in PORT_PROTOCOLS if protocols is None or Range.of(p) in protocols)


def _ports(state: CloudState, rule: SecurityGroupRule) -> Ranges | None:
    if rule.port_list_id:
        return _merged(entry.port_range for entry in state.port_list[rule.port_list_id].entries)
    return _merged(None if rule.port_range is None else [rule.port_range])


def _merged(ranges: Iterable[PortRange] | None) -> Ranges | None:
    return None if ranges is None else united((item.first, item.last) for item in ranges)


def united(intervals: Iterable[tuple[int, int]]) -> Ranges:
    """Disjoint, sorted, and none beginning where another ends."""
    return tuple(Range(first, last) for first, last in ranges.united(intervals))


def remote_ranges(state: CloudState, kinships: Kinships, remote: Remote, family: Family) -> Ranges:
    """The blocks of a remote; of a group the prefixes delegated to its members, whose addresses have kinships."""
    prefixes = _prefixes(state, kinships, remote, family)
    return united((prefix.first, prefix.last) for prefix in prefixes if prefix.family is family)


def _prefixes(state: CloudState, kinships: Kinships, remote: Remote, family: Family) -> Iterable[Prefix]:
    match remote:
        case Prefix():
            return (remote,)
        case PrefixListRef(prefix_list_id):
            return (entry.cidr for entry in state.prefix_list[prefix_list_id].entries)
        case GroupRef(group_id):
            return kinships.delegated(group_id, family)

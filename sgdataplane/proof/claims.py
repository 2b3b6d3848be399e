"""What the specification says about one ENI and direction in one family: the candidates of decide() as sets of packets.

Owns the way from a candidate to its packets, and the list of what a rule can ask for. The compiler has a list of its
own, and tests/property/test_dimensions.py compares them. Is given the state. Must not know the table or how it was
compiled, but for the name of each rule's counter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from sgdataplane.contract.counters import counter_name
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
from sgdataplane.proof.step import Outcome

Ranges = tuple[Range, ...]  # disjoint and sorted


@dataclass(frozen=True, slots=True, eq=False)
class RuleAxis:
    """Something that a rule can ask for besides the far address. `last`: its last number in a family; `of_rule`: what a
    rule asks for there. None: any value; (): no value, so that no packet matches."""

    name: str
    last: Callable[[Family], int]
    of_rule: Callable[[CloudState, SecurityGroupRule, Family], Ranges | None]


@dataclass(frozen=True, slots=True)
class Claim:
    """One candidate: its decision, and the packets that it is about. `remote`: None for any far address. `ranges`: in
    the order of AXES, None for any value. `block`: the far addresses, if the remote is a CIDR block."""

    decision: Decision
    outcome: Outcome
    remote: Remote | None
    ranges: tuple[Ranges | None, ...]
    block: Ranges | None = None


def end_chain(direction: Direction, verdict: Verdict) -> str:
    """What stands for the chains of the fixed part that carry out this verdict of a direction's rules."""
    return f"{direction.value}-{'accept' if verdict is Verdict.ACCEPT else 'refuse'}"


STOPS = {name: name for name in (end_chain(direction, verdict) for direction in Direction for verdict in Verdict)}


def claims(state: CloudState, eni: Eni, direction: Direction, family: Family, options: Options) -> list[Claim]:
    """The candidates that can hold in a family, strongest first. The last one holds for every packet."""
    return ClaimMemo().claims(state, ordered_candidates(state, eni, direction, options), family)


Said = tuple[Outcome, Claim | None]  # what a candidate asks for, and where, if that can be in a family
Known = tuple[SecurityGroupRule, Said]  # the rule is kept, so that its identity is no other one's
# By rule, group, length of addresses, and whether there can be any: a group as remote may be of another VPC.
KnownRules = Mapping[tuple[int, str, int, bool], Known]


@dataclass
class ClaimMemo:
    """Remembers claims that follow from their rule alone. `before`: those of an earlier state."""

    before: KnownRules = field(default_factory=dict)
    found: dict[tuple[int, str, int, bool], Known] = field(default_factory=dict)

    def claims(self, state: CloudState, candidates: Iterable[Candidate], family: Family) -> list[Claim]:
        """The claims of an ENI's candidates for one direction."""
        return [claim for _, claim in self.said(state, candidates, family) if claim is not None]

    def said(self, state: CloudState, candidates: Iterable[Candidate], family: Family) -> list[Said]:
        """What each candidate says about a family."""
        bits = family.bits
        return [self._said(state, candidate, family, bits) for candidate in candidates]

    def _said(self, state: CloudState, candidate: Candidate, family: Family, bits: int) -> Said:
        rule, group, decision = candidate.rule, candidate.group, candidate.decision
        if rule is None or group is None or rule.port_list_id:
            return expected(decision), _claim(state, candidate, family)
        has_remote = not isinstance(rule.remote, GroupRef) or _has_remote(state, group, rule, family)
        key = (id(rule), decision.security_group_id, bits, has_remote)
        known = self.found.get(key) or self.before.get(key)
        if known is None:
            known = rule, (expected(decision), _claim(state, candidate, family))
        self.found[key] = known
        return known[1]


def _claim(state: CloudState, candidate: Candidate, family: Family) -> Claim | None:
    decision, group, rule = candidate.decision, candidate.group, candidate.rule
    outcome = expected(decision)
    if group is None:
        return Claim(decision, outcome, None, ANYTHING)
    if rule is None:
        return Claim(decision, outcome, GroupRef(group.security_group_id), ANYTHING)
    if not _has_remote(state, group, rule, family):
        return None
    ranges, remote = tuple([axis.of_rule(state, rule, family) for axis in AXES]), rule.remote
    block = (Range(remote.first, remote.last),) if isinstance(remote, Prefix) else None
    return None if () in ranges else Claim(decision, outcome, remote, ranges, block)


@lru_cache(maxsize=1 << 16)
def expected(decision: Decision) -> Outcome:
    """What the table must do: count by the decision's name, and go to the chain that carries the verdict out."""
    return (Count(counter_name(decision)),), end_chain(decision.direction, decision.verdict)


def _has_remote(state: CloudState, group: SecurityGroup, rule: SecurityGroupRule, family: Family) -> bool:
    """Whether the rule's remote can have addresses of that family."""
    match rule.remote:
        case Prefix():
            return rule.remote.family is family
        case GroupRef(group_id):
            other = state.group.get(group_id)
            return other is not None and other.vpc_id == group.vpc_id
        case PrefixListRef():
            return True


def _protocols(_: CloudState, rule: SecurityGroupRule, family: Family) -> Ranges | None:
    """The protocols that a rule asks for: if it asks for ports, only those that have ports."""
    protocol, is_for_ports = rule.ip_protocol, rule.port_list_id or rule.port_range or rule.source_port_range
    if protocol.is_all:
        return tuple(map(Range.of, PORT_PROTOCOLS)) if is_for_ports else None
    is_possible = protocol.exists_in(family) and (protocol.number in PORT_PROTOCOLS or not is_for_ports)
    return (Range.of(protocol.number),) if is_possible else ()


def _local(_: CloudState, rule: SecurityGroupRule, family: Family) -> Ranges | None:
    if rule.narrowing is None:
        return None
    return (Range(rule.narrowing.first, rule.narrowing.last),) if rule.narrowing.family is family else ()


def _source_ports(_: CloudState, rule: SecurityGroupRule, __: Family) -> Ranges | None:
    return _merged(None if rule.source_port_range is None else [rule.source_port_range])


def _ports(state: CloudState, rule: SecurityGroupRule, _: Family) -> Ranges | None:
    if rule.port_list_id:
        return _merged(entry.port_range for entry in state.port_list[rule.port_list_id].entries)
    return _merged(None if rule.port_range is None else [rule.port_range])


# Protocols come first (walk.py). The last numbers are those of the header fields.
AXES = (
    RuleAxis("protocol", lambda _: 0xFF, _protocols),
    RuleAxis("local", lambda family: family.last, _local),
    RuleAxis("source_port", lambda _: 0xFFFF, _source_ports),
    RuleAxis("port", lambda _: 0xFFFF, _ports),
)
ANYTHING: tuple[Ranges | None, ...] = (None,) * len(AXES)


def _merged(ranges: Iterable[PortRange] | None) -> Ranges | None:
    return None if ranges is None else united((item.first, item.last) for item in ranges)


def united(intervals: Iterable[tuple[int, int]]) -> Ranges:
    """The intervals as ranges: disjoint, sorted, and with a gap between any two."""
    return tuple(Range(first, last) for first, last in ranges.united(intervals))

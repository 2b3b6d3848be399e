"""Why one flow passes or not: at one ENI, and at the other end too if that is an ENI of the state.

Owns what outranks what, which rules would match except for one thing, and which ENI is at the other end. Is given a
state and an opening packet. Must not decide anything itself: `decide()` does that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from sgdataplane.model.always import DHCP
from sgdataplane.model.choices import ON_HOSTS
from sgdataplane.model.decision import DEFAULT, INNER_ACCEPT, Decision
from sgdataplane.model.options import DEFAULTS, Options, Placement
from sgdataplane.model.semantics import decide, later_candidates, order_candidates
from sgdataplane.model.state import CloudState, Eni, SecurityGroup, SecurityGroupRule
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Family, PortRange, Verdict
from sgdataplane.policy.dimensions import DIMENSIONS, FURTHER, LOCAL, PORT, PROTOCOL, REMOTE, Dimension

ASKED = (PROTOCOL, PORT, *FURTHER, LOCAL, REMOTE)  # the dimensions that take longest to compare come last


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A rule that the packet matches in all dimensions but one."""

    decision: Decision
    dimension: Dimension
    """The one in which it doesn't match."""
    asked: str
    """What the rule requires there."""
    found: str
    """What the packet has."""
    would_decide: bool
    """Whether the rule, if it matched, would outrank what decides the packet now."""

    @property
    def field(self) -> str:
        """The name of the dimension."""
        return self.dimension.name


@dataclass(frozen=True, slots=True)
class Later:
    """What would decide if nothing stronger were there."""

    decision: Decision
    outranked_by: str
    """Why the next stronger one comes first (see `explain_outranking`)."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What decides a packet at one ENI. If no rule is evaluated, there are no near misses."""

    packet: Packet
    decision: Decision
    later: tuple[Later, ...]
    near_misses: tuple[NearMiss, ...]


@dataclass(frozen=True, slots=True)
class FlowExplanation:
    """What decides a packet at both of its ends."""

    asked: Explanation
    """The end that the question is about."""
    other: Explanation | None
    """The other end; None if it is no ENI of the state, so its policy isn't known."""

    @property
    def ends(self) -> tuple[Explanation, ...]:
        """The ends whose policies are known."""
        return (self.asked,) if self.other is None else (self.asked, self.other)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What decides at each end."""
        return tuple(end.decision for end in self.ends)

    @property
    def passes(self) -> bool:
        """Whether every end accepts the packet."""
        return all(end.decision.verdict is Verdict.ACCEPT for end in self.ends)


def explain_flow(
    state: CloudState,
    packet: Packet,
    options: Options = ON_HOSTS.options,
    placement: Placement = Placement.INSTANCE,
) -> FlowExplanation:
    """Explain a packet at both ends; the default options are those of hosts.

    Raises:
        KeyError: the state has no such ENI.
    """
    here, there = explain(state, packet, options, placement), at_other_end(state, packet)
    return FlowExplanation(here, None if there is None else explain(state, there, options, placement))


def explain_range(
    state: CloudState, packet: Packet, ports: PortRange, options: Options, placement: Placement
) -> tuple[tuple[PortRange, FlowExplanation], ...]:
    """Explain the ports of a range, in parts in which the same decides at both ends.

    Each part is explained at its first port.
    """
    found: list[tuple[PortRange, FlowExplanation]] = []
    edges = {
        edge
        for first, last in _list_named_port_ranges(state)
        for edge in (first, last + 1)
        if ports.first < edge <= ports.last
    }
    starts = sorted({ports.first, *edges})
    for first, after in zip(starts, [*starts[1:], ports.last + 1], strict=True):
        flow = explain_flow(state, replace(packet, port=first), options, placement)
        if found and found[-1][1].decisions == flow.decisions:
            found[-1] = PortRange(found[-1][0].first, after - 1), found[-1][1]
        else:
            found.append((PortRange(first, after - 1), flow))
    return tuple(found)


def _list_named_port_ranges(state: CloudState) -> Iterator[tuple[int, int]]:
    """Yield the ranges of ports that rules, port lists and what is decided before them name."""
    rules = (rule.port_range for group in state.security_groups for rule in group.rules)
    entries = (entry.port_range for ports in state.port_lists for entry in ports.entries)
    yield from ((ports.first, ports.last) for ports in chain(rules, entries) if ports is not None)
    yield from ((port, port) for client, server, _ in DHCP.values() for port in (client, server))


def explain(
    state: CloudState, packet: Packet, options: Options = DEFAULTS, placement: Placement = Placement.INSTANCE
) -> Explanation:
    """Explain a packet at one end.

    Raises:
        KeyError: the state has no such ENI.
    """
    decision = decide(state, packet, options, placement)
    before, later = decision.enforced, []
    for other in later_candidates(state, packet, decision, options):
        later.append(Later(other, explain_outranking(before, other)))
        before = other
    misses = () if decision.is_fixed else tuple(near_misses(state, packet, decision.enforced, options))
    return Explanation(packet, decision, tuple(later), misses)


def explain_outranking(stronger: Decision, weaker: Decision) -> str:
    """Return why one decision comes before the other.

    It is one of `fixed` (no rule is evaluated), `default_is_last`, `inner_accept_first`, `rules_first` (an option),
    `priority`, `drop_before_accept`, or `same` (both give the same verdict).
    """
    if stronger.is_fixed:
        return "fixed"
    if weaker.cause == DEFAULT:
        return "default_is_last"
    if stronger.cause != weaker.cause:
        return "inner_accept_first" if stronger.cause == INNER_ACCEPT else "rules_first"
    if stronger.priority != weaker.priority:
        return "priority"
    return "same" if stronger.verdict is weaker.verdict else "drop_before_accept"


def at_other_end(state: CloudState, packet: Packet) -> Packet | None:
    """Return the packet as seen by the ENI that has the remote address.

    None if no ENI of the same VPC has it, or one whose policy isn't known here.
    """
    here = state.eni[packet.eni_id]
    eni = next((eni for eni in state.judged_enis if eni is not here and _has(eni, here, packet)), None)
    if eni is None:
        return None
    eni_id, way = eni.network_interface_id, packet.direction.other
    return replace(packet, eni_id=eni_id, direction=way, remote=packet.local, local=packet.remote)


def _has(eni: Eni, here: Eni, packet: Packet) -> bool:
    return eni.vpc_id == here.vpc_id and eni.has_private(packet.remote)


def near_misses(state: CloudState, packet: Packet, decision: Decision, options: Options) -> Iterator[NearMiss]:
    """Yield the rules that would match a packet except for one thing, the strongest first.

    `decision` decides the packet, and isn't fixed.
    """
    is_stronger = True
    for candidate in order_candidates(state, state.eni[packet.eni_id], packet.direction, options):
        is_stronger = is_stronger and candidate.decision != decision
        group, rule = candidate.group, candidate.rule
        if group is None or rule is None:
            continue
        missed = find_only_mismatch(state, group, rule, packet)
        if missed is not None and can_speak_of(state, rule, packet.family):
            asked, found = missed.asked(state, rule), missed.describe_value(packet)
            yield NearMiss(candidate.decision, missed, asked, found, is_stronger)


def find_only_mismatch(
    state: CloudState, group: SecurityGroup, rule: SecurityGroupRule, packet: Packet
) -> Dimension | None:
    """Return the only dimension in which the packet doesn't match the rule; None if there are more, or none."""
    missed = None
    for each in ASKED:
        if not each.matches(state, group, rule, packet):
            if missed is not None:
                return None
            missed = each
    return missed


def can_speak_of(state: CloudState, rule: SecurityGroupRule, family: Family) -> bool:
    """Return whether the rule could match any packet of the family.

    If it couldn't, the packet differs in more than one thing.
    """
    return all(each.is_of(state, rule, family) for each in DIMENSIONS)

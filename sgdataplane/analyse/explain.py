"""Why one flow passes or not: at one ENI, and at the other end too, where that is an ENI of the state.

Owns what outranks what, and who is at the other end. Is given a state
and an opening packet. Must not decide anything itself: that is for `decide()`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sgdataplane.analyse.nearmiss import NearMiss, near_misses
from sgdataplane.model.decision import DEFAULT, INNER_ACCEPT, Decision
from sgdataplane.model.options import DEFAULTS, Options, Placement
from sgdataplane.model.semantics import decide, later_candidates
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Verdict


@dataclass(frozen=True, slots=True)
class Later:
    """What would decide if all before it were not there. `outranked_by`: why what stands before it comes first."""

    decision: Decision
    outranked_by: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of a packet at one ENI. There are no near misses where no rule is asked."""

    packet: Packet
    decision: Decision
    later: tuple[Later, ...]
    near_misses: tuple[NearMiss, ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """The end that was asked about, and the other one; None: it is no ENI of the state, so no policy is known there."""

    asked: Explanation
    other: Explanation | None

    @property
    def ends(self) -> tuple[Explanation, ...]:
        return (self.asked,) if self.other is None else (self.asked, self.other)

    @property
    def passes(self) -> bool:
        """Whether every end accepts it."""
        return all(end.decision.verdict is Verdict.ACCEPT for end in self.ends)


def explain_flow(
    state: CloudState, packet: Packet, options: Options = DEFAULTS, placement: Placement = Placement.INSTANCE
) -> Flow:
    """Both ends. KeyError if the state has no such ENI."""
    here, there = explain(state, packet, options, placement), at_other_end(state, packet)
    return Flow(here, None if there is None else explain(state, there, options, placement))


def explain(
    state: CloudState, packet: Packet, options: Options = DEFAULTS, placement: Placement = Placement.INSTANCE
) -> Explanation:
    """One end. KeyError if the state has no such ENI."""
    decision = decide(state, packet, options, placement)
    before, later = decision, []
    for other in later_candidates(state, packet, decision, options):
        later.append(Later(other, outranking(before, other)))
        before = other
    misses = () if decision.is_fixed else tuple(near_misses(state, packet, decision, options))
    return Explanation(packet, decision, tuple(later), misses)


def outranking(stronger: Decision, weaker: Decision) -> str:
    """Why one comes before the other: `fixed` (no rule is asked), `default_is_last`, `inner_accept_first`,
    `rules_first` (an option), `priority`, `drop_before_accept`, or `same` (either one gives this verdict)."""
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
    """The packet as the ENI that has the remote address sees it; None if no ENI of the same VPC has."""
    here = state.eni[packet.eni_id]
    eni = next((eni for eni in state.network_interfaces if eni is not here and _has(eni, here, packet)), None)
    if eni is None:
        return None
    eni_id, way = eni.network_interface_id, packet.direction.other
    return replace(packet, eni_id=eni_id, direction=way, remote=packet.local, local=packet.remote)


def _has(eni: Eni, here: Eni, packet: Packet) -> bool:
    return eni.vpc_id == here.vpc_id and any(packet.remote in own for own in eni.private_prefixes)

"""Rules that would match a packet but for one thing: its port, its remote, and so on.

Is given a state and a packet. Must not know how rules are printed, nor which things there are: policy/dimensions.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import ordered_candidates
from sgdataplane.model.state import CloudState, SecurityGroup, SecurityGroupRule
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Family
from sgdataplane.policy.dimensions import DIMENSIONS, FURTHER, LOCAL, PORT, PROTOCOL, REMOTE, Dimension

ASKED = (PROTOCOL, PORT, *FURTHER, LOCAL, REMOTE)  # what is dear to ask comes last


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A rule that every field of the packet fits but this one. `asked`: what the rule wants there, `found`: what the
    packet has. `would_decide`: if it matched, it would outrank what decides the packet now."""

    decision: Decision
    dimension: Dimension
    asked: str
    found: str
    would_decide: bool

    @property
    def field(self) -> str:
        return self.dimension.name


def near_misses(state: CloudState, packet: Packet, decision: Decision, options: Options) -> Iterator[NearMiss]:
    """The strongest first. `decision`: what decides the packet, which must be a rule, inner accept or the default."""
    is_stronger = True
    for candidate in ordered_candidates(state, state.eni[packet.eni_id], packet.direction, options):
        is_stronger = is_stronger and candidate.decision != decision
        group, rule = candidate.group, candidate.rule
        if group is None or rule is None:
            continue
        missed = missed_alone(state, group, rule, packet)
        if missed is not None and can_speak_of(state, rule, packet.family):
            asked, found = missed.asked(state, rule), missed.found(packet)
            yield NearMiss(candidate.decision, missed, asked, found, is_stronger)


def missed_alone(state: CloudState, group: SecurityGroup, rule: SecurityGroupRule, packet: Packet) -> Dimension | None:
    """The only thing of the packet that the rule doesn't want so; None if there are more, or it matches."""
    missed = None
    for each in ASKED:
        if not each.matches(state, group, rule, packet):
            if missed is not None:
                return None
            missed = each
    return missed


def can_speak_of(state: CloudState, rule: SecurityGroupRule, family: Family) -> bool:
    """Whether the rule could match any packet of the family. (If not, more than one field would have to be another.)"""
    return all(each.is_of(state, rule, family) for each in DIMENSIONS)

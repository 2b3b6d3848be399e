"""Say what a namespace's table must do, and what must happen to any one packet.

Owns the whole way of one packet: the clauses of the fixed part, the candidates of decide(), the session's mark. It is
given a state. It must know nothing of the table but the epoch and the secret.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from sgdataplane.contract.counters import name_audited_at, name_audited_counter
from sgdataplane.contract.fields import Field
from sgdataplane.contract.sites import SITES, Site
from sgdataplane.contract.stamp import SECRET_KEY, STAMP_MAP
from sgdataplane.contract.tables import LOOPBACK
from sgdataplane.model import words
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.semantics import candidates, in_mode
from sgdataplane.model.state import CloudState, ConnectionTracking, Eni
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.interp import add_session_fields
from sgdataplane.nft.ir import Count, SetMark, SetPacketMark, Table
from sgdataplane.proof.spec.axes import holds, is_name
from sgdataplane.proof.spec.claims import derive_outcome, end_chain
from sgdataplane.proof.spec.crossing import Fields, family_of, opening_of
from sgdataplane.proof.spec.entry import other_clauses, uplink_clauses
from sgdataplane.proof.spec.fixed import (
    ENDS,
    JUDGE,
    EniAtHook,
    FixedClause,
    Own,
    approval,
    clauses,
    end_clauses,
)
from sgdataplane.proof.spec.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Specification:
    """What a table must do: what a state says about these interfaces of one namespace."""

    state: CloudState
    interfaces: Mapping[str, str]
    """The name of the interface that carries each ENI, by ENI id."""
    options: Options
    internal: tuple[str, ...] = ()
    """The namespace's own interfaces, as given to resolve()."""
    placement: Placement = Placement.INSTANCE
    uplinks: tuple[str, ...] = ()
    """The interfaces to elsewhere, as in HostPolicy."""
    time_scale: float = 1.0
    """All idle timeouts are multiplied by this factor."""

    @property
    def site(self) -> Site:
        """What is particular to the placement: hooks, fields and the layout of the mark."""
        return SITES[self.placement]


@dataclass(frozen=True, slots=True)
class PacketFate:
    """What happens to one packet."""

    verdict: str
    """What happens in the end: "accept" or "drop"."""
    counters: tuple[str, ...]
    """The counters that count it, in order."""
    mark: int
    """The session's mark at the end."""
    packet_mark: int
    """The packet's own mark at the end."""
    says: str = ""
    """The reason in words, for people."""
    priority: int = 0
    """The priority that a packet which passes is left with, if it came with another one."""

    def is_same(self, other: PacketFate) -> bool:
        """Return whether the other one is the same but for the wording."""
        mine = (self.verdict, self.counters, self.mark, self.packet_mark, self.priority)
        return mine == (other.verdict, other.counters, other.mark, other.packet_mark, other.priority)


@dataclass(frozen=True)
class Namespace:
    """A specification, with the epoch and secret that the table was compiled with."""

    wanted: Specification
    epoch: int
    secret: int
    _clauses: dict[tuple[Direction, Family, str, bool], list[FixedClause]] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, wanted: Specification, table: Table) -> Namespace:
        """Read epoch and secret from the table's stamp."""
        applied = table.elements_of(STAMP_MAP)
        epoch, secret = applied.get(0, 0), applied.get(SECRET_KEY, 0)
        if not isinstance(epoch, int) or not isinstance(secret, int):
            raise TypeError(f"map {STAMP_MAP} holds verdicts")
        return cls(wanted, epoch, secret)

    @cached_property
    def enis(self) -> dict[str, Eni]:
        """The ENI at each interface, in the order of ENI ids."""
        state = self.wanted.state
        return {ifname: state.eni[eni_id] for eni_id, ifname in sorted(self.wanted.interfaces.items())}

    @cached_property
    def timeouts(self) -> dict[str, ConnectionTracking]:
        """The idle timeouts of each ENI's sessions, by interface."""
        scale = self.wanted.time_scale
        return {ifname: eni.connection_tracking.scale(scale) for ifname, eni in self.enis.items()}

    @property
    def unset_timeouts(self) -> ConnectionTracking:
        """The idle timeouts of the namespace's own sessions."""
        return ConnectionTracking().scale(self.wanted.time_scale)

    def link(self, hook: Direction, family: Family, ifname: str) -> EniAtHook | None:
        """Return the ENI at that interface and hook; None if the interface carries no ENI."""
        own = self.own(ifname)
        if own is None:
            return None
        return EniAtHook(self.wanted.site, hook, family, own, self.epoch, self.secret, self.wanted.options)

    def own(self, ifname: str) -> Own | None:
        """Return what the clauses there say of the ENI alone; None if the interface carries no ENI."""
        eni = self.enis.get(ifname)
        return None if eni is None else Own.of(ifname, self.slots[ifname], eni)

    def kind(self, ifname: str) -> Hashable:
        """Return something that is equal for all interfaces whose fixed parts may be alike."""
        wanted, eni = self.wanted, self.enis.get(ifname)
        fixed = self.epoch, self.secret, wanted.options, wanted.placement, wanted.time_scale
        if eni is None:
            return fixed
        kinds = eni.addresses, eni.delegated_prefixes, eni.allowed_address_pairs
        families = (sum(1 for part in kind if part.family is family) for kind in kinds for family in Family)
        return fixed, *families, bool(eni.mac_address), eni.connection_tracking, eni.is_audited

    @cached_property
    def slots(self) -> dict[str, int]:
        """The slot of the ENI at each interface: its number in marks."""
        return self.wanted.site.marks.slots(self.enis)

    def basis(self, ifname: str) -> object:
        """Return the part of the specification that the clauses at an interface follow from."""
        wanted = self.wanted
        fixed = self.epoch, self.secret, wanted.options, wanted.placement
        if ifname in self.enis:
            return fixed, self.enis[ifname], self.slots[ifname]
        if self._is_uplink(ifname):
            return fixed, [prefix for eni in self.enis.values() for prefix in eni.private_prefixes]
        return fixed, self._is_internal(ifname)

    def _is_uplink(self, ifname: str) -> bool:
        return any(is_name(name, ifname) for name in self.wanted.uplinks)

    def _is_internal(self, ifname: str) -> bool:
        return any(is_name(name, ifname) for name in (LOOPBACK, *self.wanted.internal))

    def clauses(self, hook: Direction, family: Family, ifname: str, *, is_adopting: bool) -> list[FixedClause]:
        """Return what must happen to packets at an interface until rules are evaluated, strongest clause first.

        The first clause that holds decides. `is_adopting` is for packets while the ENI is being adopted, that is, while
        it may go on with sessions that conntrack doesn't know.
        """
        link = self.link(hook, family, ifname)
        if link is not None:
            return list(clauses(link, is_adopting=is_adopting))
        if self._is_uplink(ifname):
            private = [prefix for eni in self.enis.values() for prefix in eni.private_prefixes]
            site = self.wanted.site
            passing = approval(site, hook, self.secret)
            return list(uplink_clauses(family, private, passing, is_leaving=site.is_leaving(hook)))
        return list(other_clauses(hook, is_internal=self._is_internal(ifname)))

    def fate(self, hook: Direction, fields: Fields, end: str = "", *, is_adopting: bool = False) -> PacketFate:
        """Return what must happen to a packet with these fields at a hook.

        interp.add_session_fields() adds the fields of its session. `end` stands for the chain that is to carry out its
        verdict, if that has been found already. `is_adopting` is for packets while the ENI is being adopted.
        """
        family = family_of(fields)
        ifname = str(fields[self.wanted.site.interface(hook)])
        link, fields = self.link(hook, family, ifname), add_session_fields(fields)
        done, says = _Done(fields), ""
        if not end:
            clause = _first(self._clauses_for_known(hook, family, ifname, is_adopting), fields)
            end, says = done.do(clause.outcome), clause.says
        direction = next((side for side in Direction if end == JUDGE[side]), None)
        if link is not None and direction is not None:
            decision = self._decision(link, direction, fields)
            end, says = done.do(self._outcome(link, decision)), in_words(decision)
        if link is not None and end in ENDS:
            clause = _first(end_clauses(link, *ENDS[end]), fields)
            end, says = done.do(clause.outcome), says or clause.says
        return PacketFate(end, tuple(done.counters), done.mark, done.packet_mark, says)

    def _clauses_for_known(self, *place: *tuple[Direction, Family, str, bool]) -> list[FixedClause]:
        if place not in self._clauses:
            self._clauses[place] = self.clauses(*place[:3], is_adopting=place[3])
        return self._clauses[place]

    def _decision(self, link: EniAtHook, direction: Direction, fields: Fields) -> Decision:
        """Return what a direction's rules decide about the packet that opened the session."""
        eni = self.enis[link.own.ifname]
        packet = opening_of(eni.network_interface_id, link.site, direction, fields)
        return in_mode(eni, next(candidates(self.wanted.state, eni, packet, self.wanted.options)))

    def _outcome(self, link: EniAtHook, decision: Decision) -> Outcome:
        """Return the effects on a packet with that decision, and the end that it comes to."""
        if decision.would is None:
            return derive_outcome(decision)
        counters = name_audited_at(link.own.ifname, decision.would), name_audited_counter(decision.would)
        return tuple(map(Count, counters)), end_chain(decision.direction, decision.verdict)


def _first(made: Iterable[FixedClause], fields: Fields) -> FixedClause:
    return next(c for c in made if all(holds(condition, fields.get(condition.field)) for condition in c.conditions))


class _Done:
    """The effects on a packet so far."""

    def __init__(self, fields: Fields) -> None:
        self.counters: list[str] = []
        self.is_tracked = Field.CT_MARK in fields
        self.mark, self.packet_mark = int(fields.get(Field.CT_MARK, 0)), 0

    def do(self, outcome: Outcome) -> str:
        """Apply the effects. Return where the packet goes next."""
        for effect in outcome[0]:
            if isinstance(effect, Count):
                self.counters.append(effect.counter)
            elif isinstance(effect, SetPacketMark):
                self.packet_mark = effect.value
            elif isinstance(effect, SetMark) and self.is_tracked:
                self.mark = self.mark & effect.keep | effect.value
        return outcome[1]


def in_words(decision: Decision) -> str:
    """Return a decision and its reason in words."""
    return f"{decision.verdict.value}: {words.cite_decision(decision)}"

"""What a state says about a flow that was seen: `decide()`, with each ENI's order of candidates made once.

Owns the packets that a flow may have been. Where evidence lacks a field, these are all that the state can tell apart.
Must not know what is suggested.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product

from sgdataplane.model.always import DHCP
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.semantics import CLAUSES, Candidate, holds, order_candidates
from sgdataplane.model.state import CloudState, Eni, GroupRef, PrefixListRef, Remote, SecurityGroupRule
from sgdataplane.net.packet import Packet
from sgdataplane.net.ports import EPHEMERAL
from sgdataplane.net.values import PORT_PROTOCOLS, Address, Direction, Prefix, Verdict
from sgdataplane.suggest.evidence import SeenFlow

DHCP_PORTS = frozenset(port for client, server, _ in DHCP.values() for port in (client, server))


@dataclass(frozen=True, slots=True)
class JudgedFlow:
    """A packet that a flow may have been, with what decides it."""

    packet: Packet
    remote: Prefix
    """The block of addresses that the packet's other end stands for."""
    candidates: tuple[Candidate, ...]
    """All that holds for the packet, the strongest first."""
    fixed: Decision | None = None
    """The decision, if it was made before any rule."""

    @property
    def decision(self) -> Decision:
        """What decides the packet."""
        return self.fixed or self.candidates[0].decision

    @property
    def without_inner(self) -> Candidate:
        """What would decide if no inner accept did."""
        return next(one for one in self.candidates if one.rule is not None or one.group is None)

    @property
    def is_accepted(self) -> bool:
        """Whether the packet passes."""
        return self.decision.verdict is Verdict.ACCEPT


class Judge:
    """Decides about packets of one state."""

    def __init__(self, state: CloudState, options: Options) -> None:
        self.state, self._options = state, options
        self.order = cache(self._order)
        self._edges = cache(self._edges_of)

    def judge(self, packet: Packet, remote: Prefix | None = None) -> JudgedFlow:
        """Return what `decide()` says, with all that holds for the packet.

        `remote` is the block that the packet's other end stands for.
        """
        end = remote or Prefix.of(packet.remote)
        eni = self.state.eni[packet.eni_id]
        for clause in CLAUSES:
            if clause.holds(eni, packet, self._options, Placement.INSTANCE):
                return JudgedFlow(packet, end, (), Decision(packet.direction, clause.verdict, clause.cause))
        order = self.order(packet.eni_id, packet.direction)
        return JudgedFlow(packet, end, tuple(one for one in order if holds(self.state, one, packet)))

    def accepts(self, packet: Packet) -> bool:
        """Return whether `decide()` accepts a packet."""
        eni = self.state.eni[packet.eni_id]
        for clause in CLAUSES:
            if clause.holds(eni, packet, self._options, Placement.INSTANCE):
                return clause.verdict is Verdict.ACCEPT
        order = self.order(packet.eni_id, packet.direction)
        return next(one for one in order if holds(self.state, one, packet)).decision.verdict is Verdict.ACCEPT

    def each(self, flow: SeenFlow) -> Iterator[JudgedFlow]:
        """Judge all packets that the flow may have been."""
        eni = self.state.eni[flow.eni_id]
        port = flow.port if flow.protocol in PORT_PROTOCOLS else None
        ends = [piece for remote in flow.remotes for piece in self._pieces(flow, remote)]
        for end, source in product(ends, self._source_ports(flow)):
            first = Address(end.family_bits, end.first)
            for local in [flow.local] if flow.local else _own(eni, end):
                yield self.judge(Packet(flow.eni_id, flow.direction, first, local, flow.protocol, port, source), end)

    def rules(self, eni_id: str, direction: Direction) -> Iterator[SecurityGroupRule]:
        """Return the rules of an ENI in one direction, the strongest first."""
        return (one.rule for one in self.order(eni_id, direction) if one.rule is not None)

    def _order(self, eni_id: str, direction: Direction) -> tuple[Candidate, ...]:
        return tuple(order_candidates(self.state, self.state.eni[eni_id], direction, self._options))

    def _source_ports(self, flow: SeenFlow) -> list[int | None]:
        if flow.protocol not in PORT_PROTOCOLS:
            return [None]
        if flow.source_port is not None:
            return [flow.source_port]
        ranges = (rule.source_port_range for rule in self.rules(flow.eni_id, flow.direction))
        named = {ports.first for ports in ranges if ports is not None}
        return [EPHEMERAL, *sorted(named - {EPHEMERAL})]

    def _pieces(self, flow: SeenFlow, remote: Prefix) -> Iterator[Prefix]:
        """Yield the other end, cut where the state can tell its addresses apart."""
        bits, first, last = remote.family_bits, remote.first, remote.last
        edges = self._edges(flow.eni_id, flow.direction) if first < last else ()
        within = {edge for family_bits, edge in edges if family_bits == bits and first < edge <= last}
        cuts = sorted({first, last + 1, *within})
        for low, high in pairwise(cuts):
            yield from blocks_of(bits, low, high - 1)

    def _edges_of(self, eni_id: str, direction: Direction) -> frozenset[tuple[int, int]]:
        groups = [GroupRef(group_id) for group_id in self.state.eni[eni_id].security_group_ids]
        named: Iterable[Remote] = (*groups, *(rule.remote for rule in self.rules(eni_id, direction)))
        prefixes = {prefix for remote in named for prefix in prefixes_of(self.state, remote)}
        prefixes |= set(self._options.metadata) | set(self.state.eni[eni_id].own_prefixes)
        return frozenset((p.family_bits, edge) for p in prefixes for edge in (p.first, p.last + 1))


def _own(eni: Eni, end: Prefix) -> list[Address]:
    """Return the addresses at which the ENI may have had this other end."""
    own = [address for address in eni.addresses if address.family is end.family]
    return own or [Address(p.family_bits, p.first) for p in eni.own_prefixes if p.family is end.family]


class SourcePorts:
    """Which flows' source ports matter, so that all others needn't be told apart by them."""

    def __init__(self, state: CloudState) -> None:
        self._state = state
        self._asks = cache(self._asks_for)

    def get_if_relevant(self, eni_id: str, source_port: int | None, port: int | None) -> int | None:
        """Return the source port if it matters, else None.

        It matters if a rule of the ENI requires one, or if it shows that this is DHCP.
        """
        is_dhcp = source_port in DHCP_PORTS and port in DHCP_PORTS
        return source_port if port is not None and (is_dhcp or self._asks(eni_id)) else None

    def _asks_for(self, eni_id: str) -> bool:
        groups = (self._state.group[group_id] for group_id in self._state.eni[eni_id].security_group_ids)
        return any(rule.source_port_range is not None for group in groups for rule in group.rules)


def prefixes_of(state: CloudState, remote: Remote) -> tuple[Prefix, ...]:
    """Return the addresses that a remote stands for now."""
    match remote:
        case Prefix():
            return (remote,)
        case PrefixListRef(list_id):
            return tuple(entry.cidr for entry in state.prefix_list[list_id].entries)
        case GroupRef(group_id):
            members = (eni for eni in state.enis_of_group.get(group_id, ()) if eni.is_member)
            return tuple(prefix for eni in members for prefix in eni.private_prefixes)


def blocks_of(bits: int, first: int, last: int) -> Iterator[Prefix]:
    """Yield the fewest CIDR blocks that are exactly a range of addresses, in order."""
    while first <= last:
        size = min(first & -first or 1 << bits, 1 << (last - first + 1).bit_length() - 1)
        yield Prefix(bits, first, bits + 1 - size.bit_length())
        first += size

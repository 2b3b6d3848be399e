"""The record of a packet: the other end, the port, and what decided.

Owns that translation. Is given a state, and packets as they were logged. Must not know counters or files.
"""

from __future__ import annotations

from collections.abc import Mapping

from sgdataplane.history.gather import Seen
from sgdataplane.history.rows import ANY, Fate
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import ICMP, ICMPV6, PORT_PROTOCOLS, TCP, Address, Direction, Verdict
from sgdataplane.observe.decisions import Decider
from sgdataplane.observe.denied import Denied
from sgdataplane.observe.headers import Headers
from sgdataplane.observe.hits import decisions

SYN, ACK, RST, FIN = 0x02, 0x10, 0x04, 0x01
UNEXPLAINED = "unexplained"  # accepted, though the state as we know it would not: it has changed meanwhile
MAX_DECIDED = 50_000  # kinds of packets that a Decider may remember


class Interpretation:
    """A reader of packets under one state."""

    def __init__(self, state: CloudState, options: Options) -> None:
        self.state, self._options = state, options
        self._decider, self._decided = Decider(state, options), 0
        self._counters: dict[frozenset[object], Mapping[str, Decision]] = {}
        self._ids: dict[str, dict[Address, str]] = {}
        for eni in state.network_interfaces:
            self._ids.setdefault(eni.vpc_id, {}).update(dict.fromkeys(eni.addresses, eni.network_interface_id))

    def decisions(self, interfaces: Mapping[str, str]) -> Mapping[str, Decision]:
        """Return what the counters of a namespace with these ENIs stand for.

        `interfaces` is ENI id -> interface.

        Namespaces whose ENIs have equal groups share it. ENIs in audit mode don't: they have counters of their own.
        """
        kinds: dict[tuple[object, ...], str] = {}
        for eni_id, ifname in interfaces.items():
            if (eni := self.state.eni.get(eni_id)) is not None:
                kinds[tuple(sorted(eni.security_group_ids)), eni.nic_type, ifname if eni.is_audited else ""] = eni_id
        key = frozenset(kinds)
        if key not in self._counters:
            self._counters[key] = decisions(self.state, {eni_id: interfaces[eni_id] for eni_id in kinds.values()})
        return self._counters[key]

    def interpret_dropped(self, packet: Denied, at: int) -> Seen | None:
        """Return the record of a packet that was denied; None if it has no ENI, or isn't IP."""
        if packet.decision is None:
            return None
        return self._find_seen(packet, at, packet.decision)

    def interpret_opened(self, packet: Denied, at: int) -> Seen | None:
        """Return the record of a packet that opened a session; None if it can't be told.

        That is so if it has no ENI, if the state has no such ENI, or if it isn't IP.
        """
        decision = self.decision(packet)
        return None if decision is None else self._find_seen(packet, at, decision)

    def decision(self, packet: Denied) -> Decision | None:
        """Return the decision by which a packet has opened its session; None as in `interpret_opened`.

        It is UNEXPLAINED if the state would drop the packet: then the state has changed meanwhile.
        """
        asked = self._packet(packet)
        if asked is None:
            return None
        self._decided += 1
        if self._decided > MAX_DECIDED:
            self._decider, self._decided = Decider(self.state, self._options), 0
        decision = self._decider.decide(asked)
        if decision.verdict is Verdict.DROP:
            return Decision(packet.direction, Verdict.ACCEPT, UNEXPLAINED)
        return decision

    def _packet(self, packet: Denied) -> Packet | None:
        """Return the packet as a policy sees it; None as in `interpret_opened`."""
        headers, eni_id = packet.headers, packet.eni_id
        if eni_id is None or headers.source is None or headers.destination is None or headers.protocol is None:
            return None
        if eni_id not in self.state.eni:
            return None
        is_in = packet.direction is Direction.INGRESS
        remote, local = (headers.source, headers.destination) if is_in else (headers.destination, headers.source)
        ports = headers.port, headers.source_port
        what = (headers.protocol, *ports, headers.icmp_type)
        return Packet(eni_id, packet.direction, remote, local, *what, is_syn=_is_syn(headers))

    def _find_seen(self, packet: Denied, at: int, decision: Decision) -> Seen | None:
        headers = packet.headers
        if packet.eni_id is None or headers.source is None or headers.destination is None or headers.family is None:
            return None
        remote = headers.source if packet.direction is Direction.INGRESS else headers.destination
        told = decision.enforced
        return Seen(
            at,
            packet.eni_id,
            packet.direction,
            self._end(packet.eni_id, remote),
            ANY if headers.protocol is None else headers.protocol,
            _port(headers),
            headers.length,
            Fate.of(decision),
            told.cause,
            told.security_group_id,
            told.security_group_rule_id,
        )

    def _end(self, eni_id: str, remote: Address) -> str | Address:
        """Return the id of the ENI that has the address, if it is one of the same VPC; else the address."""
        eni = self.state.eni.get(eni_id)
        return remote if eni is None else self._ids.get(eni.vpc_id, {}).get(remote, remote)


def _port(headers: Headers) -> int:
    """Return the port as in a FlowKey."""
    if headers.protocol in PORT_PROTOCOLS:
        return ANY if headers.port is None else headers.port
    if headers.protocol in (ICMP, ICMPV6) and headers.icmp_type is not None:
        return headers.icmp_type << 8 | (headers.icmp_code or 0)
    return ANY


def _is_syn(headers: Headers) -> bool:
    flags = headers.tcp_flags
    return headers.protocol != TCP or flags is None or flags & (SYN | ACK | RST | FIN) == SYN

"""The expected fate of each packet: `decide()` for what opens a session, a plain model of sessions for the rest.

Owns the model (semantics.md, section 4, as conntrack does it). It is given header fields, the ends' ENIs, and when
packets were sent. Must not know how a policy is compiled, nor what happened to a packet, with one exception: what
conntrack calls invalid never passes, and only conntrack can say so.

    a packet of a known session     passes where the session's opening packet would
    any other packet                opens a session, if each end that is tracked in one table accepts it
    an ICMP error                   passes with the session that it quotes, if its sender can have seen that packet
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from sgdataplane.host.timeouts import KERNELS_OWN, OTHERS, scale_seconds
from sgdataplane.lab.expect import UNPROTECTED, Expectation
from sgdataplane.lab.replay.datagrams import FIN, RST, HeaderFields
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import decide, decide_error
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import IcmpError, Packet
from sgdataplane.net.values import AH, ICMP, ICMPV6, PORT_PROTOCOLS, TCP, UDP, Address, Direction, Verdict

MAX_DECISIONS = 1 << 16
REFUSED_ERROR = "icmp-error-refused"
MAX_SESSIONS = 200_000  # of one table; conntrack's own limit is about as high
HALF_OPEN = KERNELS_OWN["nf_conntrack_tcp_timeout_syn_sent"]
HALF_CLOSED = KERNELS_OWN["nf_conntrack_tcp_timeout_close_wait"]
QUERIES = {ICMP: ((8, 0), (13, 14), (15, 16), (17, 18)), ICMPV6: ((128, 129), (139, 140))}  # conntrack tracks these
INVERSE = {(p, a): b for p, pairs in QUERIES.items() for pair in pairs for a, b in (pair, pair[::-1])}


@dataclass(frozen=True, slots=True)
class Stop:
    """A policy on a packet's way."""

    eni_id: str
    direction: Direction
    """The packet's direction, as the ENI sees it."""
    table: str
    """The namespace whose conntrack tracks it."""


Stops = tuple[Stop, ...]


@dataclass(slots=True)
class ModelSession:
    """A session in one conntrack table, as the model has it."""

    opening: HeaderFields
    """Its first packet."""
    seen: float
    """When its last packet was sent, by time.monotonic()."""
    is_answered: bool = False
    is_reset: bool = False
    fins: set[bool] = field(default_factory=set)
    """The directions that have sent a FIN; True for that of the opening packet."""

    @property
    def is_closed(self) -> bool:
        """Whether it was reset, or both ends have sent a FIN."""
        return self.is_reset or len(self.fins) == 2

    def is_forward(self, header: HeaderFields) -> bool:
        """Return whether a packet goes in the direction of the opening packet."""
        return session_key(header) == session_key(self.opening)


class SessionModel:
    """All conntrack tables on the way of a replay's packets, as they should be.

    Args:
        state: The state in force.
        options: How the policy is evaluated.
        time_scale: The factor of the lab's timeouts.
        routers: The ENIs at each router that enforces policies, by its table; other packets come there by uplinks.
    """

    def __init__(
        self,
        state: CloudState,
        options: Options,
        time_scale: float,
        routers: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> None:
        self._time_scale, self._routers, self._state, self._options = time_scale, routers, state, options
        # safe to cache, as the policy doesn't change while a capture is replayed
        self._decided = lru_cache(MAX_DECISIONS)(lambda packet: decide(state, packet, options))
        self._tables: dict[str, OrderedDict[Key, ModelSession]] = {}
        self._timeouts = {a: eni.connection_tracking for eni in state.network_interfaces for a in eni.addresses}

    def expect(
        self, header: HeaderFields, stops: tuple[Stop, ...], now: float, invalid: frozenset[str] = frozenset()
    ) -> Expectation:
        """Return what should become of a packet now; change nothing.

        `invalid` are the tables that call it invalid.
        """
        expected = UNPROTECTED
        for stop in stops:
            here = () if _has_sender(stops, stop.table) else self._routers.get(stop.table, ())
            decision = _invalid(stop) if stop.table in invalid else self._decide(header, stop, now, here)
            expected = Expectation(decision)
            if not expected.is_accepted:
                is_early = decision.cause == REFUSED_ERROR  # at an uplink, before the receiver's policy
                return Expectation(decision, (decision if is_early else stop).direction.value)
        return expected

    def find_opened_tables(self, header: HeaderFields, stops: Stops, now: float) -> tuple[str, ...]:
        """Return the tables in which the packet belongs to no known session."""
        return tuple(name for name in _tables(stops) if self.find(name, header, now) is None)

    def commit(self, header: HeaderFields, stops: Stops, now: float, invalid: frozenset[str] = frozenset()) -> None:
        """Note that the packet was sent.

        From now on, each table that it reaches and that accepts it has its session.
        """
        for name in _tables(stops):
            here = tuple(stop for stop in stops if stop.table == name)
            session = self.find(name, header, now)
            is_accepted = self.expect(header, here, now, invalid).is_accepted
            if name not in invalid and _has_session(header):
                if session is None and is_accepted:
                    session = self._open(name, header, now)
                if session is not None:
                    _advance(session, header, now)
            if not is_accepted:
                return

    def find(self, name: str, header: HeaderFields, now: float) -> ModelSession | None:
        """Return the session in that table that a packet belongs to; None if there is none, or it has ended."""
        table, key = self._tables.get(name, OrderedDict()), session_key(header)
        session = table.get(key) or table.get(reverse_key(key))
        if session is None or now - session.seen > self._idle(session):
            return None
        return None if session.is_closed and header.protocol == TCP and header.is_syn else session

    def _decide(self, header: HeaderFields, stop: Stop, now: float, here: Collection[str]) -> Decision:
        """Return the decision of one stop, by the packet's session if it has one."""
        if header.is_error:
            quoted = header.quoted and self.find(stop.table, header.quoted, now)
            return self._decide_error(quoted, header, stop, here) if quoted else _invalid(stop)
        session = self.find(stop.table, header, now) if _has_session(header) else None
        if session is None:
            return self._decided(_packet(header, stop.eni_id, stop.direction))
        direction = stop.direction if session.is_forward(header) else stop.direction.other
        return self._decided(_packet(session.opening, stop.eni_id, direction))

    def _decide_error(self, session: ModelSession, header: HeaderFields, stop: Stop, here: Collection[str]) -> Decision:
        """Return the decision on an ICMP error about that session, which goes against the packet that it quotes."""
        quoted = header.quoted
        is_forward = quoted is not None and session.is_forward(quoted)
        opening = _packet(session.opening, stop.eni_id, stop.direction.other if is_forward else stop.direction)
        own = _packet(header, stop.eni_id, stop.direction)
        error = IcmpError(stop.direction, own.remote, own.local, opening)
        return decide_error(self._state, error, self._options, here)

    def _open(self, name: str, header: HeaderFields, now: float) -> ModelSession:
        """Put a new session into a table; the oldest goes if there are too many."""
        table, key = self._tables.setdefault(name, OrderedDict()), session_key(header)
        table.pop(reverse_key(key), None)
        session = table[key] = ModelSession(header, now)
        if len(table) > MAX_SESSIONS:
            table.popitem(last=False)
        return session

    def _idle(self, session: ModelSession) -> int:
        """Return after how many seconds without a packet the session ends."""
        return scale_seconds(self._idle_unscaled(session), self._time_scale)

    def _idle_unscaled(self, session: ModelSession) -> int:
        ends = (session.opening.source, session.opening.target)
        own = [self._timeouts[end] for end in ends if end in self._timeouts]
        if session.opening.protocol == UDP:
            return min((tracking.udp_timeout for tracking in own), default=OTHERS)
        if session.opening.protocol != TCP:
            return OTHERS
        if session.is_closed:
            return min((tracking.tcp_closed_and_time_wait_timeout for tracking in own), default=3)
        if session.fins:
            return HALF_CLOSED
        is_open = session.is_answered or not session.opening.is_syn
        return min((tracking.tcp_established_timeout for tracking in own), default=910) if is_open else HALF_OPEN


Key = tuple[int, int | None, Address, int, Address, int]


def _invalid(stop: Stop) -> Decision:
    """Return the decision on a packet that conntrack calls invalid."""
    return Decision(stop.direction, Verdict.DROP, "invalid")


def _has_sender(stops: Stops, table: str) -> bool:
    """Return whether the packet's sender is an ENI whose policy is enforced with that table."""
    return any(stop.table == table and stop.direction is Direction.EGRESS for stop in stops)


def _tables(stops: Stops) -> Iterator[str]:
    return iter(dict.fromkeys(stop.table for stop in stops))


def _has_session(header: HeaderFields) -> bool:
    """Return whether a packet belongs to a session of its own.

    An ICMP error belongs to another packet's session; AH over IPv6 is judged packet by packet.
    """
    return not header.is_error and not (header.protocol == AH and header.source.family_bits == 128)


def session_key(header: HeaderFields) -> Key:
    """Return what all packets of one direction of a session have in common."""
    sport, dport = header.ports
    return header.protocol, header.icmp_type, header.source, sport, header.target, dport


def reverse_key(key: Key) -> Key:
    """Return the key of the other direction."""
    protocol, kind, source, sport, target, dport = key
    return protocol, kind if kind is None else INVERSE.get((protocol, kind), kind), target, dport, source, sport


def _advance(session: ModelSession, header: HeaderFields, now: float) -> None:
    """Note in a session what a packet of it changes."""
    is_forward = session.is_forward(header)
    session.seen = now
    session.is_answered |= not is_forward
    if header.protocol == TCP:
        session.is_reset |= bool(header.tcp_flags & RST)
        if header.tcp_flags & FIN:
            session.fins.add(is_forward)


def _packet(header: HeaderFields, eni_id: str, direction: Direction) -> Packet:
    """Return the packet as one end's policy sees it."""
    is_egress = direction is Direction.EGRESS
    has_ports = header.protocol in PORT_PROTOCOLS
    return Packet(
        eni_id=eni_id,
        direction=direction,
        remote=header.target if is_egress else header.source,
        local=header.source if is_egress else header.target,
        protocol=header.protocol,
        port=header.ports[1] if has_ports else None,
        source_port=header.ports[0] if has_ports else None,
        icmp_type=header.icmp_type,
        hop_limit=header.hop_limit,
        is_syn=header.is_syn,
    )

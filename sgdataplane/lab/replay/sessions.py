"""What should become of each packet: `decide()` for what opens a session, and a plain model of sessions for the rest.

Owns the model (semantics.md section 4, as conntrack carries it out). Is given facts of packets, the ends' ENIs, and
when they were sent. Must not know how policy is compiled, nor what happened to a packet, but for one thing: what
conntrack calls invalid never passes, and that is conntrack's own to say.

    a packet of a known session     passes where the session's opening packet would
    any other                       opens one, if each end that tracks it in one table accepts it
    ICMP errors                     pass with the session they quote
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from sgdataplane.host.timeouts import KERNELS_OWN, OTHERS, scaled
from sgdataplane.lab.expect import UNPROTECTED, Expectation
from sgdataplane.lab.replay.facts import FIN, RST, HeaderFields
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import AH, ICMP, ICMPV6, PORT_PROTOCOLS, TCP, UDP, Address, Direction, Verdict

MAX_DECISIONS = 1 << 16
MAX_SESSIONS = 200_000  # of one table; conntrack's own limit is of that size, too
HALF_OPEN = KERNELS_OWN["nf_conntrack_tcp_timeout_syn_sent"]
HALF_CLOSED = KERNELS_OWN["nf_conntrack_tcp_timeout_close_wait"]
QUERIES = {
    ICMP: ((8, 0), (13, 14), (15, 16), (17, 18)),
    ICMPV6: ((128, 129), (139, 140)),
}  # those that conntrack tracks
INVERSE = {(p, a): b for p, pairs in QUERIES.items() for pair in pairs for a, b in (pair, pair[::-1])}


@dataclass(frozen=True, slots=True)
class Stop:
    """A policy on a packet's way: whose, in which direction the packet goes there, and which conntrack table knows."""

    eni_id: str
    direction: Direction
    table: str


Stops = tuple[Stop, ...]


@dataclass(slots=True)
class ModelSession:
    """`opening`: its first packet. `fins`: directions that have been closed, True for the opening one's."""

    opening: HeaderFields
    seen: float
    is_answered: bool = False
    is_reset: bool = False
    fins: set[bool] = field(default_factory=set)

    @property
    def is_closed(self) -> bool:
        return self.is_reset or len(self.fins) == 2

    def is_forward(self, facts: HeaderFields) -> bool:
        return _key(facts) == _key(self.opening)


class SessionModel:
    """All conntrack tables on the way of a replay's packets, as they should be."""

    def __init__(self, state: CloudState, options: Options, time_scale: float) -> None:
        self._time_scale = time_scale
        # the policy stays as it is while a capture is replayed
        self._decided = lru_cache(MAX_DECISIONS)(lambda packet: decide(state, packet, options))
        self._tables: dict[str, OrderedDict[Key, ModelSession]] = {}
        self._timeouts = {a: eni.connection_tracking for eni in state.network_interfaces for a in eni.addresses}

    def expect(
        self, facts: HeaderFields, stops: tuple[Stop, ...], now: float, invalid: frozenset[str] = frozenset()
    ) -> Expectation:
        """What should become of a packet now. `invalid`: the tables that call it so. Changes nothing."""
        expected = UNPROTECTED
        for stop in stops:
            decision = _invalid(stop) if stop.table in invalid else self._decide(facts, stop, now)
            expected = Expectation(decision)
            if not expected.is_accepted:
                return Expectation(decision, stop.direction.value)
        return expected

    def opened_by(self, facts: HeaderFields, stops: Stops, now: float) -> tuple[str, ...]:
        """The tables in which the packet is of no known session."""
        return tuple(name for name in _tables(stops) if self.find(name, facts, now) is None)

    def commit(self, facts: HeaderFields, stops: Stops, now: float, invalid: frozenset[str] = frozenset()) -> None:
        """The packet was sent: each table that it came to, and that accepts it, knows its session from now on."""
        for name in _tables(stops):
            here = tuple(stop for stop in stops if stop.table == name)
            session = self.find(name, facts, now)
            is_accepted = self.expect(facts, here, now, invalid).is_accepted
            if name not in invalid and _has_session(facts):
                if session is None and is_accepted:
                    session = self._open(name, facts, now)
                if session is not None:
                    _advance(session, facts, now)
            if not is_accepted:
                return

    def find(self, name: str, facts: HeaderFields, now: float) -> ModelSession | None:
        """The session in that table that a packet belongs to."""
        table, key = self._tables.get(name, OrderedDict()), _key(facts)
        session = table.get(key) or table.get(_reversed(key))
        if session is None or now - session.seen > self._idle(session):
            return None
        return None if session.is_closed and facts.protocol == TCP and facts.is_syn else session

    def _decide(self, facts: HeaderFields, stop: Stop, now: float) -> Decision:
        if facts.is_error:
            quoted = facts.quoted and self.find(stop.table, facts.quoted, now)
            return self._decide_opening(quoted, facts, stop) if quoted else _invalid(stop)
        session = self.find(stop.table, facts, now) if _has_session(facts) else None
        if session is None:
            return self._decided(_packet(facts, stop.eni_id, stop.direction))
        direction = stop.direction if session.is_forward(facts) else stop.direction.other
        return self._decided(_packet(session.opening, stop.eni_id, direction))

    def _decide_opening(self, session: ModelSession, error: HeaderFields, stop: Stop) -> Decision:
        """Of the session that an ICMP error is about: it goes against the packet that it quotes."""
        quoted = error.quoted
        is_forward = quoted is not None and session.is_forward(quoted)
        direction = stop.direction.other if is_forward else stop.direction
        return self._decided(_packet(session.opening, stop.eni_id, direction))

    def _open(self, name: str, facts: HeaderFields, now: float) -> ModelSession:
        table, key = self._tables.setdefault(name, OrderedDict()), _key(facts)
        table.pop(_reversed(key), None)
        session = table[key] = ModelSession(facts, now)
        if len(table) > MAX_SESSIONS:
            table.popitem(last=False)
        return session

    def _idle(self, session: ModelSession) -> int:
        """After how many seconds without a packet it is over."""
        return scaled(self._idle_unscaled(session), self._time_scale)

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
    """What conntrack takes for part of no session that there can be."""
    return Decision(stop.direction, Verdict.DROP, "invalid")


def _tables(stops: Stops) -> Iterator[str]:
    return iter(dict.fromkeys(stop.table for stop in stops))


def _has_session(facts: HeaderFields) -> bool:
    """Errors carry another's; AH over IPv6 is judged packet by packet."""
    return not facts.is_error and not (facts.protocol == AH and facts.source.family_bits == 128)


def _key(facts: HeaderFields) -> Key:
    sport, dport = facts.ports
    return facts.protocol, facts.icmp_type, facts.source, sport, facts.target, dport


def _reversed(key: Key) -> Key:
    protocol, kind, source, sport, target, dport = key
    return protocol, kind if kind is None else INVERSE.get((protocol, kind), kind), target, dport, source, sport


def _advance(session: ModelSession, facts: HeaderFields, now: float) -> None:
    is_forward = session.is_forward(facts)
    session.seen = now
    session.is_answered |= not is_forward
    if facts.protocol == TCP:
        session.is_reset |= bool(facts.tcp_flags & RST)
        if facts.tcp_flags & FIN:
            session.fins.add(is_forward)


def _packet(facts: HeaderFields, eni_id: str, direction: Direction) -> Packet:
    """A packet as one end's policy sees it."""
    is_egress = direction is Direction.EGRESS
    has_ports = facts.protocol in PORT_PROTOCOLS
    return Packet(
        eni_id=eni_id,
        direction=direction,
        remote=facts.target if is_egress else facts.source,
        local=facts.source if is_egress else facts.target,
        protocol=facts.protocol,
        port=facts.ports[1] if has_ports else None,
        source_port=facts.ports[0] if has_ports else None,
        icmp_type=facts.icmp_type,
        hop_limit=facts.hop_limit,
        is_syn=facts.is_syn,
    )

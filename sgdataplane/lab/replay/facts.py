"""What conntrack and policy look at in a datagram; and datagrams put together from fragments.

Owns both. Is given packets with the addresses they are sent with. Must not know rules.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from sgdataplane.lab.replay.packets import IpPacket, Readdressed, Unfit, find_packet, is_error, without_fragment_header
from sgdataplane.net.headers import ends_of, family_of, find_upper
from sgdataplane.net.values import GRE, ICMP, ICMPV6, TCP, UDP, Address

SCTP = 132
PORTED = (TCP, UDP, SCTP)
FIN, SYN, RST, ACK = 1, 2, 4, 16
RAW_IP = 101
MAX_PENDING = 256  # datagrams of which fragments are missing, at a time


@dataclass(frozen=True, slots=True)
class HeaderFields:
    """`ports`: source and destination where the protocol has some; of ICMP queries the identifier twice, of GRE the
    keys that conntrack goes by; else zeros. `quoted`: what an ICMP error is about."""

    source: Address
    target: Address
    protocol: int
    ports: tuple[int, int] = (0, 0)
    icmp_type: int | None = None
    tcp_flags: int = 0
    hop_limit: int = 64
    quoted: HeaderFields | None = None

    @property
    def is_syn(self) -> bool:
        """A bare SYN, or no TCP at all."""
        return self.protocol != TCP or self.tcp_flags & (FIN | SYN | RST | ACK) == SYN

    @property
    def is_error(self) -> bool:
        return is_error(self.protocol, self.icmp_type)


def header_fields(packet: IpPacket, source: Address, target: Address, upper: bytes) -> HeaderFields:
    """`upper`: the transport header and all behind it."""
    data, protocol = packet.data, packet.protocol
    hop_limit = data[8] if source.family_bits == 32 else data[7]
    if protocol in (ICMP, ICMPV6):
        kind = upper[0] if upper else None
        if is_error(protocol, kind):
            return HeaderFields(source, target, protocol, (0, 0), kind, 0, hop_limit, _quoted(upper[8:]))
        ident = int.from_bytes(upper[4:6], "big")
        return HeaderFields(source, target, protocol, (ident, ident), kind, 0, hop_limit)
    flags = upper[13] if protocol == TCP and len(upper) > 13 else 0
    return HeaderFields(source, target, protocol, _ports(protocol, upper), None, flags, hop_limit)


def _ports(protocol: int, upper: bytes) -> tuple[int, int]:
    if protocol in PORTED:
        return int.from_bytes(upper[0:2], "big"), int.from_bytes(upper[2:4], "big")
    if protocol == GRE and len(upper) >= 8 and upper[1] & 7 == 1:  # PPTP's: conntrack knows the callee's half
        return 0, int.from_bytes(upper[6:8], "big")
    return 0, 0


def _quoted(data: bytes) -> HeaderFields | None:
    """As far as it is there: a quotation may end anywhere behind its first eight octets."""
    try:
        packet: IpPacket | None = find_packet(RAW_IP, data, 1 << 16)
    except Unfit:
        packet = _shortened(data)
    if packet is None or packet.fragment:
        return None
    upper = packet.data[packet.upper :]
    if is_error(packet.protocol, upper[0] if upper else None):
        return None
    return header_fields(packet, packet.source, packet.target, upper)


def _shortened(data: bytes) -> IpPacket | None:
    """A quotation with its length corrected to what is there."""
    if family_of(data) is None:
        return None
    upper = find_upper(data)
    if not upper.is_here or len(data) < upper.at + 8:
        return None
    return IpPacket(data, *ends_of(data), upper.protocol, upper.at)


@dataclass(frozen=True, slots=True)
class Datagram:
    """What a receiver gets in one piece: its packets, and what stands behind its IP header wherever it is seen: of IPv6
    with a fragment header less behind each kernel that puts datagrams together, as long as it has one."""

    packets: tuple[Readdressed, ...]
    facts: HeaderFields
    forms: tuple[bytes, ...]


@dataclass(slots=True)
class _Pending:
    packets: list[Readdressed] = field(default_factory=list)
    pieces: dict[int, bytes] = field(default_factory=dict)
    end: int | None = None
    is_spoilt: bool = False


Key = tuple[Address, Address, int, int]


class Reassembly:
    """Collects fragments until their datagram is whole."""

    def __init__(self) -> None:
        self._pending: OrderedDict[Key, _Pending] = OrderedDict()
        self.given_up: list[Datagram] = []

    def add(self, sent: Readdressed) -> Datagram | None:
        """The datagram that this packet is, or completes; None if others are missing."""
        packet, piece = sent.packet, sent.packet.fragment
        if piece is None:
            upper = sent.data[packet.upper :]
            return Datagram((sent,), header_fields(packet, sent.source, sent.target, upper), _forms(sent.data))
        # the protocol is part of IPv4's key alone (RFC 791, RFC 8200)
        key = (sent.source, sent.target, piece.ident, sent.data[9] if sent.source.family_bits == 32 else 0)
        pending = self._pending.setdefault(key, _Pending())
        pending.packets.append(sent)
        _insert(pending, piece.offset, sent.data[piece.start :], is_last=piece.is_last)
        whole = _whole(pending)
        if whole is None:
            if len(self._pending) > MAX_PENDING:
                self._give_up(*self._pending.popitem(last=False))
            return None
        del self._pending[key]
        first = _first(pending)
        forms = _forms(first.data[: _start(first)] + whole)
        forms = forms[1:] or forms  # nobody sees it whole with its own header
        return Datagram(tuple(pending.packets), _facts(pending, whole), forms)

    def finish(self) -> None:
        """What is incomplete now stays so: it goes to `given_up`."""
        while self._pending:
            self._give_up(*self._pending.popitem(last=False))

    def _give_up(self, key: Key, pending: _Pending) -> None:
        if any(sent.packet.has_upper for sent in pending.packets):
            facts = _facts(pending, b"".join(octets for _, octets in sorted(pending.pieces.items())))
        else:
            facts = HeaderFields(key[0], key[1], pending.packets[0].packet.protocol)
        self.given_up.append(Datagram(tuple(pending.packets), facts, ()))


def _first(pending: _Pending) -> Readdressed:
    """The piece that has the transport header."""
    return next(sent for sent in pending.packets if sent.packet.has_upper)


def _start(sent: Readdressed) -> int:
    return sent.packet.fragment.start if sent.packet.fragment else 0


def _facts(pending: _Pending, payload: bytes) -> HeaderFields:
    first = _first(pending)
    return header_fields(first.packet, first.source, first.target, payload[first.packet.upper - _start(first) :])


def _forms(data: bytes) -> tuple[bytes, ...]:
    if data[0] >> 4 == 4:
        return (data[(data[0] & 15) * 4 :],)
    found = [data[40:]]
    while (shorter := without_fragment_header(data)) is not None:
        data = shorter
        found.append(data[40:])
    return tuple(found)


def _insert(pending: _Pending, offset: int, octets: bytes, *, is_last: bool) -> None:
    """As Linux does it: what lies within a piece that is there is a duplicate; what overlaps spoils the datagram."""
    end = offset + len(octets)
    if is_last and pending.end is None:
        pending.end = end
    for start, known in pending.pieces.items():
        if start <= offset and end <= start + len(known):
            return
        if offset < start + len(known) and start < end:
            pending.is_spoilt = True
    pending.pieces[offset] = octets


def _whole(pending: _Pending) -> bytes | None:
    if pending.is_spoilt or pending.end is None:
        return None
    at, parts = 0, []
    for offset in sorted(pending.pieces):
        if offset != at:
            return None
        parts.append(pending.pieces[offset])
        at += len(parts[-1])
    return b"".join(parts) if at == pending.end else None

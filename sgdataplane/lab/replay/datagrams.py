"""Datagrams: reassembled from fragments, with the header fields that conntrack and policy look at.

Owns both. It is given packets with the addresses they are sent with. Must not know rules.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from sgdataplane.lab.replay.packets import IpPacket, Readdressed, Unfit, find_packet, is_error, without_fragment_header
from sgdataplane.net.headers import Fragment, ends_of, family_of, find_upper
from sgdataplane.net.values import GRE, ICMP, ICMPV6, TCP, UDP, Address

SCTP = 132
PORTED = (TCP, UDP, SCTP)
FIN, SYN, RST, ACK = 1, 2, 4, 16
RAW_IP = 101
MAX_PENDING = 256  # how many incomplete datagrams are kept at a time


@dataclass(frozen=True, slots=True)
class HeaderFields:
    """The fields of a packet that conntrack and policy look at."""

    source: Address
    target: Address
    protocol: int
    ports: tuple[int, int] = (0, 0)
    """Source and destination where the protocol has ports; else a key that conntrack uses.

    That is the identifier twice for ICMP queries, conntrack's keys for GRE, and zeros for everything else.
    """
    icmp_type: int | None = None
    """None unless it is ICMP or ICMPv6."""
    tcp_flags: int = 0
    """0 unless it is TCP."""
    hop_limit: int = 64
    quoted: HeaderFields | None = None
    """The packet that an ICMP error is about; None if it is no error, or quotes too little."""

    @property
    def is_syn(self) -> bool:
        """Whether it is a bare SYN, or no TCP at all."""
        return self.protocol != TCP or self.tcp_flags & (FIN | SYN | RST | ACK) == SYN

    @property
    def is_error(self) -> bool:
        """Whether it is an ICMP error."""
        return is_error(self.protocol, self.icmp_type)


def header_fields(packet: IpPacket, source: Address, target: Address, upper: bytes) -> HeaderFields:
    """Read a packet's header fields. `upper` is the transport header and everything behind it."""
    data, protocol = packet.data, packet.protocol
    hop_limit = data[8] if source.family_bits == 32 else data[7]
    if protocol in (ICMP, ICMPV6):
        kind = upper[0] if upper else None
        if is_error(protocol, kind):
            return HeaderFields(source, target, protocol, (0, 0), kind, 0, hop_limit, _parse_quoted(upper[8:]))
        ident = int.from_bytes(upper[4:6], "big")
        return HeaderFields(source, target, protocol, (ident, ident), kind, 0, hop_limit)
    flags = upper[13] if protocol == TCP and len(upper) > 13 else 0
    return HeaderFields(source, target, protocol, _ports(protocol, upper), None, flags, hop_limit)


def _ports(protocol: int, upper: bytes) -> tuple[int, int]:
    """Return the ports, or what conntrack has in their place."""
    if protocol in PORTED:
        return int.from_bytes(upper[0:2], "big"), int.from_bytes(upper[2:4], "big")
    if protocol == GRE and len(upper) >= 8 and upper[1] & 7 == 1:  # PPTP: conntrack knows the callee's half of the key
        return 0, int.from_bytes(upper[6:8], "big")
    return 0, 0


def _parse_quoted(data: bytes) -> HeaderFields | None:
    """Read the fields of a quoted packet; None if it is a fragment, or an error itself.

    It may end anywhere behind the first eight octets of its transport header.
    """
    try:
        packet: IpPacket | None = find_packet(RAW_IP, data, 1 << 16)
    except Unfit:
        packet = _parse_shortened(data)
    if packet is None or packet.fragment:
        return None
    upper = packet.data[packet.upper :]
    if is_error(packet.protocol, upper[0] if upper else None):
        return None
    return header_fields(packet, packet.source, packet.target, upper)


def _parse_shortened(data: bytes) -> IpPacket | None:
    """Return a quoted packet whose end is missing, taken as it is; None if too little of it is there."""
    if family_of(data) is None:
        return None
    upper = find_upper(data)
    if not upper.is_here or len(data) < upper.at + 8:
        return None
    return IpPacket(data, *ends_of(data), upper.protocol, upper.at)


@dataclass(frozen=True, slots=True)
class Datagram:
    """One datagram as a receiver gets it, in one piece."""

    packets: tuple[Readdressed, ...]
    """The packets by which it was sent."""
    header: HeaderFields
    forms: tuple[bytes, ...]
    """The octets behind its IP header, in each form in which a log may see it.

    There are several for IPv6, because each kernel that reassembles a datagram removes one fragment header.
    """


class _Pending:
    """The fragments of one datagram that have been sent so far.

    If they overlap, the datagram is spoilt: it is never whole.
    """

    def __init__(self) -> None:
        self.packets: list[Readdressed] = []
        self._pieces: dict[int, bytes] = {}
        self._end: int | None = None
        self._is_spoilt = False

    def insert(self, sent: Readdressed, piece: Fragment) -> None:
        """Add a fragment as Linux does.

        One within a piece that is here is a duplicate; any other overlap spoils the datagram.
        """
        self.packets.append(sent)
        start, octets = piece.offset, sent.data[piece.start :]
        end = start + len(octets)
        if piece.is_last and self._end is None:
            self._end = end
        for other, known in self._pieces.items():
            if other <= start and end <= other + len(known):
                return
            if start < other + len(known) and other < end:
                self._is_spoilt = True
        self._pieces[start] = octets

    @property
    def payload(self) -> bytes:
        """All octets that are here, in order, without regard to gaps."""
        return b"".join(octets for _, octets in sorted(self._pieces.items()))

    def is_whole(self) -> bool:
        """Return whether pieces reach from the beginning to the end without a gap."""
        at = 0
        for start in sorted(self._pieces):
            if start != at:
                return False
            at += len(self._pieces[start])
        return at == self._end and not self._is_spoilt

    @property
    def first(self) -> Readdressed | None:
        """The fragment that has the transport header; None if it isn't here."""
        return next((sent for sent in self.packets if sent.packet.has_upper), None)


Key = tuple[Address, Address, int, int]


class Reassembly:
    """A collector of fragments, which keeps them until their datagram is whole.

    Attributes:
        given_up: Datagrams that never were whole. The caller takes them from here.
    """

    def __init__(self) -> None:
        self._pending: OrderedDict[Key, _Pending] = OrderedDict()
        self.given_up: list[Datagram] = []

    def add(self, sent: Readdressed) -> Datagram | None:
        """Return the datagram that this packet is, or completes; None if fragments are missing."""
        packet, piece = sent.packet, sent.packet.fragment
        if piece is None:
            upper = sent.data[packet.upper :]
            return Datagram((sent,), header_fields(packet, sent.source, sent.target, upper), _forms(sent.data))
        # only IPv4 has the protocol in its key (RFC 791, RFC 8200)
        key = (sent.source, sent.target, piece.ident, sent.data[9] if sent.source.family_bits == 32 else 0)
        pending = self._pending.setdefault(key, _Pending())
        pending.insert(sent, piece)
        if not pending.is_whole() or (first := pending.first) is None:
            if len(self._pending) > MAX_PENDING:
                self._give_up(*self._pending.popitem(last=False))
            return None
        del self._pending[key]
        forms = _forms(first.data[: _start(first)] + pending.payload)
        forms = forms[1:] or forms  # nobody sees it whole with its fragment header
        return Datagram(tuple(pending.packets), _header(first, pending.payload), forms)

    def finish(self) -> None:
        """Give up what is incomplete: it goes to `given_up`."""
        while self._pending:
            self._give_up(*self._pending.popitem(last=False))

    def _give_up(self, key: Key, pending: _Pending) -> None:
        if (first := pending.first) is not None:
            header = _header(first, pending.payload)
        else:
            header = HeaderFields(key[0], key[1], pending.packets[0].packet.protocol)
        self.given_up.append(Datagram(tuple(pending.packets), header, ()))


def _start(sent: Readdressed) -> int:
    """Return where a fragment's octets begin in its packet; 0 for a whole packet."""
    return sent.packet.fragment.start if sent.packet.fragment else 0


def _header(first: Readdressed, payload: bytes) -> HeaderFields:
    """Read the header fields of a datagram whose octets behind the IP headers are `payload`."""
    return header_fields(first.packet, first.source, first.target, payload[first.packet.upper - _start(first) :])


def _forms(data: bytes) -> tuple[bytes, ...]:
    """Return the octets behind the IP header: with all fragment headers, then with one less each."""
    if data[0] >> 4 == 4:
        return (data[(data[0] & 15) * 4 :],)
    found = [data[40:]]
    while (shorter := without_fragment_header(data)) is not None:
        data = shorter
        found.append(data[40:])
    return tuple(found)

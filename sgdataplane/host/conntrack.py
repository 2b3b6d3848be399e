"""The sessions that the kernel tracks in the calling thread's network namespace: list, add, forget, shorten them.

Owns the shape of these ctnetlink messages (linux/netfilter/nfnetlink_conntrack.h); marks.py clears fields of sessions'
marks. Its input is addresses, ports and numbers. Must not know policy, or what a mark means. It speaks netlink itself,
since pyroute2's NFCTSocket is seven times slower and /proc/net/nf_conntrack isn't in every kernel.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sgdataplane.errors import HostError
from sgdataplane.host import sysctl
from sgdataplane.host.modules import COUNT, is_tracking
from sgdataplane.host.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    attribute,
    nest,
    parse_attributes,
    refusals_of,
    uint,
)
from sgdataplane.host.nfnetlink import Nfnetlink, message_kind
from sgdataplane.net.values import PORT_PROTOCOLS, Address, Family

CTNETLINK, CT_NEW, CT_GET, CT_DELETE = 1, 0, 1, 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
# linux/netfilter/nfnetlink_conntrack.h
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_PROTOINFO, CTA_TIMEOUT, CTA_MARK = 1, 2, 3, 4, 7, 8
CTA_COUNTERS_ORIG, CTA_COUNTERS_REPLY, CTA_ID, CTA_ZONE, CTA_MARK_MASK = 9, 10, 12, 18, 21
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP = {Family.IPV4: (1, 2), Family.IPV6: (3, 4)}
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT, CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMPV6_TYPE = 1, 2, 3, 5, 8
CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE = 1, 1
CTA_PROTOINFO_TCP_FLAGS = (4, 5)  # of the original direction, and of the reply
CTA_COUNTERS_PACKETS, CTA_COUNTERS_BYTES = 1, 2
AF = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
FAMILIES = {int(number): family for family, number in AF.items()}
# IPS_*, linux/netfilter/nf_conntrack_common.h
SEEN_REPLY, ASSURED, CONFIRMED, OFFLOAD = 1 << 1, 1 << 2, 1 << 3, 1 << 14
SACK_PERM, BE_LIBERAL = 0x02, 0x08  # IP_CT_TCP_FLAG_*, linux/netfilter/nf_conntrack_tcp.h
# enum tcp_conntrack, linux/netfilter/nf_conntrack_tcp.h
TCP_STATES = (
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
)
MAX_PASSES = 3  # of shortening
GONE = (errno.ENOENT,)
FIXED = (errno.ENOENT, errno.ETIME, errno.EPERM)  # gone, going, or its time is fixed (nf_conntrack_core.c)
OTHER_STATES = ("UNREPLIED", "REPLIED", "ASSURED")  # of protocols without states of their own


@dataclass(frozen=True, slots=True)
class SessionTuple:
    """One direction of a session. Ports are 0 if the protocol has none. ICMP's identifiers aren't kept."""

    protocol: int
    source: Address
    target: Address
    source_port: int = 0
    port: int = 0

    @property
    def reverse(self) -> SessionTuple:
        """The other direction, without NAT."""
        return SessionTuple(self.protocol, self.target, self.source, self.port, self.source_port)


@dataclass(frozen=True, slots=True)
class Accounting:
    """The packets that went one way, and their bytes with IP headers."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Tracked:
    """One session as the kernel keeps it."""

    original: SessionTuple
    reply: SessionTuple
    """The tuple of its answers; NAT makes it differ from the original's reverse."""
    state: str
    """A TCP state, or how much of an exchange the kernel saw (OTHER_STATES)."""
    seconds_left: int
    """Seconds until the session ends, if nothing more comes."""
    mark: int
    icmp_type: int | None = None
    """The opening packet's ICMP type; None if it isn't ICMP."""
    sent: Accounting | None = None
    """What the opening end sent; None unless the kernel counts (sysctl net.netfilter.nf_conntrack_acct)."""
    answered: Accounting | None = None
    """What the other end sent; None as for `sent`."""
    is_carried: bool = False
    """Whether a flowtable carries it past all hooks.

    The kernel doesn't report the time left of such a session, so `seconds_left` is 0.
    """


Entry = tuple[int, dict[int, bytes]]  # a listed session: its family's number, its attributes
Bound = Callable[[Tracked], int | None]  # how many seconds a session may have left; None: any number


def list_tracked() -> list[Tracked]:
    """Return all sessions; an empty list if the kernel tracks none yet.

    Raises:
        HostError: The kernel refuses.
    """
    with Nfnetlink() as netlink:
        return [_parse_entry(entry) for entry in _entries(netlink)]


def end_tracked(is_over: Callable[[Tracked], bool]) -> int:
    """Make the kernel forget each session for which `is_over` is true; return how many.

    The next packet of such a session begins another one, or none.

    Raises:
        HostError: The kernel refuses.
    """
    with Nfnetlink() as netlink:
        return sum(_end(netlink, entry) for entry in _entries(netlink) if is_over(_parse_entry(entry)))


def _entries(netlink: Nfnetlink) -> list[Entry]:
    return [entry for entry in _dump(netlink) if entry[0] in FAMILIES]


def _dump(netlink: Nfnetlink) -> list[Entry]:
    """Return all entries.

    If the namespace has none, the kernel isn't asked: to list them it walks those of all namespaces (3 to 10 ms).
    """
    if not is_tracking(netlink) or sysctl.read(COUNT) == "0":
        return []
    with refusals_of("conntrack table"):
        return netlink.dump(message_kind(CTNETLINK, CT_GET))


def _end(netlink: Nfnetlink, entry: Entry) -> bool:
    """End a session; False if it has ended.

    The identifier keeps a later session with the same tuple from being ended instead.
    """
    found = entry[1]
    return _change(netlink, CT_DELETE, entry, attribute(CTA_ID, found[CTA_ID]) if CTA_ID in found else b"")


def _change(netlink: Nfnetlink, message: int, entry: Entry, change: bytes, gone: Container[int] = GONE) -> bool:
    """Change one listed session, named by its tuple as the kernel gave it.

    Return False if one of the errors `gone` says that there is nothing to change any more.

    Raises:
        HostError: The kernel refuses for another reason.
    """
    family, found = entry
    named = nest(CTA_TUPLE_ORIG, [found[CTA_TUPLE_ORIG]])
    zone = attribute(CTA_ZONE, found[CTA_ZONE]) if CTA_ZONE in found else b""
    try:
        netlink.tell(message_kind(CTNETLINK, message), family, named + change + zone)
    except OSError as error:
        if error.errno in gone:
            return False
        raise HostError("conntrack entry", os.strerror(error.errno or 0)) from error
    return True


def shorten_tracked(longest: Bound) -> int:
    """Shorten the time that sessions have left to what `longest` allows each; return how many had more.

    No session gets more time than it had. A session may enter a shorter-lived state between being read and being
    changed, and then get too much time. So all are read again until none has more than it may. A session whose time
    somebody else has fixed keeps that time.

    Raises:
        HostError: The kernel refuses.
    """
    shortened = 0
    with Nfnetlink() as netlink:
        for _ in range(MAX_PASSES):
            cut = sum(_shorten(netlink, entry, longest) for entry in _entries(netlink))
            shortened += cut
            if not cut:
                break
    return shortened


def _shorten(netlink: Nfnetlink, entry: Entry, longest: Bound) -> bool:
    session = _parse_entry(entry)
    seconds = longest(session)
    if seconds is None or session.seconds_left <= seconds:
        return False
    return _change(netlink, CT_NEW, entry, attribute(CTA_TIMEOUT, seconds.to_bytes(4, "big")), FIXED)


def _parse_entry(entry: Entry) -> Tracked:
    return parse_tracked(FAMILIES[entry[0]], entry[1])


def parse_tracked(family: Family, entry: Mapping[int, bytes]) -> Tracked:
    """Read one session from a message's attributes."""
    original, icmp_type = _parse_tuple(family, entry[CTA_TUPLE_ORIG])
    reply, _ = _parse_tuple(family, entry[CTA_TUPLE_REPLY])
    return Tracked(
        original,
        reply,
        _state(entry.get(CTA_PROTOINFO, b""), uint(entry.get(CTA_STATUS, b""))),
        uint(entry.get(CTA_TIMEOUT, b"")),
        uint(entry.get(CTA_MARK, b"")),
        icmp_type,
        _traffic(entry.get(CTA_COUNTERS_ORIG)),
        _traffic(entry.get(CTA_COUNTERS_REPLY)),
        bool(uint(entry.get(CTA_STATUS, b"")) & OFFLOAD),
    )


def _parse_tuple(family: Family, data: bytes) -> tuple[SessionTuple, int | None]:
    """Return the tuple, and the type if it is ICMP. GRE has keys in place of ports; no policy asks for them."""
    parts = parse_attributes(data)
    addresses, transport = parse_attributes(parts[CTA_TUPLE_IP]), parse_attributes(parts[CTA_TUPLE_PROTO])
    source, target = (Address(family.bits, uint(addresses[kind])) for kind in CTA_IP[family])
    protocol = transport[CTA_PROTO_NUM][0]
    ports = (0, 0)
    if protocol in PORT_PROTOCOLS:
        ports = uint(transport[CTA_PROTO_SRC_PORT]), uint(transport[CTA_PROTO_DST_PORT])
    kind = transport.get(CTA_PROTO_ICMP_TYPE) or transport.get(CTA_PROTO_ICMPV6_TYPE)
    return SessionTuple(protocol, source, target, *ports), kind[0] if kind else None


@lru_cache(maxsize=4096)
def _state(protocol_info: bytes, status: int) -> str:
    tcp = parse_attributes(protocol_info).get(CTA_PROTOINFO_TCP)
    if tcp is not None:
        number = parse_attributes(tcp)[CTA_PROTOINFO_TCP_STATE][0]
        return TCP_STATES[number] if number < len(TCP_STATES) else str(number)
    return OTHER_STATES[(status & SEEN_REPLY > 0) + (status & ASSURED > 0)]


def _traffic(counters: bytes | None) -> Accounting | None:
    if counters is None:
        return None
    found = parse_attributes(counters)
    return Accounting(uint(found[CTA_COUNTERS_PACKETS]), uint(found[CTA_COUNTERS_BYTES]))


def track_established(sessions: Iterable[SessionTuple], seconds: int) -> int:
    """Have the kernel track these TCP sessions as established, with mark 0 and `seconds` to live.

    Return how many it did not track yet. A session that it knows already, whichever end opened it, stays as it is. If
    the table is full, the rest is left out.

    Raises:
        HostError: The kernel refuses.
    """
    made = 0
    with Nfnetlink() as netlink:
        for session in sessions:
            message, family = _encode_established(session, seconds), AF[session.source.family]
            try:
                netlink.tell(message_kind(CTNETLINK, CT_NEW), family, message, NLM_F_CREATE | NLM_F_EXCL)
                made += 1
            except OSError as error:
                if error.errno == errno.ENOMEM:
                    break
                if error.errno != errno.EEXIST:
                    raise HostError(f"conntrack entry {session}", os.strerror(error.errno or 0)) from error
    return made


def _encode_established(session: SessionTuple, seconds: int) -> bytes:
    """Return what ctnetlink needs for a new entry: both tuples, a timeout, and a status that confirms it.

    Nobody knows the session's TCP windows, so conntrack doesn't enforce them, as with a session that it first sees
    mid-stream (nf_conntrack_proto_tcp.c, tcp_new).
    """
    flags = bytes([SACK_PERM | BE_LIBERAL] * 2)  # value and mask
    state = attribute(CTA_PROTOINFO_TCP_STATE, bytes([TCP_STATES.index("ESTABLISHED")]))
    tcp = nest(CTA_PROTOINFO_TCP, (state, *(attribute(kind, flags) for kind in CTA_PROTOINFO_TCP_FLAGS)))
    status = CONFIRMED | ASSURED | SEEN_REPLY
    return b"".join(
        (
            _tuple(session, CTA_TUPLE_ORIG),
            _tuple(session.reverse, CTA_TUPLE_REPLY),
            attribute(CTA_STATUS, status.to_bytes(4, "big")),
            attribute(CTA_TIMEOUT, seconds.to_bytes(4, "big")),
            nest(CTA_PROTOINFO, (tcp,)),
        )
    )


def forget(session: SessionTuple) -> None:
    """Make the kernel forget the session, whichever end opened it; no error if it doesn't know it."""
    with Nfnetlink() as netlink:
        if not is_tracking(netlink):
            return
        for direction in (session, session.reverse):
            message, family = _tuple(direction, CTA_TUPLE_ORIG), AF[direction.source.family]
            try:
                netlink.tell(message_kind(CTNETLINK, CT_DELETE), family, message)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise HostError(f"conntrack entry {direction}", os.strerror(error.errno or 0)) from error


def _tuple(session: SessionTuple, kind: int) -> bytes:
    source_type, target_type = CTA_IP[session.source.family]
    addresses = (
        attribute(source_type, _pack_address(session.source)),
        attribute(target_type, _pack_address(session.target)),
    )
    transport = (
        attribute(CTA_PROTO_NUM, bytes([session.protocol])),
        attribute(CTA_PROTO_SRC_PORT, session.source_port.to_bytes(2, "big")),
        attribute(CTA_PROTO_DST_PORT, session.port.to_bytes(2, "big")),
    )
    return nest(kind, (nest(CTA_TUPLE_IP, addresses), nest(CTA_TUPLE_PROTO, transport)))


def _pack_address(address: Address) -> bytes:
    return address.value.to_bytes(address.family_bits // 8, "big")

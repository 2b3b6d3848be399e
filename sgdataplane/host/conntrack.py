"""Sessions that the kernel tracks in the calling thread's network namespace: listing all, making some, forgetting one,
leaving some less time.

Owns the shape of these ctnetlink messages. Is given addresses and ports. Must not know policy.

Read by our own netlink: 100,000 sessions take 2 s on two busy cores. pyroute2's NFCTSocket takes 14 s until every
attribute that is wanted here is decoded (6 s for messages alone), and /proc/net/nf_conntrack isn't in every kernel.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sgdataplane.errors import HostError
from sgdataplane.host.modules import is_tracking
from sgdataplane.host.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    attribute,
    nested,
    parse_attributes,
)
from sgdataplane.host.nfnetlink import Nfnetlink, message_kind
from sgdataplane.net.values import PORT_PROTOCOLS, Address, Family

CTNETLINK, CT_NEW, CT_GET, CT_DELETE = 1, 0, 1, 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
# linux/netfilter/nfnetlink_conntrack.h
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_PROTOINFO, CTA_TIMEOUT, CTA_MARK = 1, 2, 3, 4, 7, 8
CTA_COUNTERS_ORIG, CTA_COUNTERS_REPLY, CTA_ID, CTA_ZONE = 9, 10, 12, 18
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
OTHER_STATES = ("UNREPLIED", "REPLIED", "ASSURED")  # of protocols without states of their own


@dataclass(frozen=True, slots=True)
class SessionTuple:
    """One direction of a session; ports are 0 where there are none. Not for ICMP, which has identifiers instead."""

    protocol: int
    source: Address
    target: Address
    source_port: int = 0
    port: int = 0

    @property
    def reverse(self) -> SessionTuple:
        return SessionTuple(self.protocol, self.target, self.source, self.port, self.source_port)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went one way: packets, and bytes with their IP headers."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Tracked:
    """One session as the kernel keeps it. `reply` is what answers look like, which differs from the original's reverse
    by what NAT does. `state` is a TCP state, or how much of an exchange was seen (OTHER_STATES); it ends in
    `seconds_left` if nothing more comes. `icmp_type` is the opening packet's. `sent` and `answered` are None unless
    the kernel counts (sysctl net.netfilter.nf_conntrack_acct). `is_carried`: by a flowtable, past all hooks; then the
    kernel doesn't say how long it has left, and `seconds_left` is 0."""

    original: SessionTuple
    reply: SessionTuple
    state: str
    seconds_left: int
    mark: int
    icmp_type: int | None = None
    sent: Traffic | None = None
    answered: Traffic | None = None
    is_carried: bool = False


Bound = Callable[[Tracked], int | None]  # the seconds that a session may have left; None: any


def list_tracked() -> list[Tracked]:
    """All sessions; none where the kernel tracks none yet. HostError if it refuses."""
    with Nfnetlink() as door:
        return [parse_tracked(FAMILIES[number], entry) for number, entry in _entries(door)]


def end_tracked(is_over: Callable[[Tracked], bool]) -> int:
    """Make the kernel forget the sessions of which that holds; how many there were. The next packet of one begins
    another session, or none. HostError if the kernel refuses."""
    with Nfnetlink() as door:
        over = ((n, entry) for n, entry in _entries(door) if is_over(parse_tracked(FAMILIES[n], entry)))
        return sum(_end(door, number, entry) for number, entry in over)


def _entries(door: Nfnetlink) -> list[tuple[int, dict[int, bytes]]]:
    if not is_tracking(door):
        return []
    try:
        return [entry for entry in door.dump(message_kind(CTNETLINK, CT_GET)) if entry[0] in FAMILIES]
    except OSError as error:
        raise HostError("conntrack table", os.strerror(error.errno or 0)) from error


def _end(door: Nfnetlink, family: int, entry: Mapping[int, bytes]) -> bool:
    """False if it has ended; a later one with the same addresses and ports is another one."""
    asked = nested(CTA_TUPLE_ORIG, [entry[CTA_TUPLE_ORIG]])
    asked += b"".join(attribute(kind, entry[kind]) for kind in (CTA_ID, CTA_ZONE) if kind in entry)
    try:
        door.tell(message_kind(CTNETLINK, CT_DELETE), family, asked)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise HostError("conntrack entry", os.strerror(error.errno or 0)) from error
    return True


def shorten_tracked(longest: Bound) -> int:
    """Bring down how long sessions have left, if nothing more comes, to what `longest` says of each (None: it may have
    any time); how many had more. It is never raised. HostError if the kernel refuses.

    A session may go on to a state with less time after it was read, and get that of the one before: so all are read
    again until none has more. A session whose time somebody else has fixed keeps it, and ends then whatever comes.
    """
    shortened = 0
    with Nfnetlink() as door:
        for _ in range(MAX_PASSES):
            cut = sum(_shorten(door, number, entry, longest) for number, entry in _entries(door))
            shortened += cut
            if not cut:
                break
    return shortened


def _shorten(door: Nfnetlink, family: int, entry: Mapping[int, bytes], longest: Bound) -> bool:
    found = parse_tracked(FAMILIES[family], entry)
    seconds = longest(found)
    if seconds is None or found.seconds_left <= seconds:
        return False
    asked = [nested(CTA_TUPLE_ORIG, [entry[CTA_TUPLE_ORIG]]), attribute(CTA_TIMEOUT, seconds.to_bytes(4, "big"))]
    if CTA_ZONE in entry:
        asked.append(attribute(CTA_ZONE, entry[CTA_ZONE]))
    try:
        door.tell(message_kind(CTNETLINK, CT_NEW), family, b"".join(asked))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ETIME, errno.EPERM):  # gone, going, or fixed (nf_conntrack_core.c)
            return False
        raise HostError("conntrack entry", os.strerror(error.errno or 0)) from error
    return True


def parse_tracked(family: Family, entry: Mapping[int, bytes]) -> Tracked:
    """One session from a message's attributes."""
    original, icmp_type = _parse_tuple(family, entry[CTA_TUPLE_ORIG])
    reply, _ = _parse_tuple(family, entry[CTA_TUPLE_REPLY])
    return Tracked(
        original,
        reply,
        _state(entry.get(CTA_PROTOINFO, b""), _number(entry.get(CTA_STATUS, b""))),
        _number(entry.get(CTA_TIMEOUT, b"")),
        _number(entry.get(CTA_MARK, b"")),
        icmp_type,
        _traffic(entry.get(CTA_COUNTERS_ORIG)),
        _traffic(entry.get(CTA_COUNTERS_REPLY)),
        bool(_number(entry.get(CTA_STATUS, b"")) & OFFLOAD),
    )


def _parse_tuple(family: Family, data: bytes) -> tuple[SessionTuple, int | None]:
    """The tuple, and the type if it is of ICMP. GRE has keys where others have ports; no policy speaks of them."""
    parts = parse_attributes(data)
    addresses, transport = parse_attributes(parts[CTA_TUPLE_IP]), parse_attributes(parts[CTA_TUPLE_PROTO])
    source, target = (Address(family.bits, _number(addresses[kind])) for kind in CTA_IP[family])
    protocol = transport[CTA_PROTO_NUM][0]
    ports = (0, 0)
    if protocol in PORT_PROTOCOLS:
        ports = _number(transport[CTA_PROTO_SRC_PORT]), _number(transport[CTA_PROTO_DST_PORT])
    kind = transport.get(CTA_PROTO_ICMP_TYPE) or transport.get(CTA_PROTO_ICMPV6_TYPE)
    return SessionTuple(protocol, source, target, *ports), kind[0] if kind else None


@lru_cache(maxsize=4096)
def _state(protocol_info: bytes, status: int) -> str:
    tcp = parse_attributes(protocol_info).get(CTA_PROTOINFO_TCP)
    if tcp is not None:
        number = parse_attributes(tcp)[CTA_PROTOINFO_TCP_STATE][0]
        return TCP_STATES[number] if number < len(TCP_STATES) else str(number)
    return OTHER_STATES[(status & SEEN_REPLY > 0) + (status & ASSURED > 0)]


def _traffic(counters: bytes | None) -> Traffic | None:
    if counters is None:
        return None
    found = parse_attributes(counters)
    return Traffic(_number(found[CTA_COUNTERS_PACKETS]), _number(found[CTA_COUNTERS_BYTES]))


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def track_established(sessions: Iterable[SessionTuple], seconds: int) -> int:
    """Have the kernel track these TCP sessions as established, with mark 0 and that long to live; how many it did not
    track yet.

    One that it knows already, whichever end began it, stays what it is. Where the table is full the rest is left out.
    HostError if the kernel refuses.
    """
    made = 0
    with Nfnetlink() as door:
        for session in sessions:
            message, family = _established(session, seconds), AF[session.source.family]
            try:
                door.tell(message_kind(CTNETLINK, CT_NEW), family, message, NLM_F_CREATE | NLM_F_EXCL)
                made += 1
            except OSError as error:
                if error.errno == errno.ENOMEM:
                    break
                if error.errno != errno.EEXIST:
                    raise HostError(f"conntrack entry {session}", os.strerror(error.errno or 0)) from error
    return made


def _established(session: SessionTuple, seconds: int) -> bytes:
    """What ctnetlink asks of a new entry: both tuples, a timeout, and a status that has it confirmed.

    Nobody knows the session's windows, so none are enforced, as with one that conntrack itself meets in its middle
    (nf_conntrack_proto_tcp.c, tcp_new).
    """
    flags = bytes([SACK_PERM | BE_LIBERAL] * 2)  # these bits, of these bits
    state = attribute(CTA_PROTOINFO_TCP_STATE, bytes([TCP_STATES.index("ESTABLISHED")]))
    tcp = nested(CTA_PROTOINFO_TCP, (state, *(attribute(kind, flags) for kind in CTA_PROTOINFO_TCP_FLAGS)))
    status = CONFIRMED | ASSURED | SEEN_REPLY
    return b"".join(
        (
            _tuple(session, CTA_TUPLE_ORIG),
            _tuple(session.reverse, CTA_TUPLE_REPLY),
            attribute(CTA_STATUS, status.to_bytes(4, "big")),
            attribute(CTA_TIMEOUT, seconds.to_bytes(4, "big")),
            nested(CTA_PROTOINFO, (tcp,)),
        )
    )


def forget(session: SessionTuple) -> None:
    """Make the kernel forget the session, whichever end began it; no error if it knows none."""
    with Nfnetlink() as door:
        if not is_tracking(door):
            return
        for direction in (session, session.reverse):
            message, family = _tuple(direction, CTA_TUPLE_ORIG), AF[direction.source.family]
            try:
                door.tell(message_kind(CTNETLINK, CT_DELETE), family, message)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise HostError(f"conntrack entry {direction}", os.strerror(error.errno or 0)) from error


def _tuple(session: SessionTuple, kind: int) -> bytes:
    source_type, target_type = CTA_IP[session.source.family]
    addresses = (attribute(source_type, _packed(session.source)), attribute(target_type, _packed(session.target)))
    transport = (
        attribute(CTA_PROTO_NUM, bytes([session.protocol])),
        attribute(CTA_PROTO_SRC_PORT, session.source_port.to_bytes(2, "big")),
        attribute(CTA_PROTO_DST_PORT, session.port.to_bytes(2, "big")),
    )
    return nested(kind, (nested(CTA_TUPLE_IP, addresses), nested(CTA_TUPLE_PROTO, transport)))


def _packed(address: Address) -> bytes:
    return address.value.to_bytes(address.family_bits // 8, "big")

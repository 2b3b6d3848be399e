"""Entries of a conntrack table by the thousand, made by asking the kernel for them instead of by packets."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from sgdataplane.host import netns
from sgdataplane.host.conntrack import (
    AF,
    CTA_IP,
    CTA_MARK,
    CTA_PROTO_DST_PORT,
    CTA_PROTO_ICMP_TYPE,
    CTA_PROTO_ICMPV6_TYPE,
    CTA_PROTO_NUM,
    CTA_PROTO_SRC_PORT,
    CTA_PROTOINFO,
    CTA_PROTOINFO_TCP,
    CTA_PROTOINFO_TCP_STATE,
    CTA_STATUS,
    CTA_TIMEOUT,
    CTA_TUPLE_IP,
    CTA_TUPLE_ORIG,
    CTA_TUPLE_PROTO,
    CTA_TUPLE_REPLY,
    CTNETLINK,
    Accounting,
    SessionTuple,
    Tracked,
    list_tracked,
)
from sgdataplane.host.netlink import NLM_F_CREATE, NLM_F_EXCL, attribute, nest
from sgdataplane.host.nfnetlink import Nfnetlink, message_kind
from sgdataplane.net.values import TCP, Address, Family

FIRST_SOURCE = 0xC6120000  # 198.18.0.0, for benchmarks (RFC 2544)
CT_NEW, CREATE = 0, NLM_F_CREATE | NLM_F_EXCL
CONFIRMED_ASSURED = 0xE  # IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED
ESTABLISHED = 3
ICMP_TYPES = {Family.IPV4: CTA_PROTO_ICMP_TYPE, Family.IPV6: CTA_PROTO_ICMPV6_TYPE}


def tuple_of(text: str, protocol: int = TCP) -> SessionTuple:
    """A tuple from `address[/port] address[/port]`: from whom, to whom."""
    (source, source_port), (target, port) = (end.partition("/")[::2] for end in text.split())
    return SessionTuple(protocol, Address.parse(source), Address.parse(target), int(source_port or 0), int(port or 0))


def tracked(
    original: str,
    reply: str = "",
    *,
    protocol: int = TCP,
    mark: int = 0,
    state: str = "ESTABLISHED",
    icmp_type: int | None = None,
    counted: tuple[Accounting, Accounting] | None = None,
) -> Tracked:
    """An entry as the reader gives it; without a `reply` nothing is translated."""
    opened = tuple_of(original, protocol)
    answer = tuple_of(reply, protocol) if reply else opened.reverse
    sent, answered = counted or (None, None)
    return Tracked(opened, answer, state, 900, mark, icmp_type, sent, answered)


def fill(namespace: str, sessions: Iterable[SessionTuple], mark: int = 0) -> None:
    """Make an established, marked TCP entry for each."""
    with netns.inside(namespace), Nfnetlink() as door:
        for session in sessions:
            kind, family = message_kind(CTNETLINK, CT_NEW), AF[session.source.family]
            door.tell(kind, family, message(session, mark=mark), CREATE)


def message(
    opened: SessionTuple,
    reply: SessionTuple | None = None,
    *,
    mark: int = 0,
    tcp_state: int | None = ESTABLISHED,
    icmp_type: int | None = None,
) -> bytes:
    """The attributes of one entry, as the kernel writes and takes them; 900 seconds are left."""
    parts = [
        nest(CTA_TUPLE_ORIG, _ends(opened, icmp_type)),
        nest(CTA_TUPLE_REPLY, _ends(reply or opened.reverse, icmp_type)),
        attribute(CTA_TIMEOUT, (900).to_bytes(4, "big")),
        attribute(CTA_STATUS, CONFIRMED_ASSURED.to_bytes(4, "big")),
        attribute(CTA_MARK, mark.to_bytes(4, "big")),
    ]
    if tcp_state is not None:
        state = nest(CTA_PROTOINFO_TCP, [attribute(CTA_PROTOINFO_TCP_STATE, bytes([tcp_state]))])
        parts.append(nest(CTA_PROTOINFO, [state]))
    return b"".join(parts)


def _ends(session: SessionTuple, icmp_type: int | None) -> tuple[bytes, bytes]:
    family = session.source.family
    addresses = [
        attribute(kind, socket.inet_pton(AF[family], str(address)))
        for kind, address in zip(CTA_IP[family], (session.source, session.target), strict=True)
    ]
    transport = [attribute(CTA_PROTO_NUM, bytes([session.protocol]))]
    if icmp_type is None:
        transport.append(attribute(CTA_PROTO_SRC_PORT, session.source_port.to_bytes(2, "big")))
        transport.append(attribute(CTA_PROTO_DST_PORT, session.port.to_bytes(2, "big")))
    else:
        transport.append(attribute(ICMP_TYPES[family], bytes([icmp_type])))
    return nest(CTA_TUPLE_IP, addresses), nest(CTA_TUPLE_PROTO, transport)


def fill_many(namespace: str, many: int, mark: int = 0) -> None:
    """Make so many established, marked TCP entries, thousands of them in one message."""
    model = message(tuple_of("198.18.0.0/1000 198.51.100.1/80"), mark=mark)
    parts = model.split(socket.inet_aton("198.18.0.0"))
    kind, family = message_kind(CTNETLINK, CT_NEW), AF[Family.IPV4]
    with netns.inside(namespace), Nfnetlink() as door:
        for first in range(0, many, 100):
            sources = (FIRST_SOURCE + number for number in range(first, min(first + 100, many)))
            entries = [(family, source.to_bytes(4, "big").join(parts)) for source in sources]
            door.tell_all(kind, entries, flags=CREATE)


def marks_of(namespace: str) -> list[int]:
    """The marks of all sessions there."""
    with netns.inside(namespace):
        return [entry.mark for entry in list_tracked()]

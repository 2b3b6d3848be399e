"""Sessions that the kernel tracks in the calling thread's network namespace: forgetting one.

Owns the few ctnetlink messages this takes, built by hand: the lab's agents must start without loading more.
Is given addresses and ports. Must not know policy.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass

from sgdataplane.errors import HostError
from sgdataplane.net.values import Address, Family

NETLINK_NETFILTER = 12  # linux/netlink.h
CT_DELETE = (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
REQUEST_WITH_ACK = 1 | 4
NESTED = 0x8000
CTA_TUPLE_ORIG, CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 1, 2  # linux/netfilter/nfnetlink_conntrack.h
CTA_IP = {Family.IPV4: (1, 2), Family.IPV6: (3, 4)}
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
AF = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
GONE = (0, errno.ENOENT)


@dataclass(frozen=True, slots=True)
class SessionTuple:
    """One direction of a session. Ports are 0 for protocols without; ICMP has identifiers instead, and isn't for this."""

    protocol: int
    source: Address
    target: Address
    source_port: int = 0
    port: int = 0

    @property
    def reverse(self) -> SessionTuple:
        return SessionTuple(self.protocol, self.target, self.source, self.port, self.source_port)


def forget(session: SessionTuple) -> None:
    """Make the kernel forget the session, whichever end began it; no error if it knows none."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as door:
        for direction in (session, session.reverse):
            door.send(_delete_message(direction))
            code = -struct.unpack("=i", door.recv(4096)[16:20])[0]
            if code not in GONE:
                raise HostError(f"conntrack entry {direction}", os.strerror(code))


def _delete_message(session: SessionTuple) -> bytes:
    family = session.source.family
    source_type, target_type = CTA_IP[family]
    addresses = _attribute(source_type, _packed(session.source)) + _attribute(target_type, _packed(session.target))
    transport = (
        _attribute(CTA_PROTO_NUM, bytes([session.protocol]))
        + _attribute(CTA_PROTO_SRC_PORT, session.source_port.to_bytes(2, "big"))
        + _attribute(CTA_PROTO_DST_PORT, session.port.to_bytes(2, "big"))
    )
    inner = _attribute(CTA_TUPLE_IP | NESTED, addresses) + _attribute(CTA_TUPLE_PROTO | NESTED, transport)
    body = struct.pack("=BBH", AF[family], 0, 0) + _attribute(CTA_TUPLE_ORIG | NESTED, inner)
    return struct.pack("=IHHII", 16 + len(body), CT_DELETE, REQUEST_WITH_ACK, 1, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    """A netlink attribute: length and type, then the value, padded to 4 octets."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _packed(address: Address) -> bytes:
    return address.value.to_bytes(address.family_bits // 8, "big")

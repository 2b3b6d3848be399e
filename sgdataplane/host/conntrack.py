"""Sessions that the kernel tracks in the calling thread's network namespace: forgetting one.

Owns the shape of these ctnetlink requests. Is given addresses and ports. Must not know policy.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass

from sgdataplane.errors import HostError
from sgdataplane.host.nfnetlink import Nfnetlink, attribute, message_kind, nested
from sgdataplane.net.values import Address, Family

CTNETLINK, CT_DELETE = 1, 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
CTA_TUPLE_ORIG, CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 1, 2  # linux/netfilter/nfnetlink_conntrack.h
CTA_IP = {Family.IPV4: (1, 2), Family.IPV6: (3, 4)}
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
AF = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}


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


def forget(session: SessionTuple) -> None:
    """Make the kernel forget the session, whichever end began it; no error if it knows none."""
    with Nfnetlink() as door:
        for direction in (session, session.reverse):
            try:
                door.tell(message_kind(CTNETLINK, CT_DELETE), AF[direction.source.family], _tuple(direction))
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise HostError(f"conntrack entry {direction}", os.strerror(error.errno or 0)) from error


def _tuple(session: SessionTuple) -> bytes:
    source_type, target_type = CTA_IP[session.source.family]
    addresses = (attribute(source_type, _packed(session.source)), attribute(target_type, _packed(session.target)))
    transport = (
        attribute(CTA_PROTO_NUM, bytes([session.protocol])),
        attribute(CTA_PROTO_SRC_PORT, session.source_port.to_bytes(2, "big")),
        attribute(CTA_PROTO_DST_PORT, session.port.to_bytes(2, "big")),
    )
    return nested(CTA_TUPLE_ORIG, (nested(CTA_TUPLE_IP, addresses), nested(CTA_TUPLE_PROTO, transport)))


def _packed(address: Address) -> bytes:
    return address.value.to_bytes(address.family_bits // 8, "big")

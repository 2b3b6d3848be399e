"""Packets that log rules of nftables copy to us, in the order in which they came by.

Owns one socket of nfnetlink_log and its group. Is made in the namespace whose packets it is for. Must not know who logs
what.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from sgdataplane.errors import HostError
from sgdataplane.host.netlink import SO_RCVBUFFORCE, attribute, messages, parse_attributes, received
from sgdataplane.host.nfnetlink import GENMSG, Nfnetlink, message_kind
from sgdataplane.lab.tap import BUFFER_BYTES

PREROUTING, LOCAL_IN, POSTROUTING = 0, 1, 4  # NF_INET_*
ULOG, PACKET, CONFIG = 4, 0, 1  # NFNL_SUBSYS_ULOG, NFULNL_MSG_*
CFG_CMD, CFG_MODE, CMD_BIND, COPY_PACKET = 1, 2, 1, 2  # NFULA_CFG_*, NFULNL_*
ATTR_HEADER, ATTR_PAYLOAD, ATTR_PREFIX = 1, 9, 10  # NFULA_PACKET_HDR, NFULA_PAYLOAD, NFULA_PREFIX


@dataclass(frozen=True, slots=True)
class LoggedPacket:
    """A packet, or its beginning, from its IP header on; the hook it was at, and the log rule's prefix."""

    hook: int
    prefix: bytes
    packet: bytes


class PacketLog(Nfnetlink):
    """A group of log messages that nobody else has. `copied`: how many octets of a packet are wanted."""

    def __init__(self, copied: int) -> None:
        super().__init__()
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._has_lost = False
        self.group = self._bind(copied)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """For whoever waits for what comes."""
        return self._socket.fileno()

    def read(self, most: int) -> Iterator[LoggedPacket]:
        """What has come by, of at most so many messages."""
        for part in islice(received(self._socket), most):
            if part.is_lossy:
                self._has_lost = True
                return
            yield from _logged(part.data)

    def take_lost(self) -> bool:
        """Whether messages were lost for want of room since the last time it was asked."""
        has_lost, self._has_lost = self._has_lost, False
        return has_lost

    def _bind(self, copied: int) -> int:
        """Take a group that nobody has: others may watch the same namespace."""
        kind, refusal = message_kind(ULOG, CONFIG), "all are taken"
        for _ in range(100):
            group = 1 + int.from_bytes(os.urandom(2), "big") % 0xFFFF
            try:
                self.tell(kind, socket.AF_UNSPEC, attribute(CFG_CMD, bytes([CMD_BIND])), resource=group)
            except OSError as error:
                if error.errno == errno.EBUSY:
                    continue
                refusal = error.strerror or str(error)
                break
            mode = attribute(CFG_MODE, struct.pack("!IBB", copied, COPY_PACKET, 0))
            self.tell(kind, socket.AF_UNSPEC, mode, resource=group)
            return group
        raise HostError("packet log", f"the kernel gives no group of messages (nfnetlink_log): {refusal}")


def _logged(data: bytes) -> Iterator[LoggedPacket]:
    for kind, _, _, payload in messages(data):
        if kind == message_kind(ULOG, PACKET):
            found = parse_attributes(payload[GENMSG.size :])
            prefix = found.get(ATTR_PREFIX, b"").rstrip(b"\0")
            yield LoggedPacket(found[ATTR_HEADER][2], prefix, found.get(ATTR_PAYLOAD, b""))

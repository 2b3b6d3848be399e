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

from sgdataplane.errors import HostError
from sgdataplane.host.nfnetlink import (
    ATTRIBUTE,
    GENMSG,
    HEADER,
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    attribute,
    list_attributes,
    message_kind,
)
from sgdataplane.lab.tap import BUFFER_BYTES, SO_RCVBUFFORCE

PREROUTING, LOCAL_IN, POSTROUTING = 0, 1, 4  # NF_INET_*
ULOG, PACKET, CONFIG = 4, 0, 1  # NFNL_SUBSYS_ULOG, NFULNL_MSG_*
CFG_CMD, CFG_MODE, CMD_BIND, COPY_PACKET = 1, 2, 1, 2  # NFULA_CFG_*, NFULNL_*
ATTR_HEADER, ATTR_PAYLOAD, ATTR_PREFIX = 1, 9, 10  # NFULA_PACKET_HDR, NFULA_PAYLOAD, NFULA_PREFIX


@dataclass(frozen=True, slots=True)
class Logged:
    """A packet, or its beginning, from its IP header on; the hook it was at, and the log rule's prefix."""

    hook: int
    prefix: bytes
    packet: bytes


class PacketLog:
    """A group of log messages that nobody else has. `copied`: how many octets of a packet are wanted."""

    def __init__(self, copied: int) -> None:
        self._door = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._door.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._door.bind((0, 0))
        self._has_lost = False
        self.group = self._bind(copied)
        self._door.setblocking(False)

    def fileno(self) -> int:
        """For whoever waits for what comes."""
        return self._door.fileno()

    def close(self) -> None:
        self._door.close()

    def read(self, most: int) -> Iterator[Logged]:
        """What has come by, of at most so many messages."""
        for _ in range(most):
            try:
                data = self._door.recv(1 << 17)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._has_lost = True
                return
            yield from _logged(data)

    def take_lost(self) -> bool:
        """Whether messages were lost for want of room since the last time it was asked."""
        has_lost, self._has_lost = self._has_lost, False
        return has_lost

    def _bind(self, copied: int) -> int:
        """Take a group that nobody has: others may watch the same namespace."""
        refusal = errno.EBUSY
        for _ in range(100):
            group = 1 + int.from_bytes(os.urandom(2), "big") % 0xFFFF
            refusal = self._configure(group, attribute(CFG_CMD, bytes([CMD_BIND])))
            if refusal not in (0, errno.EBUSY):
                break
            if not refusal:
                self._configure(group, attribute(CFG_MODE, struct.pack("!IBB", copied, COPY_PACKET, 0)))
                return group
        raise HostError("packet log", f"the kernel gives no group of messages (nfnetlink_log): {os.strerror(refusal)}")

    def _configure(self, group: int, attributes: bytes) -> int:
        """The error number of the answer, 0 for none."""
        payload = GENMSG.pack(socket.AF_UNSPEC, 0, socket.htons(group)) + attributes
        kind, flags = message_kind(ULOG, CONFIG), NLM_F_REQUEST | NLM_F_ACK
        self._door.send(HEADER.pack(HEADER.size + len(payload), kind, flags, group, 0) + payload)
        answer = self._door.recv(4096)
        return -int(struct.unpack_from("=i", answer, HEADER.size)[0])


def _logged(data: bytes) -> Iterator[Logged]:
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, _, _, _ = HEADER.unpack_from(data, offset)
        if kind == message_kind(ULOG, PACKET):
            found = dict(list_attributes(data[offset + HEADER.size + GENMSG.size : offset + length]))
            prefix = found.get(ATTR_PREFIX, b"").rstrip(b"\0")
            yield Logged(found[ATTR_HEADER][2], prefix, found.get(ATTR_PAYLOAD, b""))
        offset += (max(length, HEADER.size) + ATTRIBUTE.size - 1) & ~(ATTRIBUTE.size - 1)

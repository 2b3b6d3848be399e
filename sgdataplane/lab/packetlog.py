"""Packets that nftables rules log, in the order in which they passed, and the tables that log them.

Owns the form of these tables, and one nfnetlink_log socket with its group. A log is made in the namespace whose packets
it is for. Must not know who logs what.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from sgdataplane.contract.fields import Hook
from sgdataplane.errors import HostError
from sgdataplane.host.netlink import SO_RCVBUFFORCE, attribute, messages, parse_attributes, received
from sgdataplane.host.nfnetlink import GENMSG, Nfnetlink, message_kind
from sgdataplane.lab.tap import BUFFER_BYTES
from sgdataplane.nft import wire
from sgdataplane.nft.ir import Chain, Rule, Table
from sgdataplane.nft.messages import Messages, Writer
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.nft.uapi import TABLE_OWNER

PREROUTING, LOCAL_IN, POSTROUTING = 0, 1, 4  # NF_INET_*
ULOG, PACKET, CONFIG = 4, 0, 1  # NFNL_SUBSYS_ULOG, NFULNL_MSG_*
CFG_CMD, CFG_MODE, CMD_BIND, COPY_PACKET = 1, 2, 1, 2  # NFULA_CFG_*, NFULNL_*
ATTR_HEADER, ATTR_PAYLOAD, ATTR_PREFIX = 1, 9, 10  # NFULA_PACKET_HDR, NFULA_PAYLOAD, NFULA_PREFIX
COPIED = 256  # octets of a packet: its headers, and our token behind them
RawRule = tuple[Rule, bytes]  # a rule, and instructions behind its own


@dataclass(frozen=True)
class LogTable(Transaction):
    """Makes a table that logs to a group and disappears with the socket that made it. It is not part of the product,
    whose rulesets have no type for these logs."""

    group: int = 0

    def chains(self) -> Iterator[tuple[str, Hook, tuple[RawRule, ...]]]:
        """The chains with their rules."""
        raise NotImplementedError

    def log(self, prefix: str = "") -> bytes:
        """The instructions that log a packet with this prefix."""
        return wire.log(self.group, COPIED, prefix, at_once=True)

    def requests(self) -> Iterator[tuple[Messages, Operation]]:
        table, writer = Table(self.name), Writer()
        operation = Operation(Verb.ADD, Kind.TABLE, table)
        yield writer.add_table(table, TABLE_OWNER), operation
        for name, hook, rules in self.chains():
            yield writer.add_chain(table, Chain(name, (), hook)), operation
            for entry, more in rules:
                yield writer.add_rule(table, name, entry, more), operation


@dataclass(frozen=True, slots=True)
class LoggedPacket:
    """The beginning of a packet, from its IP header on; the hook it was logged at, and the log rule's prefix."""

    hook: int
    prefix: bytes
    packet: bytes


class PacketLog(Nfnetlink):
    """A group of log messages that nobody else listens to. HostError if the kernel gives none."""

    def __init__(self) -> None:
        super().__init__()
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._has_lost = False
        self.group = self._bind()
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """The socket's number, for select and event loops."""
        return self._socket.fileno()

    def read(self, most: int) -> Iterator[LoggedPacket]:
        """The packets of at most so many messages that have come so far. Never waits."""
        for part in islice(received(self._socket), most):
            if part.is_lossy:
                self._has_lost = True
                return
            yield from _logged(part.data)

    def take_lost(self) -> bool:
        """Whether messages were lost for want of room since the last call."""
        has_lost, self._has_lost = self._has_lost, False
        return has_lost

    def _bind(self) -> int:
        """Take a group that nobody has, as others may listen in the same namespace."""
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
            mode = attribute(CFG_MODE, struct.pack("!IBB", COPIED, COPY_PACKET, 0))
            self.tell(kind, socket.AF_UNSPEC, mode, resource=group)
            return group
        raise HostError("packet log", f"the kernel gives us no group of log messages (nfnetlink_log): {refusal}")


def _logged(data: bytes) -> Iterator[LoggedPacket]:
    for kind, _, _, payload in messages(data):
        if kind == message_kind(ULOG, PACKET):
            found = parse_attributes(payload[GENMSG.size :])
            prefix = found.get(ATTR_PREFIX, b"").rstrip(b"\0")
            yield LoggedPacket(found[ATTR_HEADER][2], prefix, found.get(ATTR_PAYLOAD, b""))

"""A watch in a router where policy is enforced: which packets came past their sender's policy, and which are about to
meet their receiver's.

Owns a table of log rules, which goes when its process does, and the socket that they log to. Is asked in the router's
namespace, for keys of packets (frames.py). Must not judge what it sees.

    prerouting   -150 the sender's policy     -140 PASSED
    postrouting   140 COMING                   150 the receiver's policy

What is seen at one and not at the other was lost in between, which is no policy's doing.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sgdataplane.errors import LabError
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
from sgdataplane.lab import frames
from sgdataplane.lab.sightings import Sightings
from sgdataplane.lab.tap import BATCH, BUFFER_BYTES, CONTROL_S, SO_RCVBUFFORCE
from sgdataplane.net.values import UDP
from sgdataplane.nft.ir import Table
from sgdataplane.nft.kernel import LibnftKernel
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb

PASSED, COMING = "passed", "coming"
HOOKS = {PASSED: ("prerouting", -140), COMING: ("postrouting", 140)}
PLACES = {0: PASSED, 4: COMING}  # NF_INET_PRE_ROUTING, NF_INET_POST_ROUTING
COPIED = 256  # octets of a packet: headers, and our token behind them
ULOG, PACKET, CONFIG = 4, 0, 1  # NFNL_SUBSYS_ULOG, NFULNL_MSG_*
CFG_CMD, CFG_MODE, CMD_BIND, COPY_PACKET = 1, 2, 1, 2  # NFULA_CFG_*, NFULNL_*
ATTR_HEADER, ATTR_PAYLOAD = 1, 9  # NFULA_PACKET_HDR, NFULA_PAYLOAD
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class WatchTable(Transaction):
    """Makes the table; `log` is no business of the product's, so it has no place in its ruleset's types."""

    group: int = 0

    def lines(self) -> Iterator[tuple[str, Operation]]:
        operation = Operation(Verb.ADD, Kind.TABLE, Table(self.name))
        yield f"add table inet {self.name} {{ flags owner; }}", operation
        for place, (hook, priority) in HOOKS.items():
            chain = f"inet {self.name} {place}"
            yield f"add chain {chain} {{ type filter hook {hook} priority {priority}; }}", operation
            yield f"add rule {chain} log group {self.group} snaplen {COPIED} queue-threshold 1", operation


class Watch:
    """Records what passes. Must be made inside the namespace of that name, with a running event loop."""

    def __init__(self, namespace: str) -> None:
        self._seen = Sightings()
        self._has_lost = False
        self._door = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._door.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._door.bind((0, 0))
        group = self._bind()
        self._door.setblocking(False)
        self._kernel = LibnftKernel(namespace)  # kept: the table is its socket's
        self._kernel.run(WatchTable(f"sgdp_watch_{group}", group=group))
        asyncio.get_running_loop().add_reader(self._door, self._read)

    def _bind(self) -> int:
        """Take a group of log messages that nobody has: others may watch the same router."""
        refusal = errno.EBUSY
        for _ in range(100):
            group = 1 + int.from_bytes(os.urandom(2), "big") % 0xFFFF
            refusal = self._configure(group, attribute(CFG_CMD, bytes([CMD_BIND])))
            if refusal not in (0, errno.EBUSY):
                break
            if not refusal:
                self._configure(group, attribute(CFG_MODE, struct.pack("!IBB", COPIED, COPY_PACKET, 0)))
                return group
        raise LabError("packet log", f"the kernel gives no group of messages (nfnetlink_log): {os.strerror(refusal)}")

    def _configure(self, group: int, attributes: bytes) -> int:
        """The error number of the answer, 0 for none."""
        payload = GENMSG.pack(socket.AF_UNSPEC, 0, socket.htons(group)) + attributes
        kind, flags = message_kind(ULOG, CONFIG), NLM_F_REQUEST | NLM_F_ACK
        self._door.send(HEADER.pack(HEADER.size + len(payload), kind, flags, group, 0) + payload)
        answer = self._door.recv(4096)
        return -int(struct.unpack_from("=i", answer, HEADER.size)[0])

    def _read(self) -> None:
        for _ in range(BATCH):
            try:
                data = self._door.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._has_lost = True
                return
            for place, packet in _logged(data):
                key = frames.key_of_packet(packet)
                if key is not None:
                    self._seen.record(place, key)

    async def wait_seen(self, place: str, key: str, seconds: float) -> bool:
        """Whether such a packet came by; waits for it at most so long."""
        return await self._seen.wait_seen(place, key, seconds)

    async def prove(self) -> str:
        """Send a packet of our own over loopback and see it at both places; what went wrong, or "".

        Messages come in order, so once it is seen, all that came by before is recorded.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
            door.bind((LOOPBACK, 0))
            own = door.getsockname()
            door.sendto(b"", own)
            key = frames.port_key(UDP, own, own)
            for place, (hook, priority) in HOOKS.items():
                if not await self.wait_seen(place, key, CONTROL_S):
                    return f"the router's own packet was not seen at {hook} {priority}"
        has_lost, self._has_lost = self._has_lost, False
        return "the router's watch lost packets" if has_lost else ""


def _logged(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The packets in some messages of the log, with their places."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, _, _, _ = HEADER.unpack_from(data, offset)
        if kind == message_kind(ULOG, PACKET):
            found = dict(list_attributes(data[offset + HEADER.size + GENMSG.size : offset + length]))
            yield PLACES[found[ATTR_HEADER][2]], found.get(ATTR_PAYLOAD, b"")
        offset += (max(length, HEADER.size) + ATTRIBUTE.size - 1) & ~(ATTRIBUTE.size - 1)

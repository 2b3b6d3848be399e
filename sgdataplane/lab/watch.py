"""A watch in a router where policy is enforced: which packets came past their sender's policy, and which are about to
meet their receiver's.

Owns a table of log rules, which goes when its process does. Is asked in the router's namespace, for keys of packets
(frames.py). Must not judge what it sees.

    prerouting   -150 the sender's policy     -140 PASSED
    postrouting   140 COMING                   150 the receiver's policy

What is seen at one and not at the other was lost in between, which is no policy's doing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from sgdataplane.contract.fields import Hook
from sgdataplane.lab import frames
from sgdataplane.lab.packetlog import POSTROUTING, PREROUTING, PacketLog
from sgdataplane.lab.tap import BATCH, CONTROL_S, Sightings
from sgdataplane.net.values import UDP
from sgdataplane.nft import wire
from sgdataplane.nft.ir import Chain, Table, rule
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.messages import Messages, Writer
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.nft.uapi import TABLE_OWNER

PASSED, COMING = "passed", "coming"
HOOKS = {PASSED: ("prerouting", -140), COMING: ("postrouting", 140)}
PLACES = {PREROUTING: PASSED, POSTROUTING: COMING}
COPIED = 256  # octets of a packet: headers, and our token behind them
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class WatchTable(Transaction):
    """Makes the table; `log` is no business of the product's, so it has no place in its ruleset's types."""

    group: int = 0

    def requests(self) -> Iterator[tuple[Messages, Operation]]:
        table, writer = Table(self.name), Writer()
        operation = Operation(Verb.ADD, Kind.TABLE, table)
        yield writer.add_table(table, TABLE_OWNER), operation
        for place, (hook, priority) in HOOKS.items():
            yield writer.add_chain(table, Chain(place, (), Hook(hook, priority))), operation
            yield writer.add_rule(table, place, rule(), wire.log(self.group, COPIED, at_once=True)), operation


class Watch:
    """Records what passes. Must be made inside the namespace of that name, with a running event loop."""

    def __init__(self, namespace: str) -> None:
        self._seen = Sightings()
        self._log = PacketLog(COPIED)
        self._kernel = NetlinkKernel(namespace)  # kept: the table is its socket's
        self._kernel.run(WatchTable(f"sgdp_watch_{self._log.group}", group=self._log.group))
        asyncio.get_running_loop().add_reader(self._log, self._read)

    def _read(self) -> None:
        for entry in self._log.read(BATCH):
            key = frames.key_of_packet(entry.packet)
            if key is not None:
                self._seen.record(PLACES[entry.hook], key)

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
        return "the router's watch lost packets" if self._log.take_lost() else ""

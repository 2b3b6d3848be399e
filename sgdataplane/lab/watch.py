"""A watch in a router: it sees packets behind the sender's policy, and in front of the receiver's.

Owns a table of log rules, which disappears with its process. It is asked in the router's namespace for keys of packets
(frames.py). Must not judge what it sees.

    prerouting   -150 the sender's policy     -140 PASSED
    postrouting   140 COMING                   150 the receiver's policy

A packet that is seen at PASSED and not at COMING was lost in between, which is no policy's doing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

from sgdataplane.contract.fields import Hook
from sgdataplane.lab import frames
from sgdataplane.lab.packetlog import POSTROUTING, PREROUTING, LogTable, RawRule, open_log
from sgdataplane.lab.tap import CONTROL_S, Sightings
from sgdataplane.net.values import UDP
from sgdataplane.nft.ir import rule
from sgdataplane.nft.kernel import NetlinkKernel

PASSED, COMING = "passed", "coming"
HOOKS = {PASSED: Hook("prerouting", -140), COMING: Hook("postrouting", 140)}
PLACES = {PREROUTING: PASSED, POSTROUTING: COMING}
LOOPBACK = "127.0.0.1"


class WatchTable(LogTable):
    """A table that logs every packet at both places."""

    def chains(self) -> Iterator[tuple[str, Hook, tuple[RawRule, ...]]]:
        """Yield a chain for each place, with one rule that logs everything."""
        for place, hook in HOOKS.items():
            yield place, hook, ((rule(), self.log()),)


class Watch:
    """A listener that records in `seen` what passes the router's two places.

    Must be made inside the namespace of that name, with a running event loop.
    """

    def __init__(self, namespace: str) -> None:
        self.seen = Sightings()
        self._log = open_log()
        self._kernel = NetlinkKernel(namespace)  # kept, as the table goes with its socket
        self._kernel.run(WatchTable(f"sgdp_watch_{self._log.group}", group=self._log.group))
        asyncio.get_running_loop().add_reader(self._log, self._read)

    def _read(self) -> None:
        for entry in self._log.read():
            key = frames.key_of_packet(entry.payload)
            if key is not None:
                self.seen.record(PLACES[entry.hook], key)

    async def prove(self) -> str:
        """Send a packet over loopback and see it at both places; return what went wrong, or "".

        Messages come in order. So once that packet was seen, all that passed before it is recorded.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((LOOPBACK, 0))
            own = sender.getsockname()
            sender.sendto(b"", own)
            key = frames.port_key(UDP, own, own)
            for place, hook in HOOKS.items():
                if not await self.seen.wait_seen(place, key, CONTROL_S):
                    return f"the router's own packet was not seen at {hook.name} {hook.priority}"
        return "the router's watch lost packets" if self._log.take_lost() else ""

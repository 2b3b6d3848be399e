"""Many hosts' streams from one process, each with its own certificate, and the memory of the relay that serves them.

Owns the streams. Must not know what is measured.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect

from sgdataplane.relay.tls import TlsFiles, host_context
from sgdataplane.relay.wire import Hello, HostChange, Reported, read_from_relay, spell
from tests.support.servers.relaying import Plant

AT_ONCE = 50


def contexts_of(plant: Plant, names: list[str]) -> dict[str, ssl.SSLContext]:
    found = {}
    for name in names:
        signed = plant.authority.sign(name)
        found[name] = host_context(TlsFiles(signed.certificate, signed.key, plant.authority.certificate))
    return found


class Crowd:
    """Streams that are open until `close`."""

    def __init__(self, url: str) -> None:
        self._url, self._turn = url, asyncio.Semaphore(AT_ONCE)
        self.sockets: dict[str, ClientConnection] = {}

    async def open(self, contexts: dict[str, ssl.SSLContext]) -> None:
        await asyncio.gather(*(self._open(name, context) for name, context in contexts.items()))

    async def _open(self, name: str, context: ssl.SSLContext) -> None:
        async with self._turn:
            socket = await connect(
                self._url, ssl=context, compression=None, proxy=None, open_timeout=60, ping_interval=None, max_size=None
            )
            await socket.send(spell(Hello("test")))
            await self.hear(socket)
            await socket.send(spell(Reported(claims=("eni-none",))))
            await socket.recv()  # refused
            self.sockets[name] = socket

    async def hear(self, socket: ClientConnection) -> HostChange:
        """The next whole change's last part."""
        while True:
            found = read_from_relay(await socket.recv())
            if isinstance(found, HostChange) and not found.has_more:
                return found

    async def close(self) -> None:
        await asyncio.gather(*(socket.close() for socket in self.sockets.values()))


def resident(pid: int) -> int:
    """Bytes of a process's own memory."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.findall(r"^(?:Private_Clean|Private_Dirty):\s+(\d+) kB", text, re.MULTILINE)
    return 1024 * sum(map(int, found))

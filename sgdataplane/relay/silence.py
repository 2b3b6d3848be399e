"""When a host counts as gone: it has said nothing, or read nothing, for so long.

Owns whom a relay asks whether it is still there. Must not know messages or documents.

A host pings each 5 s, and reports. So a relay needs no pings of its own for a host from which it hears, and which reads
what is sent to it. It pings the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from sgdataplane.relay.streams import Stream

LOOK_S = 1.5  # between two looks at all streams
QUIET_S = 5.5  # of silence after which a host is pinged
PONG_S = 8.0  # in which it must answer; with the two above the 15 s after which a silent host is gone


class HostConnection(ServerConnection):
    """A connection that notes when something came."""

    heard = float("-inf")
    """When that was, by the clock of the event loop."""

    def data_received(self, data: bytes) -> None:
        """Note the time, and take what came. That may be a part of a message, or a ping."""
        self.heard = self.loop.time()
        super().data_received(data)

    def is_in_doubt(self) -> bool:
        """Whether nothing came for a while, or something waits for the host to read."""
        return self.loop.time() - self.heard > QUIET_S or self.transport.get_write_buffer_size() > 0


class SilenceWatch:
    """Ends the streams of hosts that say nothing or read nothing. `end` is called with each of them."""

    def __init__(self, end: Callable[[Stream], None]) -> None:
        self._end = end
        self._pinged: dict[HostConnection, asyncio.Task[None]] = {}

    async def run(self, streams: Callable[[], Iterable[Stream]]) -> NoReturn:
        """Look at all streams again and again, until this is cancelled."""
        while True:
            self.look_at(streams())
            await asyncio.sleep(LOOK_S)

    def look_at(self, streams: Iterable[Stream]) -> None:
        """Ping the hosts that may be gone, unless they still have time to answer the last ping."""
        for stream in streams:
            socket = stream.socket
            if isinstance(socket, HostConnection) and socket not in self._pinged and socket.is_in_doubt():
                self._pinged[socket] = task = asyncio.create_task(self._ping(stream))
                task.add_done_callback(lambda _, socket=socket: self._pinged.pop(socket))  # type: ignore[misc]

    async def _ping(self, stream: Stream) -> None:
        with suppress(ConnectionClosed):
            try:
                async with asyncio.timeout(PONG_S):
                    await (await stream.socket.ping())
            except TimeoutError:
                self._end(stream)

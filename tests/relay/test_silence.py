"""A relay pings whoever says nothing or reads nothing, and nobody else; who doesn't answer in time is ended."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedError

from sgdataplane.relay import silence
from sgdataplane.relay.silence import QUIET_S, HostConnection, SilenceWatch
from sgdataplane.relay.streams import Stream


class Connection(HostConnection):
    """One without a socket, from which something came `ago` seconds ago and which has `unsent` bytes to send."""

    def __init__(self, ago: float, unsent: int = 0, *, is_closed: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.heard = self.loop.time() - ago
        self.transport = cast(asyncio.Transport, SimpleNamespace(get_write_buffer_size=lambda: unsent))
        self._is_closed = is_closed
        self.pongs: list[asyncio.Future[float]] = []

    async def ping(self, _: object = None) -> asyncio.Future[float]:
        if self._is_closed:
            raise ConnectionClosedError(None, None)
        self.pongs.append(self.loop.create_future())
        return self.pongs[-1]


class Watched:
    """Streams of these connections, and those of them that were ended."""

    def __init__(self, *connections: Connection) -> None:
        self.connections = connections
        self.streams = [Stream(f"host-{at}", one) for at, one in enumerate(connections, start=1)]
        self.ended: list[str] = []
        self._watch = SilenceWatch(lambda stream: self.ended.append(stream.host))

    async def look(self) -> list[int]:
        """How many pings each has got after one more look."""
        self._watch.look_at(self.streams)
        for _ in range(5):
            await asyncio.sleep(0)
        return [len(one.pongs) for one in self.connections]


def test_only_who_is_quiet_or_reads_nothing_is_pinged() -> None:
    async def scene() -> None:
        watched = Watched(Connection(0.0), Connection(QUIET_S + 1), Connection(0.0, unsent=1))
        assert await watched.look() == [0, 1, 1]

    asyncio.run(scene())


def test_one_ping_at_a_time() -> None:
    async def scene() -> None:
        watched = Watched(Connection(QUIET_S + 1))
        assert [await watched.look(), await watched.look()] == [[1], [1]]
        watched.connections[0].pongs[0].set_result(0.1)
        await asyncio.sleep(0)
        assert await watched.look() == [1], "its pong is only now taken"
        assert await watched.look() == [2], "nothing else has come since"
        assert watched.ended == []

    asyncio.run(scene())


def test_who_answers_no_ping_in_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "PONG_S", 0.1)

    async def scene() -> None:
        watched = Watched(Connection(QUIET_S + 1), Connection(QUIET_S + 1), Connection(QUIET_S + 1, is_closed=True))
        await watched.look()
        watched.connections[1].pongs[0].set_result(0.1)
        async with asyncio.timeout(30):
            while not watched.ended:
                await asyncio.sleep(0.01)
        assert watched.ended == ["host-1"]

    asyncio.run(scene())


def test_what_comes_ends_the_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bytes] = []
    monkeypatch.setattr(ServerConnection, "data_received", lambda _, data: taken.append(data))

    async def scene() -> None:
        connection = Connection(QUIET_S + 1)
        assert connection.is_in_doubt()
        connection.data_received(b"a ping")
        assert not connection.is_in_doubt()

    asyncio.run(scene())
    assert taken == [b"a ping"]

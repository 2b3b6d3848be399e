"""All hosts come back at once: nobody is dropped, and each ends with what it is to have. Those whose stream isn't
resumed and that get anything new are counted at the relay's pace. Every other host is of an earlier version, and says
all digests at once."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path as File

import pytest
from bench.fleet import Fleet, host_name
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from sgdataplane.relay.closure import Closures
from sgdataplane.relay.part import HostPart
from sgdataplane.relay.wire import SHORT_HELLO, Ask, HostChange, read_from_relay, spell
from sgdataplane.store.documents import Documents, Fields
from sgdataplane.store.history import Version
from sgdataplane.store.interface import Path, Write
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.probes.flood import wait_until
from tests.support.servers.crowdedrelay import contexts_of
from tests.support.servers.relaying import Plant, hosts_of, revision_seen, url_of

AT_ONCE = 200  # handshakes that this process has under way


@dataclass(eq=False)
class Host:
    """`objects`: what it has. `asked`: how often the relay wanted to know all digests."""

    name: str
    context: ssl.SSLContext
    is_short: bool
    objects: dict[Path, Fields] = field(default_factory=dict)
    version: Version | None = None
    socket: ClientConnection | None = None
    asked: int = 0

    def hello(self, *, is_short: bool) -> str:
        return spell(HostPart(self.version, self.objects).hello("test", is_short=is_short))

    async def come(self, url: str, turn: asyncio.Semaphore) -> int:
        """How many objects the relay sends."""
        async with turn:
            self.socket = await connect(
                url, ssl=self.context, compression=None, proxy=None, open_timeout=120, ping_interval=None,
                max_size=None, subprotocols=[Subprotocol(SHORT_HELLO)] if self.is_short else None,
            )  # fmt: skip
        assert (self.socket.subprotocol == SHORT_HELLO) == self.is_short
        await self.socket.send(self.hello(is_short=self.is_short))
        sent, has_more = 0, True
        while has_more:
            found = read_from_relay(await self.socket.recv())
            if isinstance(found, Ask):
                self.asked += 1
                await self.socket.send(self.hello(is_short=False))
                continue
            assert isinstance(found, HostChange)
            self.objects = {path: fields for path, fields in self.objects.items() if path not in found.deletes}
            self.objects.update(found.puts)
            self.version, sent, has_more = found.version, sent + len(found.puts), found.has_more
        return sent

    async def is_there(self) -> None:
        """ConnectionClosed if its stream has ended."""
        assert self.socket is not None
        await (await self.socket.ping())

    def vanish(self) -> None:
        assert self.socket is not None
        self.socket.transport.abort()

    async def leave(self) -> None:
        assert self.socket is not None
        await self.socket.close()


async def all_come(hosts: list[Host], url: str) -> dict[str, int]:
    turn = asyncio.Semaphore(AT_ONCE)
    sent = await asyncio.gather(*(host.come(url, turn) for host in hosts))
    await asyncio.gather(*(host.is_there() for host in hosts))
    return {host.name: count for host, count in zip(hosts, sent, strict=True)}


async def all_leave(hosts: list[Host]) -> None:
    await asyncio.gather(*(host.leave() for host in hosts))


def emptied(hosts: list[Host]) -> list[Host]:
    """Those that have lost all."""
    return hosts[::5]


def damaged(hosts: list[Host]) -> list[Host]:
    """Those that have lost an object, so that they haven't what their last stream has sent."""
    return [host for number, host in enumerate(hosts) if number % 7 == 1 and number % 5]


@dataclass
class Comings:
    """What hosts were sent when they came first, what they had when they came again, and what they were sent then."""

    first: dict[str, int]
    had: dict[str, dict[Path, Fields]]
    again: dict[str, int]
    seconds: float


def check_and_count(hosts: list[Host], comings: Comings, closures: Closures) -> tuple[int, Counter[tuple[str, str]]]:
    """Each host has got what differs. Return how many were counted at the relay's pace, and how many came how."""
    paced, seen = 0, Counter[tuple[str, str]]()
    for host in hosts:
        assert host.objects == closures.of(host.name)
        assert host.version == Version(0, 2)
        assert comings.first[host.name] == len(host.objects)
        new = [path for path, fields in host.objects.items() if comings.had[host.name].get(path) != fields]
        assert comings.again[host.name] == len(new)
        assert host.asked == (host.is_short and host in damaged(hosts))
        is_resumed = host.is_short and host not in emptied(hosts) and host not in damaged(hosts)
        seen["resumed" if is_resumed else "answered", "with news" if new else "without"] += 1
        paced += bool(new) and not is_resumed
    return paced, seen


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_hosts_that_come_back_at_once_get_what_differs(
    store: SqliteStore, store_file: File, plant: Plant, count: int
) -> None:
    fleet = Fleet(count, enis_a_host=4, rules=4)
    store.commit(Write({}, dict(fleet.documents())))
    pace = count // 3
    relay = plant.relay(store_file, 0, "--snapshots", str(pace))
    url = url_of(relay)
    names = [host_name(number) for number in range(count)]
    hosts = [
        Host(name, context, is_short=bool(number % 2))
        for number, (name, context) in enumerate(contexts_of(plant, names).items())
    ]

    async def go() -> Comings:
        first = await all_come(hosts, url)
        wait_until(lambda: hosts_of(store).keys() == {*names})
        for host in hosts:
            host.vanish()
        await asyncio.to_thread(wait_until, lambda: not hosts_of(store))  # or they would be sent what they don't get
        revision = store.commit(Write({}, dict([fleet.group(1, 2, more=77)])))  # concerns hosts of one VPC
        wait_until(lambda: revision_seen(store) == revision)
        for host in emptied(hosts):
            host.objects, host.version = {}, None
        for host in damaged(hosts):
            del host.objects[min(host.objects)]
        had = {host.name: host.objects for host in hosts}
        begin = time.monotonic()
        return Comings(first, had, await all_come(hosts, url), time.monotonic() - begin)

    with asyncio.Runner() as runner:
        comings = runner.run(go())
        wait_until(lambda: hosts_of(store).keys() == {*names})
        runner.run(all_leave(hosts))
    paced, seen = check_and_count(hosts, comings, Closures(Documents.of(store.snapshot())))
    assert len(seen) == 4, seen
    assert comings.seconds > (paced - 2) / pace
    assert relay.process.poll() is None

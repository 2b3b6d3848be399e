"""Hosts whose streams end at any moment, while revisions go on: each ends with all that it is to get, and a host that
has what its last stream has sent is asked for nothing."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from typing import cast

import pytest
from bench.fleet import Fleet, host_name
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedError

from sgdataplane.model.state import CloudState
from sgdataplane.relay import server
from sgdataplane.relay.closure import Closures
from sgdataplane.relay.held import HeldDocuments
from sgdataplane.relay.part import HostPart, Receiving
from sgdataplane.relay.server import Relay
from sgdataplane.relay.tls import Peer
from sgdataplane.relay.wire import Ask, HostChange, read_from_relay, spell
from sgdataplane.store.documents import Fields, path_of
from sgdataplane.store.interface import Path, Reading, Revision
from tests.support.inputs import gen
from tests.support.inputs.tenants import HOSTS, Tenants

SHARDS = [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, 4))]
WORLDS, REVISIONS = 15, 60


class Link:
    """A connection without a kernel, in which the relay has to wait while `room` messages aren't read."""

    def __init__(self, host: str, room: int) -> None:
        self.host = host
        self._said: asyncio.Queue[str] = asyncio.Queue()
        self.unread: list[str] = []
        self._room, self._may_go_on, self.is_cut = room, asyncio.Event(), False
        self.transport, self.request, self.response = self, None, None

    # the host's side

    def say(self, text: str) -> None:
        self._said.put_nowait(text)

    def read(self) -> str:
        self._may_go_on.set()
        return self.unread.pop(0)

    def abort(self) -> None:
        """What the relay hasn't got yet is lost, and so is what the host hasn't read."""
        self.is_cut = True
        self._may_go_on.set()
        self.say("")

    # the relay's side

    async def recv(self) -> str:
        text = await self._said.get()
        if self.is_cut:
            raise ConnectionClosedError(None, None)
        return text

    async def send(self, message: str | Iterable[str]) -> None:
        while len(self.unread) >= self._room and not self.is_cut:
            self._may_go_on.clear()
            await self._may_go_on.wait()
        if self.is_cut:
            raise ConnectionClosedError(None, None)
        self.unread.append(message if isinstance(message, str) else "".join(message))

    async def close(self, _code: int, _reason: str) -> None:
        self.abort()


class Host:
    """`part` is what it has; it never goes on from anything else."""

    def __init__(self, name: str, relay: Relay, seen: Counter[str]) -> None:
        self.name, self._relay, self._seen = name, relay, seen
        self.part = HostPart()
        self.link: Link | None = None
        self._receiving = Receiving(self.part)
        self._tasks: list[asyncio.Task[None]] = []
        self._is_first = False

    async def come(self, room: int) -> None:
        """Connect, in place of the last connection if there is one."""
        self.link, self._receiving, self._is_first = Link(self.name, room), Receiving(self.part), True
        self.link.say(spell(self.part.hello("test", is_short=True)))
        self._tasks.append(asyncio.create_task(self._relay.serve(cast(ServerConnection, self.link))))
        await settled()

    async def read(self) -> None:
        """Read all that was sent, and whatever is sent then."""
        while self.link is not None and self.link.unread:
            self._take(self.link, self.link.read())
            await settled()

    def _take(self, link: Link, text: str) -> None:
        match read_from_relay(text):
            case Ask():
                self._seen["asked"] += 1
                link.say(spell(self.part.hello("test")))
                self._is_first = False
            case HostChange() as change:
                if self._is_first and self.part.objects:
                    self._seen["resumed with news" if change.puts or change.deletes else "resumed"] += 1
                self._is_first = False
                self._receiving.take(change, len(text))
                self.part = self._receiving.part

    def vanish(self) -> None:
        if self.link is not None:
            self.link.abort()
            self.link = None

    async def end(self) -> None:
        self.vanish()
        await asyncio.gather(*self._tasks)


async def settled() -> None:
    """All tasks have gone as far as they can."""
    for _ in range(12):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "certificate_of", lambda link: {"host": link.host})
    monkeypatch.setattr(server, "peer_in", lambda found: Peer(found["host"], "1", 0.0, 1e12))
    monkeypatch.setattr(server, "REPORT_S", 0.0)
    monkeypatch.setattr(Relay, "refusal", lambda *_: "")


async def act(host: Host, draw: random.Random) -> None:
    """Do what a host may do, between two revisions."""
    match draw.choice(("nothing", "read", "read", "read", "vanish", "come", "come and read")):
        case "read":
            await host.read()
        case "vanish":
            host.vanish()
        case "come" if host.link is None or draw.random() < 0.3:
            await host.come(draw.choice((1, 2, 100)))
        case "come and read" if host.link is None:
            await host.come(100)
            await host.read()
    await settled()


@pytest.mark.parametrize("shard", SHARDS)
def test_a_stream_goes_on_where_the_last_one_ended_wherever_that_was(shard: int) -> None:
    seen: Counter[str] = Counter()

    @seed(shard)
    @settings(max_examples=WORLDS, database=None, phases=[Phase.generate], deadline=None)
    @given(gen.states(), gen.states(), st.integers(0, 1 << 32))
    def check(one: CloudState, other: CloudState, number: int) -> None:
        asyncio.run(scene(Tenants((one, other), random.Random(number)), random.Random(number)))

    async def scene(tenants: Tenants, draw: random.Random) -> None:
        kinds = tenants.documents.of_kind.items()
        bodies = ((path_of(kind, name), body) for kind, found in kinds for name, body in found.items())
        documents = HeldDocuments.read(Reading(tenants.documents.revision, bodies))
        relay = Relay(documents, 1e9)
        hosts = [Host(name, relay, seen) for name in HOSTS]
        for _, after, change in tenants.revisions(REVISIONS):
            documents = documents.after(change)
            for host in hosts:
                if draw.random() < 0.2:
                    host.vanish()  # the relay hears of it after the revision, and sends nothing of that
            relay.take(documents, change)
            await settled()
            for host in hosts:
                await act(host, draw)
            assert documents.revision == after.revision
        for host in hosts:
            host.vanish()
            await settled()
            await host.come(100)
            await host.read()
            assert host.part.objects == Closures(documents).of(host.name)
            await host.end()
        assert not relay.streams

    check()
    print(seen)
    assert min(seen["asked"], seen["resumed"], seen["resumed with news"]) > WORLDS


@pytest.mark.parametrize("is_open", [True, False])
def test_a_host_that_comes_again_costs_no_digests(monkeypatch: pytest.MonkeyPatch, *, is_open: bool) -> None:
    asked: list[str] = []
    digests = Closures.digests

    def noted(closures: Closures, host: str) -> tuple[dict[Path, bytes], dict[Path, str]]:
        asked.append(host)
        return digests(closures, host)

    monkeypatch.setattr(Closures, "digests", noted)

    async def scene() -> None:
        relay = Relay(HeldDocuments.read(Reading(1, Fleet(2, enis_a_host=2, hosts_a_vpc=2).documents())), 1e9)
        host = Host(host_name(0), relay, Counter())
        await host.come(100)
        await host.read()
        if not is_open:
            host.vanish()
            await settled()
        await host.come(100)
        await host.read()
        assert host.part.objects == relay.closures.of(host.name)
        await host.end()

    asyncio.run(scene())
    assert asked == [host_name(0)]


def test_an_error_while_a_stream_is_resumed_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next stream tells the host what it has missed before the one that ended."""
    some, errors = Closures.some, 1

    def some_or_error(closures: Closures, host: str, paths: Iterable[Path]) -> dict[Path, Fields | None]:
        nonlocal errors
        if errors:
            errors -= 1
            raise RuntimeError("what nobody has foreseen")
        return some(closures, host, paths)

    async def scene() -> None:
        fleet, seen = Fleet(2, enis_a_host=2, hosts_a_vpc=2), Counter[str]()
        documents = HeldDocuments.read(Reading(1, fleet.documents()))
        relay = Relay(documents, 1e9)
        host = Host(host_name(0), relay, seen)
        await host.come(100)
        await host.read()
        host.vanish()
        await settled()
        change = Revision(2, dict([fleet.group(0, 0, more=7)]), frozenset(), frozenset())
        relay.take(documents.after(change), change)
        monkeypatch.setattr(Closures, "some", some_or_error)
        for _ in range(2):
            host.vanish()
            await settled()
            await host.come(100)
            await host.read()
        assert host.part.objects == relay.closures.of(host.name)
        assert (errors, seen) == (0, {"resumed with news": 1})
        await host.end()

    asyncio.run(scene())

"""Whose hello is answered next: shares take turns, a host waits in one place, and whoever leaves holds nobody up."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import cast

import pytest
from bench.fleet import Fleet, host_name
from websockets.asyncio.server import ServerConnection

from sgdataplane.relay import server
from sgdataplane.relay.held import HeldDocuments
from sgdataplane.relay.server import Relay
from sgdataplane.relay.streams import Stream
from sgdataplane.relay.turns import FairTurns, SupersededError
from sgdataplane.relay.wire import Hello, spell
from sgdataplane.store.history import Version
from sgdataplane.store.interface import Reading

FAST = 1e9  # turns a second
MANY = 50


class Waiting:
    """Hosts that wait until `open`; `served` are those that had their turn, in order."""

    def __init__(self, per_second: float = FAST) -> None:
        self.turns, self.served = FairTurns(per_second), list[str]()
        self._is_open, self._is_anybody_inside = asyncio.Event(), False
        self.tasks: list[asyncio.Task[None]] = []

    async def come(self, *hosts: tuple[str, str]) -> None:
        """Hosts with their shares. The first one ever has the turn, until `open`."""
        for share, host in hosts:
            self.tasks.append(asyncio.create_task(self._have_turn(share, host)))
            await settled()

    async def _have_turn(self, share: str, host: str) -> None:
        async with self.turns.turn(share, host):
            assert not self._is_anybody_inside, "one at a time"
            self._is_anybody_inside = True
            try:
                await self._is_open.wait()
                self.served.append(host)
            finally:
                self._is_anybody_inside = False

    async def open(self) -> list[BaseException | None]:
        """Let all have their turns; how each ended."""
        self._is_open.set()
        async with asyncio.timeout(60):
            return await asyncio.gather(*self.tasks, return_exceptions=True)


async def settled() -> None:
    """All tasks have gone as far as they can."""
    for _ in range(5):
        await asyncio.sleep(0)


def run(scene: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scene())


def named(share: str, numbers: Iterable[int]) -> list[tuple[str, str]]:
    return [(share, f"{share}-{number}") for number in numbers]


def test_a_vpc_of_many_hosts_delays_another_one_by_one_answer() -> None:
    async def scene() -> None:
        waiting = Waiting()
        await waiting.come(*named("big", range(MANY)), *named("small", range(3)))
        await waiting.open()
        assert [*map(waiting.served.index, ("small-0", "small-1", "small-2"))] == [2, 4, 6]
        assert [host for host in waiting.served if host.startswith("big")] == [f"big-{at}" for at in range(MANY)]

    run(scene)


def test_a_host_that_comes_again_and_again_waits_in_one_place() -> None:
    """Its last stream is answered, where the first one waited; the others end."""

    async def scene() -> None:
        waiting = Waiting()
        await waiting.come(("v", "first"), *[("v", "again")] * MANY, ("v", "other"))
        ends = await waiting.open()
        assert waiting.served == ["first", "again", "other"]
        assert [isinstance(end, SupersededError) for end in ends] == [False, *[True] * (MANY - 1), False, False]

    run(scene)


def test_a_host_that_has_moved_waits_in_its_new_share() -> None:
    async def scene() -> None:
        waiting = Waiting()
        await waiting.come(("v", "first"), ("v", "moves"), ("w", "other"), ("w", "moves"))
        await waiting.open()
        assert waiting.served == ["first", "other", "moves"]

    run(scene)


@pytest.mark.parametrize("number", range(20))
def test_who_leaves_holds_nobody_up(number: int) -> None:
    """Tasks are cancelled wherever they are: while they wait, just as their turn comes, and in it."""

    async def scene() -> None:
        draw, waiting = random.Random(number), Waiting()
        hosts = [(f"v{draw.randrange(4)}", f"host-{at}") for at in range(30)]
        await waiting.come(*hosts)
        gone = [*draw.sample(range(1, 30), 10), 0]
        for at in gone:
            waiting.tasks[at].cancel()
            if draw.random() < 0.5:
                await asyncio.sleep(0)  # the next one has its turn
        await waiting.open()
        assert {*waiting.served} == {host for at, (_, host) in enumerate(hosts) if at not in gone}
        async with asyncio.timeout(60), waiting.turns.turn("v0", "later"):
            pass

    run(scene)


def test_shares_go_round() -> None:
    per_share = 7

    async def scene() -> None:
        waiting = Waiting()
        hosts = [one for share in "abcd" for one in named(share, range(per_share))]
        random.Random(1).shuffle(hosts)
        await waiting.come(("x", "x-first"), *hosts)
        await waiting.open()
        rounds = [waiting.served[1:][at : at + 4] for at in range(0, 4 * per_share, 4)]
        assert all({host[0] for host in one} == {*"abcd"} for one in rounds), rounds

    run(scene)


def test_the_pace_is_kept_but_for_those_that_give_it_back() -> None:
    async def scene() -> None:
        turns, begin = FairTurns(50), time.monotonic()
        for number in range(MANY):
            async with turns.turn("v", f"host-{number}"):
                turns.give_back()
        assert time.monotonic() - begin < MANY / 50, "none of them counted"
        begin = time.monotonic()
        for number in range(6):
            async with turns.turn("v", f"host-{number}"):
                pass
        assert time.monotonic() - begin >= 5 / 50 - 0.001

    run(scene)


# in a relay


class Socket:
    """In place of a connection whose host says hello. `heard`: the hosts that were sent something, in order."""

    def __init__(self, host: str, heard: list[str], have: Version | None = None) -> None:
        self.host, self._heard, self._hello = host, heard, Hello("test", have)

    async def recv(self) -> str:
        return spell(self._hello)

    async def send(self, _: object) -> None:
        self._heard.append(self.host)

    async def close(self, code: int, reason: bytes | str) -> None:
        pass


def stream_of(socket: Socket) -> Stream:
    return Stream(socket.host, cast(ServerConnection, socket))


async def begin(relay: Relay, stream: Stream) -> None:
    await relay._begin(stream, await relay._hello(stream))


def relay_of(hosts: int, vpcs: int) -> Relay:
    """Host N is in VPC N modulo `vpcs`."""
    fleet = Fleet(hosts, enis_a_host=2, hosts_a_vpc=hosts // vpcs)
    return Relay(HeldDocuments.read(Reading(1, fleet.documents())), FAST)


def test_hosts_of_a_relay_wait_by_their_vpcs() -> None:
    async def scene() -> None:
        relay, heard = relay_of(40, 2), list[str]()
        order = [host_name(number) for number in (*range(0, 40, 2), 1, 3)]
        await asyncio.gather(*(begin(relay, stream_of(Socket(host, heard))) for host in order))
        assert [*dict.fromkeys(heard)] == [*order[:2], order[20], order[2], order[21], *order[3:20]]

    run(scene)


def test_a_stream_that_was_replaced_takes_nobody_s_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The older one waited for a revision that its host has seen, while the newer one came."""
    monkeypatch.setattr(server, "BEHIND_S", 0.1)

    async def scene() -> None:
        relay, heard, name = relay_of(2, 1), list[str](), host_name(0)
        older = asyncio.create_task(begin(relay, stream_of(Socket(name, heard, Version(0, 99)))))
        await settled()
        assert heard == []
        newer = stream_of(Socket(name, heard))
        await begin(relay, newer)
        answered = len(heard)
        with pytest.raises(SupersededError):
            await older
        assert (len(heard), relay.streams[name]) == (answered, newer)
        assert answered

    run(scene)

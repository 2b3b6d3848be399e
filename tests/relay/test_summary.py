"""What a relay says of its hosts in the store."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from websockets.asyncio.server import ServerConnection

from sgdataplane.relay import summary
from sgdataplane.relay.held import HeldDocuments
from sgdataplane.relay.server import Relay
from sgdataplane.relay.streams import Stream
from sgdataplane.relay.summary import Summarizing
from sgdataplane.relay.wire import Reported, spell
from sgdataplane.store.documents import Fields
from sgdataplane.store.history import Version
from sgdataplane.store.interface import Reading, UnavailableError
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.run.memorystore import MemoryStore
from tests.support.scenes.attachbench import DNS, WEB, state_of
from tests.support.servers.relaying import Plant, hosts_of, set_ports, url_of, write_state


def test_a_relay_says_what_each_host_needs_and_has(store: SqliteStore, store_file: Path, plant: Plant) -> None:
    first = write_state(store, state_of(WEB), {"eni-a": "host-1"})
    relay = plant.relay(store_file, 0, "--name", "relay-1")
    sync = plant.sync("host-1", url_of(relay))
    plant.sync("host-2", url_of(relay))
    wait_until(lambda: all(hosts_of(store).get(host, {}).get("age") is not None for host in ("host-1", "host-2")))
    assert set(store.summaries()) == {"relay-1"}
    found = hosts_of(store)["host-1"]
    assert (found["connected"], found["enforced"], found["needed"]) == (True, None, first)
    assert "no agent" in found["error"]
    later = set_ports(store, "sg-a", DNS)
    wait_until(lambda: bool(hosts_of(store)["host-1"]["needed"] == later))
    assert hosts_of(store)["host-2"]["needed"] == first, "nothing of it has changed"
    sync.end()
    wait_until(lambda: not hosts_of(store)["host-1"]["connected"])
    assert hosts_of(store)["host-2"]["connected"]
    assert next(iter(store.summaries().values()))["seen"] == later


class Talking:
    """In place of a connection: a host's reports, each when it is called for."""

    def __init__(self) -> None:
        self.reports: asyncio.Queue[Reported] = asyncio.Queue()

    async def recv(self) -> str:
        return spell(await self.reports.get())


class Told(MemoryStore):
    """A store in memory that notes each summary."""

    def __init__(self) -> None:
        super().__init__()
        self.summaries_put: list[dict[str, Any]] = []
        self.refusals = 0

    def put_summary(self, relay: str, body: Any) -> int:  # noqa: ANN401  # a document
        if self.refusals:
            self.refusals -= 1
            raise UnavailableError("not now")
        written = super().put_summary(relay, body)
        self.summaries_put.append(body)
        return written


class Scene:
    """A relay with one host in this process, which looks for news by itself only after an hour."""

    def __init__(self) -> None:
        self.store, self.relay, self.socket = Told(), Relay(HeldDocuments.read(Reading(0, iter(())))), Talking()
        self.stream = Stream("host-1", cast(ServerConnection, self.socket))
        self.relay.streams["host-1"] = self.stream

    def enforced(self) -> list[object]:
        return [one["hosts"]["host-1"]["enforced"] for one in self.store.summaries_put]

    async def run(self, scene: Any) -> None:  # noqa: ANN401  # a coroutine function
        summarizing = Summarizing(self.store, self.relay, "relay-1")
        tasks = [asyncio.create_task(work) for work in (summarizing.run(), self.relay._receive(self.stream))]
        try:
            async with asyncio.timeout(DEADLINE):
                await scene()
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def until(self, count: int) -> None:
        while len(self.store.summaries_put) < count:
            await asyncio.sleep(0.001)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(summary, "LOOK_S", 3_600.0)
    monkeypatch.setattr(summary, "REST", 0)
    return Scene()


def test_what_a_host_reports_is_told_at_once_and_what_it_repeats_is_not(scene: Scene) -> None:
    async def work() -> None:
        await scene.until(1)
        for revision in (1, 2, 2, 3):
            scene.socket.reports.put_nowait(Reported(Version(0, revision)))
        await scene.until(4)

    asyncio.run(scene.run(work))
    assert scene.enforced() == [None, [0, 1], [0, 2], [0, 3]]


def test_without_news_no_summary_is_made_until_the_last_one_is_old(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A summary of 1,000 hosts costs a relay milliseconds, which those that connect meanwhile wait for."""
    made = list[float]()
    real = summary.summary_of

    def make(relay: Relay, now: float) -> Fields:
        made.append(now)
        return real(relay, now)

    monkeypatch.setattr(summary, "summary_of", make)
    summarizing = Summarizing(scene.store, scene.relay, "relay-1")

    async def work() -> None:
        for _ in range(3):
            await summarizing._say(is_due=True)
        assert len(made) == 1
        scene.relay.summary_due.note_revision(["host-1"])
        await summarizing._say(is_due=False)
        assert len(made) == 1, "it waits for the answer of host-1"
        monkeypatch.setattr(summary, "AT_LEAST_S", -1.0)
        await summarizing._say(is_due=True)

    asyncio.run(work())
    assert len(made) == 2


def test_what_trials_count_is_told_with_the_next_summary_and_brings_none_about() -> None:
    first = Reported(Version(0, 1), trials=({"opens": 1},))
    assert first.has_news_since(None)
    assert not Reported(Version(0, 1), trials=({"opens": 2},)).has_news_since(first)
    assert Reported(Version(0, 1), error="x", trials=({"opens": 1},)).has_news_since(first)


def test_what_many_report_within_a_moment_is_one_summary(scene: Scene) -> None:
    """A relay writes no more bytes a second than it may, however much is new."""
    summary_bytes = len(str(summary.summary_of(scene.relay, 0.0)))

    async def work() -> None:
        await scene.until(1)
        for revision in range(1, 200):
            scene.stream.report = Reported(Version(0, revision))
            scene.relay.summary_due.note_report("host-1", has_answered=True)
            await asyncio.sleep(0.001)
        await scene.until(2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "BYTES_PER_S", summary_bytes * 20)
        began = asyncio.run(timed(scene.run(work)))
    assert 2 <= len(scene.store.summaries_put) <= 2 + began * 40


async def timed(work: Any) -> float:  # noqa: ANN401  # a coroutine
    began = asyncio.get_running_loop().time()
    await work
    return asyncio.get_running_loop().time() - began


def test_a_summary_that_the_store_did_not_take_is_written_later(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "LOOK_S", 0.05)
    scene.store.refusals = 2

    async def work() -> None:
        scene.socket.reports.put_nowait(Reported(Version(0, 1)))
        while [0, 1] not in scene.enforced():
            await asyncio.sleep(0.001)

    asyncio.run(scene.run(work))
    assert scene.store.refusals == 0


def test_one_slow_summary_makes_no_long_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection of garbage fell into the third one. The fourth one is as slow, so there is more to do."""
    scene = Scene()
    ends = [(0.0, 0.01), (0.0, 0.01), (0.0, 0.1), (0.0, 0.1)]
    times = iter([moment for pair in ends for moment in pair])
    monkeypatch.setattr("sgdataplane.relay.summary.time.thread_time", lambda: next(times))
    summarizing = Summarizing(scene.store, scene.relay, "relay-1")

    async def rest() -> float:
        scene.relay.summary_due.note_stream("host-1")
        return round(await summarizing._say(is_due=True), 3)

    async def rests() -> list[float]:
        return [await rest() for _ in ends]

    assert asyncio.run(rests()) == [summary.SHORTEST_S, 0.09, 0.09, 0.9]

"""What nobody has foreseen ends a relay, or a stream, instead of leaving it there in silence."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sgdataplane.relay import listener
from sgdataplane.relay.counts import OF_TASK, RelayCounts
from sgdataplane.store.interface import Write
from sgdataplane.store.sqlite.store import SqliteStore
from sgdataplane.terminal.output import Exit
from tests.support.probes.flood import DEADLINE
from tests.support.servers.relaying import Plant, RawHost, Running, url_of


def test_a_relay_that_cannot_follow_ends(relay: Running, store: SqliteStore, store_file: Path, plant: Plant) -> None:
    """A document that isn't what all of its kind are."""
    with RawHost(plant, url_of(relay), "host-1") as host:
        assert host.greet().puts
        store.commit(Write({}, {"security_group/odd": {"state": {"rules": [7]}}}))
        assert relay.process.wait(DEADLINE) == Exit.INTERNAL
        relay.wait_for("Error")
    again = plant.relay(store_file)
    assert again.process.wait(DEADLINE) == Exit.INTERNAL


def test_a_task_beside_the_streams_that_fails_starts_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever writes summaries: without it, nobody hears of the relay's hosts any more."""
    monkeypatch.setattr(listener, "RESTART_S", 0.0)
    counts, begun = RelayCounts(), [0]

    async def work() -> None:
        begun[0] += 1
        if begun[0] < 4:
            raise ZeroDivisionError("a bug")
        await asyncio.Event().wait()

    async def run() -> None:
        task = asyncio.create_task(listener.keep_running("the work", work, counts))
        async with asyncio.timeout(DEADLINE):
            while begun[0] < 4:
                await asyncio.sleep(0)
        task.cancel()

    asyncio.run(run())
    assert counts.errors[OF_TASK] == 3
    assert [record.getMessage() for record in caplog.records] == ["the work failed, and starts again"] * 3

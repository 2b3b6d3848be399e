"""When a summary is due: what was asked for first and soonest counts, and nothing that comes meanwhile is forgotten."""

from __future__ import annotations

import asyncio
import time

from sgdataplane.relay.due import Due

LONG_S = 3_600.0


async def waited(due: Due, at_most_s: float = LONG_S) -> None:
    async with asyncio.timeout(30):
        await due.wait(at_most_s)


def test_it_comes_when_it_was_brought_forward() -> None:
    async def scene() -> None:
        due = Due()
        due.bring_forward(0.0)
        await waited(due)
        task = asyncio.create_task(waited(due))
        await asyncio.sleep(0)
        due.bring_forward(LONG_S / 2)
        assert not task.done()
        due.bring_forward(0.0)
        await task

    asyncio.run(scene())


def test_it_comes_by_itself_and_not_before() -> None:
    async def scene() -> None:
        due, began = Due(), time.monotonic()
        await waited(due, 0.05)
        assert time.monotonic() - began >= 0.05

    asyncio.run(scene())


def test_what_is_later_does_not_put_it_off() -> None:
    async def scene() -> None:
        due = Due()
        due.bring_forward(0.0)
        due.bring_forward(LONG_S)
        await waited(due)

    asyncio.run(scene())


def test_once_it_has_come_it_is_set_anew() -> None:
    async def scene() -> None:
        due = Due()
        due.bring_forward(0.0)
        await waited(due)
        task = asyncio.create_task(waited(due))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not task.done()
        task.cancel()

    asyncio.run(scene())

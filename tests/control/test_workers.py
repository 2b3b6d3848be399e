"""One key can't have all threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sgdataplane.control.answers import ApiError
from sgdataplane.control.workers import LARGE, Workers, WorkLimits

PATIENCE_S = 30


class Bench:
    """Work that goes on until it is let go."""

    def __init__(self, limits: WorkLimits) -> None:
        self.workers, self.may_end = Workers(limits), threading.Event()
        self.begun: list[str] = []

    def work(self, name: str) -> Callable[[], str]:
        def run() -> str:
            self.begun.append(name)
            assert self.may_end.wait(PATIENCE_S)
            return name

        return run

    def call(self, action: str, key: str) -> asyncio.Task[str]:
        return asyncio.create_task(self.workers.call(action, key, self.work(key)))

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not is_so():
                await asyncio.sleep(0.001)


def run(limits: WorkLimits, scene: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def all_of_it() -> None:
        bench = Bench(limits)
        try:
            await scene(bench)
        finally:
            bench.may_end.set()
            await asyncio.to_thread(bench.workers.close)

    asyncio.run(all_of_it())


def test_a_key_has_some_of_the_threads_and_its_other_calls_wait() -> None:
    async def scene(bench: Bench) -> None:
        first = [bench.call("DescribeVpcs", "one") for _ in range(9)]
        await bench.until(lambda: bench.begun == ["one"] * 2)
        other = bench.call("DescribeVpcs", "two")
        await bench.until(lambda: bench.begun == ["one", "one", "two"])
        bench.may_end.set()
        assert await asyncio.gather(*first, other) == ["one"] * 9 + ["two"]
        assert not bench.workers._turns, "nothing stays of keys that called once"

    run(WorkLimits(calls=3, calls_of_key=2), scene)


@pytest.mark.parametrize("action", ["SgdpWait", "SgdpExplain"])
def test_of_waits_and_heavy_calls_a_key_has_a_share_and_is_refused_more(action: str) -> None:
    async def scene(bench: Bench) -> None:
        first = [bench.call(action, "one") for _ in range(2)]
        with pytest.raises(ApiError, match=r"Throttling\.User"):
            await bench.call(action, "one")
        other = bench.call(action, "two")
        cheap = bench.call("DescribeVpcs", "one")
        await bench.until(lambda: "one" in bench.begun)
        bench.may_end.set()
        assert await asyncio.gather(*first, other, cheap) == ["one", "one", "two", "one"]
        again = await bench.call(action, "one")
        assert again == "one", "the share is given back"

    run(WorkLimits(waits_of_key=2, heavy_of_key=2), scene)


def test_what_found_no_turn_in_time_is_told_that_nothing_was_done() -> None:
    async def scene(bench: Bench) -> None:
        first = bench.call("DescribeVpcs", "one")
        await bench.until(lambda: bench.begun == ["one"])
        with pytest.raises(ApiError, match="Nothing was done"):
            await bench.call("DescribeVpcs", "one")
        assert bench.begun == ["one"]
        bench.may_end.set()
        with pytest.raises(ApiError, match="isn't known"):
            await first

    run(WorkLimits(calls_of_key=1, call_s=0.2), scene)


def test_large_requests_that_are_checked_hold_up_no_small_ones() -> None:
    async def scene(bench: Bench) -> None:
        large = [asyncio.create_task(bench.workers.check(LARGE + 1, bench.work("large"))) for _ in range(5)]
        await bench.until(lambda: bench.begun == ["large"])
        small = asyncio.create_task(bench.workers.check(LARGE, bench.work("small")))
        await bench.until(lambda: bench.begun == ["large", "small"])
        bench.may_end.set()
        assert await asyncio.gather(small, *large) == ["small", *["large"] * 5]

    run(WorkLimits(), scene)

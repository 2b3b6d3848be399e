"""One key can't have all threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.http.workers import LARGE, REST_TIMES, Workers, WorkLimits
from sgdataplane.control.service.heavy import HEAVY

DEADLINE_S = 30


class Bench:
    """Work that goes on until it is let go."""

    def __init__(self, limits: WorkLimits) -> None:
        self.workers, self.may_end = Workers(limits), threading.Event()
        self.begun: list[str] = []
        self.ended = 0

    def work(self, name: str) -> Callable[[], str]:
        def run() -> str:
            self.begun.append(name)
            assert self.may_end.wait(DEADLINE_S)
            return name

        return run

    def heavy(self, ending: threading.Event) -> str:
        """Work that also ends when it is told to."""
        self.begun.append("heavy")
        while not (self.may_end.wait(0.001) or ending.is_set()):
            pass
        self.ended += ending.is_set()
        return "heavy"

    def call(self, action: str, key: str) -> asyncio.Task[str]:
        if action in HEAVY:
            return asyncio.create_task(self.workers.heavy(key, self.heavy))
        return asyncio.create_task(self.workers.call(action, key, self.work(key)))

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
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
        kept = ["heavy"] * 3 if action in HEAVY else ["one", "one", "two"]
        assert await asyncio.gather(*first, other, cheap) == [*kept, "one"]
        assert await bench.call(action, "one") == kept[0], "the share is given back"

    run(WorkLimits(waits_of_key=2, heavy_of_key=2), scene)


def test_a_heavy_call_that_nobody_waits_for_is_ended_and_its_share_is_free_then() -> None:
    async def scene(bench: Bench) -> None:
        first = [bench.call("SgdpExplain", "one") for _ in range(3)]  # one of them finds no thread
        await bench.until(lambda: len(bench.begun) == 2)
        for one in first:
            one.cancel()
        await asyncio.wait(first)
        assert (bench.ended, len(bench.begun)) == (2, 2)
        again = [bench.call("SgdpExplain", "one") for _ in range(3)]
        await bench.until(lambda: len(bench.begun) == 4)
        bench.may_end.set()
        assert await asyncio.gather(*again) == ["heavy"] * 3

    run(WorkLimits(heavy=2, heavy_of_key=3), scene)


def test_a_heavy_call_that_takes_too_long_is_ended_and_so_are_all_at_the_end() -> None:
    async def scene(bench: Bench) -> None:
        with pytest.raises(ApiError, match="No answer within"):
            await bench.call("SgdpDiff", "one")
        assert bench.ended == 1

    async def ending(bench: Bench) -> None:
        first = [bench.call("SgdpDiff", "one") for _ in range(2)]
        await bench.until(lambda: bench.begun == ["heavy"])
        bench.workers.end_heavy()
        await asyncio.gather(*first)
        assert bench.ended == 2

    run(WorkLimits(heavy_s=0.2), scene)
    run(WorkLimits(heavy=1), ending)


def test_what_found_no_turn_in_time_is_told_that_nothing_was_done() -> None:
    async def scene(bench: Bench) -> None:
        """The first call's client is told before the second asks, and the call goes on: it still has the only turn."""
        first = bench.call("DescribeVpcs", "one")
        await bench.until(lambda: bench.begun == ["one"])
        with pytest.raises(ApiError, match="isn't known"):
            await first
        with pytest.raises(ApiError, match="Nothing was done"):
            await bench.call("DescribeVpcs", "one")
        assert bench.begun == ["one"]
        bench.may_end.set()
        await bench.until(lambda: not bench.workers._turns)

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


@pytest.mark.parametrize("is_refused", [True, False])
def test_after_a_large_request_that_is_refused_no_other_one_is_checked_for_a_while(
    monkeypatch: pytest.MonkeyPatch, *, is_refused: bool
) -> None:
    slept: list[float] = []
    used = iter([1.0, 3.0])
    monkeypatch.setattr("sgdataplane.control.http.workers.time.thread_time", lambda: next(used))
    monkeypatch.setattr("sgdataplane.control.http.workers.time.sleep", slept.append)

    def work() -> str:
        if is_refused:
            raise ApiError("SignatureDoesNotMatch", "")
        return "done"

    async def scene(bench: Bench) -> None:
        checked = bench.workers.check(LARGE + 1, work)
        if not is_refused:
            assert await checked == "done"
            return
        with pytest.raises(ApiError):
            await checked

    run(WorkLimits(), scene)
    assert slept == ([REST_TIMES * 2.0] if is_refused else [])

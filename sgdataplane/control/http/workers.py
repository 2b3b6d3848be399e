"""The threads in which requests are checked and calls carried out, and each key's share of them.

Owns how many there are of each kind, and who waits for one. Must not know HTTP, or what a call does.

    admission   requests are checked here, before anybody knows who sent them; those with much text in a thread of their
                own, as one of them takes as long as a hundred others. After one that is refused, that thread rests, so
                that they can't keep a processor busy
    call        ordinary calls; only some of one key at a time
    heavy       calls that compute for long (SgdpDiff, SgdpExplain), in processes for which these threads wait; only
                some of one key may run or wait. They are ended when nobody waits for them any more
    wait        calls that wait (SgdpWait) and may take an hour; only some of one key
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import TypeVar

from sgdataplane.control.calls.answers import UNAVAILABLE, ApiError
from sgdataplane.control.http.tokenbuckets import make_refusal
from sgdataplane.control.service.heavy import HEAVY_S

T = TypeVar("T")
WAITING = frozenset({"SgdpWait"})
LARGE = 32 << 10  # bytes of a request from which it is checked apart
REST_TIMES = 3.0  # as long as it took to refuse a large request, no other one is checked


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """How many threads there are, and how much of them one key may have."""

    calls: int = 8
    """Threads for ordinary calls."""
    calls_of_key: int = 4
    """How many run at a time; further ones of the key wait until these have ended, also those that take too long."""
    heavy: int = 4
    """Threads for heavy calls."""
    heavy_of_key: int = 2
    """How many may run or wait for a thread; more are refused."""
    waits: int = 64
    """Threads for calls that wait."""
    waits_of_key: int = 16
    """How many may run or wait for a thread; more are refused."""
    call_s: float = 30.0
    """Seconds that an ordinary call may take."""
    heavy_s: float = HEAVY_S
    """Seconds that a heavy call may take."""
    wait_s: float = 3700.0
    """Seconds that a call may wait."""


class Workers:
    """Runs work in these threads for one event loop."""

    def __init__(self, limits: WorkLimits) -> None:
        self.limits = limits
        self._small, self._large = ThreadPoolExecutor(2, "admission"), ThreadPoolExecutor(1, "admission-large")
        self._calls, self._heavy = ThreadPoolExecutor(limits.calls, "call"), ThreadPoolExecutor(limits.heavy, "heavy")
        self._waits = ThreadPoolExecutor(limits.waits, "wait")
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._used: Counter[str] = Counter()  # turns, by key
        self._of_key: Counter[tuple[str, str]] = Counter()  # heavy calls and waits, by kind and key
        self._endings: set[Event] = set()  # of heavy calls that run or wait

    def end_heavy(self) -> None:
        """End all heavy calls, and don't wait for that."""
        for ending in self._endings:
            ending.set()

    def close(self) -> None:
        """Wait until all that was begun is done."""
        for pool in (self._small, self._large, self._calls, self._heavy, self._waits):
            pool.shutdown()

    async def check(self, size: int, work: Callable[[], T]) -> T:
        """Run what checks a request of so many bytes."""
        if size > LARGE:
            return await _run(self._large, self.limits.call_s, partial(_check_and_rest, work))
        return await _run(self._small, self.limits.call_s, work)

    async def call(self, action: str, key: str, work: Callable[[], T]) -> T:
        """Run a call of a key.

        Raises:
            ApiError: The call is refused, the key has too many, or it takes too long.
        """
        if action in WAITING:
            async with self._share("wait", key, self.limits.waits_of_key, self.limits.waits):
                return await _run(self._waits, self.limits.wait_s, work)
        await self._take_turn(key)
        return await _run(self._calls, self.limits.call_s, work, partial(self._end_turn, key))

    async def heavy(self, key: str, work: Callable[[Event], T]) -> T:
        """Run a heavy call of a key. Its share of the key is free once it has ended.

        If it takes too long, or this is cancelled, `work` is told to end by the event.

        Raises:
            ApiError: The call is refused, the key has too many, or it takes too long.
        """
        async with self._share("heavy", key, self.limits.heavy_of_key, 4 * self.limits.heavy_of_key):
            ending = Event()
            job = self._heavy.submit(work, ending)
            future = asyncio.wrap_future(job)
            self._endings.add(ending)
            try:
                await asyncio.wait({future}, timeout=self.limits.heavy_s)
                if not future.done():
                    raise unavailable(f"No answer within {self.limits.heavy_s:g} s: it was given up.")
                return future.result()
            finally:
                self._endings.discard(ending)
                ending.set()
                job.cancel()  # if it hasn't begun
                await asyncio.wait({future})
                future.cancelled() or future.exception()  # nobody else asks

    @asynccontextmanager
    async def _share(self, kind: str, key: str, most: int, most_of_all: int) -> AsyncIterator[None]:
        total = sum(count for (other, _), count in self._of_key.items() if other == kind)
        if self._of_key[kind, key] >= most or total >= most_of_all:
            raise make_refusal(1.0)
        self._of_key[kind, key] += 1
        try:
            yield
        finally:
            self._of_key[kind, key] -= 1
            if not self._of_key[kind, key]:
                del self._of_key[kind, key]

    async def _take_turn(self, key: str) -> None:
        """Wait until the key has fewer calls under way than it may have. The turn is the caller's until `_end_turn`."""
        turn = self._turns.setdefault(key, asyncio.Semaphore(self.limits.calls_of_key))
        self._used[key] += 1
        try:
            async with asyncio.timeout(self.limits.call_s):
                await turn.acquire()
        except TimeoutError:
            self._leave(key)
            raise busy(self.limits.call_s) from None
        except asyncio.CancelledError:
            self._leave(key)
            raise

    def _end_turn(self, key: str) -> None:
        self._turns[key].release()
        self._leave(key)

    def _leave(self, key: str) -> None:
        """Note that a call of a key has ended, and forget the key with its last call."""
        self._used[key] -= 1
        if not self._used[key]:
            del self._used[key], self._turns[key]


def _check_and_rest(work: Callable[[], T]) -> T:
    began = time.thread_time()
    try:
        return work()
    except ApiError:
        time.sleep(REST_TIMES * (time.thread_time() - began))
        raise


async def _run(
    threads: ThreadPoolExecutor, seconds: float, work: Callable[[], T], ended: Callable[[], None] = lambda: None
) -> T:
    """Return what `work` returns, or raise what it raises.

    If it takes too long, the client is told so, and the work goes on. `ended` is called once it has ended, however
    late.
    """
    job = threads.submit(work)
    future = asyncio.wrap_future(job)
    future.add_done_callback(lambda _: ended())
    await asyncio.wait({future}, timeout=seconds)
    if future.done():
        return future.result()
    if job.cancel():  # it hasn't begun
        raise busy(seconds)
    words = "It isn't known whether it was done: send it again, with the same ClientToken."
    raise unavailable(f"No answer within {seconds:g} s. {words}")


def busy(seconds: float) -> ApiError:
    """Return the error for what found no thread in time."""
    return unavailable(f"The service is busy, for {seconds:g} s already. Nothing was done.")


def unavailable(words: str) -> ApiError:
    """Return the cloud's error for what may go well later."""
    return ApiError("ServiceUnavailable", words, UNAVAILABLE, {"retry-after": "1"})

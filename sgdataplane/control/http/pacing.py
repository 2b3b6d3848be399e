"""Pacing of clients that get nothing done, so that they can't keep the process busy.

Owns how soon a refusal is answered, how often a connection is shown health and metrics, and how often these are made.
Must not know why a request is refused, or what is shown.

What a client without a key sends is cheap to refuse, but thousands of connections that ask again at once would leave no
time for others. So refusals leave at a rate, one after the other: a client that waits for one sends nothing meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
BURST = 50  # that leave at once
MAX_HELD_S = 30.0  # for which a refusal is held; then the connection ends without it
SHOWN_S, MAX_SHOWN = 1.0, 5_000  # how often one connection is shown the same, and how many connections are remembered
REST_TIMES = 9.0  # as long as making something took, none is made again


class RefusalRate:
    """Lets so many pass a second, in the order in which they come. Lives in one event loop."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._gap, self._clock = 1 / rate, clock
        self._next = clock() - BURST * self._gap

    def take(self) -> float:
        """Return for how many seconds the next one has to wait."""
        now = self._clock()
        self._next = max(self._next, now - BURST * self._gap) + self._gap
        return max(0.0, self._next - now)

    async def wait(self) -> bool:
        """Wait for a turn; False if that would take too long."""
        delay = self.take()
        if delay > MAX_HELD_S:
            self._next -= self._gap
            return False
        await asyncio.sleep(delay)
        return True


class Cooldown:
    """Lets one connection have the same only once in `SHOWN_S`. Lives in one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next: dict[tuple[str, int], float] = {}

    async def wait(self, connection: tuple[str, int]) -> None:
        """Wait until a connection, known by its other end, may have it again."""
        now = self._clock()
        if len(self._next) >= MAX_SHOWN:
            self._next = {one: at for one, at in self._next.items() if at > now}
        at = max(self._next.get(connection, 0.0), now)
        self._next[connection] = at + SHOWN_S
        await asyncio.sleep(at - now)


class SharedAnswer(Generic[T]):
    """Makes one answer for everybody who has asked for it by then. Lives in one event loop.

    Making answers takes a tenth of the time at most.
    """

    def __init__(self, make: Callable[[], Awaitable[T]], clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self._clock = make, clock
        self._one = asyncio.Lock()
        self._coming: asyncio.Future[T] | None = None
        self._next = 0.0

    async def get(self) -> T:
        """Return what is made after this call."""
        if self._coming is None:
            self._coming = asyncio.ensure_future(self._await_answer())
        return await asyncio.shield(self._coming)

    async def _await_answer(self) -> T:
        async with self._one:
            await asyncio.sleep(self._next - self._clock())
            self._coming = None  # those that ask from here on get the one after this
            began = self._clock()
            try:
                return await self._make()
            finally:
                ended = self._clock()
                self._next = ended + min(SHOWN_S, REST_TIMES * (ended - began))

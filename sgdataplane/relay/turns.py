"""Whose hello is answered next, when many hosts come at once.

Owns the order and the pace of answers. Must not know what an answer is.

Answers are prepared one at a time. Hosts that wait are grouped by a share, which is their VPC. The shares take turns,
and the first host of a share to come is the first one that is answered. So a VPC with a thousand hosts delays a host of
another VPC by one answer, and not by a thousand. A host waits in one place, however often it connects.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class SupersededError(Exception):
    """A newer stream of the same host has taken this one's place."""


class FairTurns:
    """A concurrency limiter: one task at a time has the turn, and at most `per_second` tasks a second."""

    def __init__(self, per_second: float) -> None:
        self._gap, self._next = 1 / per_second, 0.0
        self._is_taken = False
        self._waiting: dict[str, dict[str, asyncio.Future[None]]] = {}  # share -> host; whoever is first is next
        self._share_of: dict[str, str] = {}  # host that waits -> its share

    @asynccontextmanager
    async def turn(self, share: str, host: str) -> AsyncIterator[None]:
        """Wait for a host's turn, and keep it while the block runs.

        Raises:
            SupersededError: The same host has come again, and waits in this place now.
        """
        if self._is_taken:
            await self._wait(share, host)
        self._is_taken = True
        try:
            await asyncio.sleep(max(0.0, self._next - time.monotonic()))
            self._next = max(self._next, time.monotonic()) + self._gap
            yield
        finally:
            self._pass_on()

    def give_back(self) -> None:
        """Let the next task in at once, because the one inside has used nothing of what is limited."""
        self._next -= self._gap

    async def _wait(self, share: str, host: str) -> None:
        came = asyncio.get_running_loop().create_future()
        self._queue(share, host, came)
        try:
            await came
        except BaseException:
            if self._waiting.get(share, {}).get(host) is came:
                self._take_out(share, host)
            elif came.done() and not came.cancelled() and came.exception() is None:  # cancelled in its turn
                self._pass_on()
            raise

    def _queue(self, share: str, host: str, came: asyncio.Future[None]) -> None:
        """Put a host at the end of its share. If it waits there already, it keeps its place."""
        if (former := self._share_of.get(host)) is not None:
            with suppress(asyncio.InvalidStateError):  # that task was cancelled meanwhile
                self._waiting[former][host].set_exception(SupersededError(host))
            if former != share:
                self._take_out(former, host)
        self._waiting.setdefault(share, {})[host] = came
        self._share_of[host] = share

    def _take_out(self, share: str, host: str) -> asyncio.Future[None]:
        hosts = self._waiting[share]
        del self._share_of[host]
        came = hosts.pop(host)
        if not hosts:
            del self._waiting[share]
        return came

    def _pass_on(self) -> None:
        """Give the turn to the next host of the share whose turn it is. That share's others then wait for a round."""
        while self._waiting:
            share, hosts = next(iter(self._waiting.items()))
            came = self._take_out(share, next(iter(hosts)))
            if share in self._waiting:
                self._waiting[share] = self._waiting.pop(share)
            if not came.done():
                came.set_result(None)
                return
        self._is_taken = False

"""The time at which a summary is due.

Owns that moment, which whatever happens brings forward. Must not know what a summary says.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress


class Due:
    """A moment that may be brought forward. One event loop uses it."""

    def __init__(self) -> None:
        self._at = float("inf")
        self._moved = asyncio.Event()

    def bring_forward(self, within_s: float) -> None:
        """Let it come within so many seconds, unless it comes sooner anyway."""
        at = time.monotonic() + within_s
        if at < self._at:
            self._at = at
            self._moved.set()

    async def wait(self, at_most_s: float) -> None:
        """Return once the moment has come, after `at_most_s` seconds at the latest. It then has to be set anew."""
        self.bring_forward(at_most_s)
        while (left := self._at - time.monotonic()) > 0:
            self._moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._moved.wait()
        self._at = float("inf")

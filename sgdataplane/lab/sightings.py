"""Which packets were seen where, for those who ask and those who wait.

Owns the memory. Is told by taps (tap.py) and watches (watch.py). Must not know how packets are seen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict

REMEMBERED = 100_000


class Sightings:
    """Packets by place and key (frames.py); the oldest are forgotten."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._waiting: dict[tuple[str, str], asyncio.Event] = {}

    def record(self, place: str, key: str) -> None:
        """One more was seen."""
        sighting = (place, key)
        self._seen[sighting] = self._seen.get(sighting, 0) + 1
        self._seen.move_to_end(sighting)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        waiting = self._waiting.pop(sighting, None)
        if waiting is not None:
            waiting.set()

    def count(self, place: str, key: str) -> int:
        """How many such packets were seen so far, as far as they have been read."""
        return self._seen.get((place, key), 0)

    async def wait_seen(self, place: str, key: str, seconds: float, beyond: int = 0) -> bool:
        """Wait until more than `beyond` such packets were seen; False if that takes longer than `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.count(place, key) <= beyond:
                    await self._waiting.setdefault((place, key), asyncio.Event()).wait()
        return self.count(place, key) > beyond

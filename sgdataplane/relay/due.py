"""The time at which a summary is due.

Owns that moment, which whatever happens brings forward. Must not know what a summary says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress

# Seconds until a summary is due: after a host's news; after a revision that concerns nobody; after one that concerns
# hosts, if not all of them answer before; after a stream has begun or ended.
HOST_S, REVISION_S, ANSWERS_S, STREAM_S = 0.004, 0.04, 0.2, 0.25
# Thousands of streams may begin or end one after the other. So that takes longer if a summary costs more: so many times
# as long as the last one kept the loop busy, and so many seconds at most.
STREAM_REST, MAX_STREAM_S = 100, 2.0


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

    async def wait(self, at_most_s: float) -> bool:
        """Wait until the moment has come, `at_most_s` seconds at most. Return whether it has; it is set anew then."""
        ends = time.monotonic() + at_most_s
        while (left := min(self._at, ends) - time.monotonic()) > 0:
            self._moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._moved.wait()
        has_come = self._at <= time.monotonic()
        if has_come:
            self._at = float("inf")
        return has_come


class SummaryDue(Due):
    """When a relay's next summary is due.

    A summary says soon what became of a host. But hosts that a revision concerns answer it one after the other, and a
    relay rests after each summary, so that one which follows the first answer delays all others. So it waits for the
    last answer, if that comes soon.
    """

    def __init__(self) -> None:
        super().__init__()
        self._awaited: set[str] = set()  # hosts that a revision concerns, and that haven't answered it
        self._has_news = False  # whether anything was noted since the last summary
        self._stream_s = STREAM_S  # until one is due after a stream has begun or ended

    def note_revision(self, concerned: Iterable[str]) -> None:
        """Let one come soon after a revision, or after the answers of the hosts that it concerns."""
        self._awaited.update(concerned)
        self._note(REVISION_S)

    def note_unconcerned(self, host: str) -> None:
        """Await no answer of a host for which a revision has changed nothing."""
        self._awaited.discard(host)
        self._has_news = True
        self.bring_forward(REVISION_S)

    def note_report(self, host: str, *, has_answered: bool) -> None:
        """Let one come soon after a host has reported something new, unless answers of others are awaited.

        After the last answer that is awaited, one comes at once.
        """
        is_last = has_answered and self._awaited == {host}
        if has_answered:
            self._awaited.discard(host)
        self._note(0.0 if is_last else HOST_S)

    def note_stream(self, host: str) -> None:
        """Let one come after a host's stream has begun or ended, or soon if the host's answer is awaited."""
        within_s = HOST_S if host in self._awaited else self._stream_s
        self._awaited.discard(host)
        self._has_news = True
        self.bring_forward(within_s)

    def note_cost(self, busy_s: float) -> None:
        """Note for how many seconds a summary keeps the loop busy."""
        self._stream_s = min(MAX_STREAM_S, max(STREAM_S, STREAM_REST * busy_s))

    def _note(self, within_s: float) -> None:
        self._has_news = True
        self.bring_forward(ANSWERS_S if self._awaited else within_s)

    def take_news(self) -> bool:
        """Return whether anything is new. The summary that is written now has it, so nothing is new or awaited then."""
        has_news, self._has_news = self._has_news, False
        self._awaited.clear()
        return has_news

"""The limits of a process that must not disturb others: its processor time, and what it believes of the clock.

Is given times. Must not know what the process does.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE = 0.04  # of one processor
BURST_S = 1.0  # of processor time that may come at once
SLICE_S = 0.2  # of a sleep
JUMP_S, STEADY_S = 30.0, 3600.0


class CpuBudget:
    """A token bucket of processor time.

    Attributes:
        is_over: Tells whether the process is to end, which ends a sleep.
    """

    def __init__(
        self,
        used: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._used, self._clock, self._sleep = used, clock, sleep
        self.is_over: Callable[[], bool] = lambda: False
        self._at, self._before, self._left = clock(), used(), BURST_S

    def keep(self) -> float:
        """Sleep while more processor time was used than SHARE allows; return for how many seconds."""
        now, used = self._clock(), self._used()
        self._left = min(BURST_S, self._left + SHARE * (now - self._at)) - (used - self._before)
        self._at, self._before = now, used
        if self._left >= 0:
            return 0.0
        seconds = -self._left / SHARE
        until = now + seconds
        while (left := until - self._clock()) > 0 and not self.is_over():
            self._sleep(min(left, SLICE_S))
        return seconds


class SteadyClock:
    """A judge of whether the time of day has run evenly for an hour.

    Old rows are removed by that time, so a wrong clock must not cost what is kept.
    """

    def __init__(self, even: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)) -> None:
        self._even = even
        self._offset: float | None = None
        self._since = even()

    def note(self, seconds: float) -> None:
        """Note the time of day, in seconds since 1970."""
        even = self._even()
        if self._offset is None or abs(seconds - even - self._offset) > JUMP_S:
            self._since = even
        self._offset = seconds - even

    @property
    def is_steady(self) -> bool:
        """Whether the time of day hasn't jumped for STEADY_S."""
        return self._even() - self._since >= STEADY_S

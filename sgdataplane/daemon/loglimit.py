"""The limit of lines that others can make the agent log.

Owns the rate, and what is held back. Its input is records, and the time by a clock. Must not know what they say.

Root in a namespace can make a link flap, change rules or rename interfaces as often as it likes, and the agent has
something to say each time. So lines about the same thing have a rate: BURST at once, then one each EVERY_S. The newest
line that was held back is logged once the rate allows it, with how many were left out before it. So the last line about
a thing always says how it is, and one noisy thing silences no other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

BURST, EVERY_S = 20, 5.0
MAX_SUBJECTS = 4096  # more than that share a rate for each event
SUBJECTS = ("eni", "namespace", "at", "causes")  # the fields that say what a line is about
Key = tuple[str, ...]


@dataclass
class _Rate:
    """The rate of the lines about one thing."""

    room: float  # how many lines may be logged now
    at: float  # when `room` was so, by the clock
    held: logging.LogRecord | None = None  # the newest line that may not be logged yet
    left_out: int = 0  # how many were left out before that

    def refill(self, now: float) -> None:
        self.room, self.at = min(BURST, self.room + (now - self.at) / EVERY_S), now

    @property
    def is_rested(self) -> bool:
        return self.held is None and self.room >= BURST


class LogLimit(logging.Filter):
    """A filter for a log handler. `let_through` gets what was held back, with `left_out`."""

    def __init__(
        self, let_through: Callable[[logging.LogRecord], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._let_through, self._clock = let_through, clock
        self._lock = threading.Lock()
        self._rates: dict[Key, _Rate] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log the record now."""
        with self._lock:
            now = self._clock()
            rate = self._rate_of(_key_of(record), now)
            rate.refill(now)
            if rate.held is None and rate.room >= 1:
                rate.room -= 1
                return True
            rate.left_out += rate.held is not None
            rate.held = record
            return False

    def _rate_of(self, key: Key, now: float) -> _Rate:
        if key not in self._rates and len(self._rates) >= MAX_SUBJECTS:
            for rate in self._rates.values():
                rate.refill(now)
            self._rates = {known: rate for known, rate in self._rates.items() if not rate.is_rested}
            key = key[:1] if len(self._rates) >= MAX_SUBJECTS else key
        return self._rates.setdefault(key, _Rate(BURST, now))

    @property
    def wait_s(self) -> float | None:
        """The seconds until a line that is held back may be logged; None if none is."""
        with self._lock:
            now = self._clock()
            waits = [rate.at - now + (1 - rate.room) * EVERY_S for rate in self._rates.values() if rate.held]
        return max(0.0, min(waits)) if waits else None

    def flush(self, *, is_over: bool = False) -> None:
        """Log what was held back and may be logged now; with `is_over` all of it."""
        with self._lock:
            now = self._clock()
            due = [
                rate for rate in self._rates.values() if rate.held is not None and _is_due(rate, now, is_over=is_over)
            ]
            records = [_take(rate) for rate in due]
        for record in records:
            self._let_through(record)

    def forget(self) -> None:
        """Log what is held back, and begin anew, as somebody has asked to look at everything."""
        self.flush(is_over=True)
        with self._lock:
            self._rates.clear()


def _is_due(rate: _Rate, now: float, *, is_over: bool) -> bool:
    rate.refill(now)
    return is_over or rate.room >= 1


def _take(rate: _Rate) -> logging.LogRecord:
    record, rate.held = rate.held, None
    assert record is not None
    record.left_out, rate.left_out, rate.room = rate.left_out, 0, max(0.0, rate.room - 1)
    return record


def _key_of(record: logging.LogRecord) -> Key:
    fields = getattr(record, "fields", None)
    if not isinstance(fields, dict):
        return record.name, str(record.msg)
    return str(fields.get("event")), *(str(fields[name]) for name in SUBJECTS if name in fields)

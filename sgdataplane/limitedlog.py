"""Limit how often the log says something about others, who may not fill it.

Owns the rate. Must not know what is logged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

EVERY_S = 5.0  # at most one line about a subject in this time
MAX_LENGTH, MAX_SUBJECTS = 1_000, 1_000  # characters of a line; subjects that are remembered


class RateLimitedLog:
    """Log lines about subjects, such as hosts: at most one line about each in EVERY_S, and no line twice in a row.

    `log` takes a line.
    """

    def __init__(self, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._last: dict[str, tuple[float, str]] = {}

    def write(self, subject: str, line: str) -> None:
        """Log the line, unless one about this subject was logged a moment ago, or the last one said the same."""
        at, last = self._last.get(subject, (-EVERY_S, ""))
        now = self._clock()
        if line == last or now - at < EVERY_S:
            return
        if len(self._last) >= MAX_SUBJECTS:
            self._last.clear()
        self._last[subject] = now, line
        self._log(line[:MAX_LENGTH])

    def forget(self, subject: str) -> None:
        """Note that the trouble with this subject is over, so that the same line is worth logging again."""
        at, _ = self._last.get(subject, (0.0, ""))
        if subject in self._last:
            self._last[subject] = at, ""


def limit_log(logger: logging.Logger) -> RateLimitedLog:
    """Return a rate-limited log that writes warnings to this logger."""
    return RateLimitedLog(lambda line: logger.warning("%s", line))

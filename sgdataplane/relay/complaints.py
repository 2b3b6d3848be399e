"""What is said about peers in the log, which no peer may fill.

Owns how often. Must not know what is complained about.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

EACH_S = 5.0  # a line about one subject
MOST = 1_000  # letters of a line, and subjects that are remembered


class Complaints:
    """Lines about subjects, such as hosts: about each one in EACH_S, and none that says what the last one said.
    `log`: takes a line."""

    def __init__(self, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._said: dict[str, tuple[float, str]] = {}

    def say(self, subject: str, line: str) -> None:
        """Log it, unless there was one about this subject a moment ago, or the same."""
        at, last = self._said.get(subject, (-EACH_S, ""))
        now = self._clock()
        if line == last or now - at < EACH_S:
            return
        if len(self._said) >= MOST:
            self._said.clear()
        self._said[subject] = now, line
        self._log(line[:MOST])

    def forget(self, subject: str) -> None:
        """What was wrong is over: the same again is worth a line."""
        at, _ = self._said.get(subject, (0.0, ""))
        if subject in self._said:
            self._said[subject] = at, ""


def complaints_of(logger: logging.Logger) -> Complaints:
    return Complaints(lambda line: logger.warning("%s", line))

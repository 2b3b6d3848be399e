"""How the agent logs, and what it tells systemd.

Owns the form of a line, `event key=value ...` on stderr, as journald takes it, and the datagrams of sd_notify(3). Is
given the environment. Must not know what the agent does."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from sgdataplane.visible import json_text, visible

LOGGER = logging.getLogger("sgdataplane.agent")
PLAIN = re.compile(r"[^\s\"=]+")
PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}  # sd-daemon


class _Formatter(logging.Formatter):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__()
        self._is_journal = "JOURNAL_STREAM" in environment

    def format(self, record: logging.LogRecord) -> str:
        """One line, also for a traceback. For journald a level number comes first, for others a word."""
        text = record.getMessage()
        if record.exc_info:
            text += f" traceback={spelt(self.formatException(record.exc_info))}"
        text = visible(text)
        if self._is_journal:
            return f"<{PRIORITIES.get(record.levelno, 6)}>{text}"
        return f"{record.levelname.lower()} {text}"


def set_up(level: str) -> None:
    """Log from now on, also what other parts of the product log."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(os.environ))
    logger = logging.getLogger("sgdataplane")
    logger.handlers[:] = [handler]
    logger.propagate = False
    set_level(level)


def set_level(level: str) -> None:
    logging.getLogger("sgdataplane").setLevel(level.upper())


def event(level: int, word: str, **fields: object) -> None:
    """Log one line; values with spaces are quoted as in JSON."""
    LOGGER.log(level, "%s", " ".join([word, *(f"{key}={spelt(value)}" for key, value in fields.items())]))


def spelt(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if PLAIN.fullmatch(text) and visible(text) == text else json_text(text)


class Notifier:
    """Tells systemd how the agent is, if systemd wants to know. `beat` says that it is alive, at most twice in the time
    after which systemd would kill it."""

    def __init__(self, environment: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        limit = environment.get("WATCHDOG_USEC", "")
        self._interval = int(limit) / 2e6 if self._address and limit.isdigit() and int(limit) else None
        self._clock, self._next = clock, clock()

    @property
    def wait_s(self) -> float | None:
        """How long until the next beat; None if systemd wants none."""
        return None if self._interval is None else max(0.0, self._next - self._clock())

    def beat(self) -> None:
        if self._interval is not None and self._clock() >= self._next:
            self._next = self._clock() + self._interval
            self.tell("WATCHDOG=1")

    def tell(self, *lines: str) -> None:
        """Send e.g. READY=1, STATUS=...; RELOADING=1 gets the timestamp that systemd needs with it."""
        if not self._address:
            return
        if "RELOADING=1" in lines:
            lines = (*lines, f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
            door.sendto("\n".join(lines).encode(), self._address)

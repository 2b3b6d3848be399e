"""The agent's log, and what it tells systemd.

Owns the form of a line, `event key=value ...`, which goes to stderr, with its time, or with its fields to journald; and
the datagrams of sd_notify(3). `left_out` in a line: how many like it were left out before (loglimit.py). Its input is
the environment. Must not know what the agent does.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from sgdataplane.daemon.loglimit import LogLimit
from sgdataplane.visible import json_text, visible

LOGGER = logging.getLogger("sgdataplane.agent")
PLAIN = re.compile(r"[^\s\"=]+")
PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}  # sd-daemon
JOURNAL = "/run/systemd/journal/socket"


def _line(record: logging.LogRecord) -> str:
    """Return a record as one line, also with a traceback."""
    text = record.getMessage()
    if record.exc_info:
        text += f" traceback={spell(logging.Formatter().formatException(record.exc_info))}"
    left_out = getattr(record, "left_out", 0)
    return visible(f"{text} left_out={left_out}" if left_out else text)


class _ToStderr(logging.StreamHandler):  # type: ignore[type-arg]  # its stream is stderr
    """A handler that writes lines with their time to stderr."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        return f"{at}Z {record.levelname.lower()} {_line(record)}"


class _ToJournal(logging.StreamHandler):  # type: ignore[type-arg]
    """A handler that speaks journald's native protocol.

    If the socket doesn't take a line, it goes to stderr, which leads there, too.
    """

    def __init__(self, address: str = JOURNAL) -> None:
        super().__init__()
        self._address = address
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._sock.sendto("".join(_entry(record)).encode(), self._address)
        except OSError:  # e.g. too long, or journald is being restarted
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return a line for stderr. The number before it is the level, as journald reads it."""
        return f"<{_priority(record)}>{_line(record)}"

    def close(self) -> None:
        self._sock.close()
        super().close()


def _priority(record: logging.LogRecord) -> int:
    return PRIORITIES.get(record.levelno, 6)


def _entry(record: logging.LogRecord) -> Iterator[str]:
    """Yield the lines KEY=value of an entry. Others' text is on one line, so it can't begin another field."""
    yield f"MESSAGE={_line(record)}\nPRIORITY={_priority(record)}\nSYSLOG_IDENTIFIER=sgdp\n"
    for key, value in {**getattr(record, "fields", {}), "left_out": getattr(record, "left_out", 0) or None}.items():
        if value is not None:
            yield f"SGDP_{key.upper()}={visible(_text(value))}\n"


def leads_to_journal(environment: Mapping[str, str], descriptor: int) -> bool:
    """Whether journald reads this descriptor: systemd.exec(5), $JOURNAL_STREAM."""
    found = os.fstat(descriptor)
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def set_up(level: str) -> LogLimit:
    """Log from now on, also what other parts of the product log. Return what limits lines that others cause."""
    logger = logging.getLogger("sgdataplane")
    handler = _ToJournal() if leads_to_journal(os.environ, sys.stderr.fileno()) else _ToStderr()
    limit = LogLimit(handler.emit)
    handler.addFilter(limit)
    logger.handlers[:] = [handler]
    logger.propagate = False
    set_level(level)
    return limit


def set_level(level: str) -> None:
    """Set the least level that is logged, by its name in the configuration."""
    logging.getLogger("sgdataplane").setLevel(level.upper())


def event(level: int, word: str, **fields: object) -> None:
    """Log one line; values with spaces are quoted as in JSON."""
    line = " ".join([word, *(f"{key}={spell(value)}" for key, value in fields.items())])
    LOGGER.log(level, "%s", line, extra={"fields": {"event": word, **fields}})


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def spell(value: object) -> str:
    """Return a value as it is in a line: quoted as in JSON if it isn't a plain word."""
    text = _text(value)
    return text if PLAIN.fullmatch(text) and visible(text) == text else json_text(text)


class Notifier:
    """Tells systemd how the agent is, if systemd wants to know."""

    def __init__(self, environment: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        limit = environment.get("WATCHDOG_USEC", "")
        self._interval = int(limit) / 2e6 if self._address and limit.isdigit() and int(limit) else None
        self._clock, self._next = clock, clock()

    @property
    def wait_s(self) -> float | None:
        """The seconds until the next beat; None if systemd wants none."""
        return None if self._interval is None else max(0.0, self._next - self._clock())

    def beat(self) -> None:
        """Tell systemd that the agent is alive, at most twice in the time after which systemd would kill it."""
        if self._interval is not None and self._clock() >= self._next:
            self._next = self._clock() + self._interval
            self.tell("WATCHDOG=1")

    def tell(self, *lines: str) -> None:
        """Send lines such as READY=1 and STATUS=...; RELOADING=1 gets the timestamp that systemd needs with it."""
        if not self._address:
            return
        if "RELOADING=1" in lines:
            lines = (*lines, f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto("\n".join(lines).encode(), self._address)

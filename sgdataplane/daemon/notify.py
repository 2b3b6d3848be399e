"""What systemd is told: ready, reloading, alive, stopping (sd_notify(3)). Nothing, if it didn't ask.

Owns that datagram. Is given the environment. Must not know what the agent does.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress


class Notifier:
    """`beat` tells that the agent is alive, at most twice in the time after which systemd would kill it."""

    def __init__(self, environment: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        limit = environment.get("WATCHDOG_USEC", "")
        self._interval = int(limit) / 2e6 if self._address and limit.isdigit() and int(limit) else None
        self._clock, self._next = clock, clock()

    @property
    def wait_s(self) -> float | None:
        """How long until the next beat; None: there is none."""
        return None if self._interval is None else max(0.0, self._next - self._clock())

    def beat(self) -> None:
        if self._interval is not None and self._clock() >= self._next:
            self._next = self._clock() + self._interval
            self.tell("WATCHDOG=1")

    def tell(self, *lines: str) -> None:
        """e.g. READY=1, STATUS=...; RELOADING=1 is given the time that it has to have."""
        if not self._address:
            return
        if "RELOADING=1" in lines:
            lines = (*lines, f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
            door.sendto("\n".join(lines).encode(), self._address)

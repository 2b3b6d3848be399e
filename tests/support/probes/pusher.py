"""Two ends of one UDP session, by processes of their own: one pushes packets without a pause, the other counts them.

Each packet carries the phase at the moment when it was sent. The test sets the phase, so it knows of every packet
whether it was sent before or after that.
"""

from __future__ import annotations

import mmap
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.support.probes.flood import DEADLINE, ROOT, SO_RCVBUFFORCE, kill_all, wait_until

PHASES = 256


class Phases:
    """The present phase, and how many packets of each were sent and received: numbers in a file that all map."""

    def __init__(self, path: Path) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * (1 + 2 * PHASES))

    def _get(self, index: int) -> int:
        return int(struct.unpack_from("=Q", self._map, 8 * index)[0])

    def _set(self, index: int, value: int) -> None:
        struct.pack_into("=Q", self._map, 8 * index, value)

    @property
    def present(self) -> int:
        return self._get(0)

    @present.setter
    def present(self, phase: int) -> None:
        self._set(0, phase)

    def sent(self, phase: int) -> int:
        return self._get(1 + phase)

    def received(self, phase: int) -> int:
        return self._get(1 + PHASES + phase)

    def count_sent(self, phase: int) -> None:
        self._set(1 + phase, self.sent(phase) + 1)

    def count_received(self, phase: int) -> None:
        self._set(1 + PHASES + phase, self.received(phase) + 1)


class Pusher:
    """Runs from `__enter__` to `__exit__` on connected sockets, which stay the caller's."""

    def __init__(self, folder: Path, source: socket.socket, target: socket.socket) -> None:
        self._path = folder / "phases"
        self._path.write_bytes(bytes(8 * (1 + 2 * PHASES)))
        self.phases = Phases(self._path)
        self._ends = {"push": source, "count": target}
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for role in ("count", "push"):
            number = self._ends[role].fileno()
            command = [sys.executable, "-m", "tests.support.probes.pusher", role, str(self._path), str(number)]
            self._processes.append(subprocess.Popen(command, cwd=ROOT, pass_fds=(number,)))
        try:
            wait_until(lambda: self.phases.received(0) > 0)
        except BaseException:
            kill_all(self._processes)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
        assert [process.wait(DEADLINE) for process in self._processes] == [-signal.SIGTERM] * 2


def push(phases: Phases, end: socket.socket) -> None:
    while True:
        phase = phases.present
        phases.count_sent(phase)
        try:
            end.send(bytes((phase,)))
        except OSError:  # EPERM: dropped on its way out
            continue


def count(phases: Phases, end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
    while True:
        phases.count_received(end.recv(16)[0])


def main(arguments: Sequence[str]) -> None:
    role, path, number = arguments
    end = socket.socket(fileno=int(number))
    end.setblocking(True)
    {"push": push, "count": count}[role](Phases(Path(path)), end)


if __name__ == "__main__":
    main(sys.argv[1:])

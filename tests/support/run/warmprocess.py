"""Programs that tests start, such as a relay: processes that fork from a warm one (tests/support/run/warm.py), where
there is one.

Owns what a test does with such a process: it is as one of `subprocess.Popen`. Must not know what runs.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self, TypeAlias

from tests.support.run.warm import CALL, ROOT, STATUS_BYTES, warm_socket
from tests.support.run.warmcall import call, open_places, request

WARM: list[Path] = []  # the socket of the warm process that this process has, if it has one


class WarmProcess:
    """`sgdp WORDS` whose errors are read. Its number is its own: it can be stopped, killed and looked at."""

    def __init__(self, path: Path, words: list[str], folder: Path) -> None:
        reader, writer = os.pipe()
        nothing = os.open(os.devnull, os.O_RDWR)
        files = [nothing, nothing, writer, *open_places(str(folder))]
        self._connection = socket.socket(socket.AF_UNIX)
        try:
            self._connection.connect(str(path))
            call(self._connection, request(words), files)
        finally:
            for file in set(files):
                os.close(file)
        self.pid = self._number()
        self._ended = _open_process(self.pid)
        self.stderr = os.fdopen(reader, encoding="utf-8", errors="surrogateescape")
        self.returncode: int | None = None

    def _number(self) -> int:
        found = b""
        while len(found) < STATUS_BYTES:
            part = self._connection.recv(STATUS_BYTES - len(found))
            assert part, "the process that runs programs is gone"
            found += part
        return int.from_bytes(found, "little", signed=True)

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("sgdp", timeout or 0.0)
            self.returncode = self._number()
            self._connection.close()
            if self._ended is not None:
                os.close(self._ended)
        return self.returncode

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self._ended is not None and self.poll() is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._ended, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stderr.close()
        self.wait()


def _open_process(pid: int) -> int | None:
    """Return a descriptor of a process; None if it has ended already, as one that refuses its options soon does."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


Started: TypeAlias = WarmProcess | subprocess.Popen[str]


def command(*words: str) -> list[str]:
    """`sgdp WORDS`, for `subprocess`, in which signals but SIGKILL and SIGSTOP reach the program."""
    warm = [sys.executable, "-I", "-S", str(CALL), str(WARM[-1])] if WARM else [sys.executable, "-m", "sgdataplane"]
    return [*warm, *words]


def start_program(*words: str) -> Started:
    """`sgdp WORDS`, in the folder of the project; its errors are read."""
    if WARM:
        return WarmProcess(WARM[-1], list(words), ROOT)
    return subprocess.Popen(command(*words), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@contextmanager
def warm_programs(folder: Path) -> Iterator[None]:
    """What is started meanwhile is warm."""
    with warm_socket(folder, dict(os.environ)) as path:
        WARM.append(path)
        try:
            yield
        finally:
            WARM.pop()

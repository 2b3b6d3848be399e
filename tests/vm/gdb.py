"""A debugger of a virtual machine: holds one of its processors where we want, while others go on.

Owns the protocol of qemu's gdb stub (the remote serial protocol, all-stop). Must not know what is debugged.
"""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

RAX, RDX, RSP = 0, 3, 7  # where `g` has them
INTERRUPT, ACKNOWLEDGED = b"\x03", b"+"
PACKET = re.compile(rb"\$([^#]*)#..", re.DOTALL)


class LostError(Exception):
    """The machine didn't come to where it should."""


class Debugger:
    """Connected, the machine stands still until `go`. Processors are numbered from 1."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._seconds, self._seen = seconds, b""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._ask(b"qSupported:vContSupported+")
        self._ask(b"?")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """The machine goes on."""
        self._send(b"D")
        self._socket.close()

    def go(self, cpu: int | None = None, seconds: float | None = None) -> int:
        """Let that processor go on, or all, until one of them stops, and say which. LostError if none does."""
        self._send(b"vCont;c" if cpu is None else b"vCont;c:%x" % cpu)
        try:
            return _stopped(self._receive(seconds or self._seconds))
        except TimeoutError:
            self._socket.sendall(INTERRUPT)
            self._receive(self._seconds)
            raise LostError("no processor came to a breakpoint") from None

    def step(self, cpu: int, count: int = 1) -> None:
        """So many instructions of that processor."""
        for _ in range(count):
            self._ask(b"vCont;s:%x" % cpu)

    @contextmanager
    def stopping_at(self, address: int) -> Iterator[None]:
        """Any processor that comes there stops."""
        self._ask(b"Z0,%x,1" % address)
        try:
            yield
        finally:
            self._ask(b"z0,%x,1" % address)

    def register(self, cpu: int, number: int) -> int:
        self._ask(b"Hg%x" % cpu)
        data = bytes.fromhex(self._ask(b"g").decode("ascii"))
        return int(struct.unpack_from("<Q", data, 8 * number)[0])

    def memory(self, cpu: int, address: int, size: int) -> bytes:
        """b"" if nothing is there."""
        self._ask(b"Hg%x" % cpu)
        answer = self._ask(b"m%x,%x" % (address, size))
        return b"" if answer.startswith(b"E") else bytes.fromhex(answer.decode("ascii"))

    def _ask(self, command: bytes) -> bytes:
        self._send(command)
        return self._receive(self._seconds)

    def _send(self, command: bytes) -> None:
        self._socket.sendall(b"$%s#%02x" % (command, sum(command) & 0xFF))

    def _receive(self, seconds: float) -> bytes:
        """The next packet. TimeoutError if none comes in time."""
        deadline = time.monotonic() + seconds
        while not (found := PACKET.search(self._seen)):
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._socket.recv(1 << 16)
            if not data:
                raise LostError("the machine is gone")
            self._seen += data
        self._seen = self._seen[found.end() :]
        self._socket.sendall(ACKNOWLEDGED)
        return found[1]


def _stopped(answer: bytes) -> int:
    found = re.search(rb"thread:(?:p[0-9a-f]+\.)?([0-9a-f]+);", answer)
    if not found:
        raise LostError(answer.decode("ascii", "replace"))
    return int(found[1], 16)

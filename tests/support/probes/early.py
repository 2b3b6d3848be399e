"""A sender that begins before there is anyone to send to: numbered UDP datagrams, one after another, by a process of
its own.

    with EarlySender(folder, source, [("10.0.0.2", 5000)]) as sender:
        ...                           it sends, whatever becomes of it
    sender.sent                       the number of the last datagram that has gone to all targets
"""

from __future__ import annotations

import itertools
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from sgdataplane.host import netns
from sgdataplane.net.values import Family
from tests.support.probes.flood import DEADLINE, ROOT, SO_RCVBUFFORCE, Counters, Target, _family_of, _Stop, wait_until

NUMBER = struct.Struct("=Q")
PAUSE_S = 200e-6  # so that no queue on the way overflows


class EarlySender:
    """Runs from `__enter__` to `__exit__`."""

    def __init__(self, folder: Path, source: str, targets: Sequence[Target]) -> None:
        path = folder / f"early-{len(list(folder.iterdir()))}"
        path.write_bytes(bytes(64))
        self._counters = Counters(path)
        words = [f"{host}/{port}" for host, port in targets]
        self._command = [sys.executable, "-m", "tests.support.probes.early", source, str(path), *words]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, cwd=ROOT)
        self.wait_for_more()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        assert self._process.wait(DEADLINE) == 0

    @property
    def sent(self) -> int:
        return self._counters[0]

    def wait_for_more(self, count: int = 1) -> None:
        """Return when so many were sent after the call."""
        wanted = self.sent + count
        wait_until(lambda: self.sent >= wanted)


class Receiver:
    """A socket for what such a sender sends to an address in a namespace."""

    def __init__(self, namespace: str, target: Target) -> None:
        with netns.inside(namespace):
            self._socket = socket.socket(_family_of(target), socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        self._socket.bind(target)
        self.numbers: list[int] = []

    @classmethod
    def early(cls, namespace: str, family: Family, port: int) -> Self:
        """The same at whatever address the namespace will have."""
        return cls(namespace, ("::" if family is Family.IPV6 else "0.0.0.0", port))

    def read(self) -> list[int]:
        """All numbers that have come so far, in the order in which they came."""
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.numbers.append(NUMBER.unpack(self._socket.recv(64))[0])
        return self.numbers

    def close(self) -> None:
        self._socket.close()


def send(counters: Counters, targets: Sequence[Target]) -> None:
    stop, door = _Stop(), socket.socket(_family_of(targets[0]), socket.SOCK_DGRAM)
    for number in itertools.count(1):
        if stop.is_set:
            return
        for target in targets:
            with suppress(OSError):  # told that there is no such host
                door.sendto(NUMBER.pack(number), target)
        counters[0] = number
        time.sleep(PAUSE_S)


def main(arguments: Sequence[str]) -> None:
    namespace, path, *words = arguments
    netns.enter(namespace)
    send(Counters(Path(path)), [(w.rpartition("/")[0], int(w.rpartition("/")[2])) for w in words])


if __name__ == "__main__":
    main(sys.argv[1:])

"""A workload that ends and comes back, and a stream of packets to it that never stops.

Owns the stream and what arrives of it. Must not know what is expected.
"""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Self

from sgdataplane.host import netns
from tests.support.probes.flood import wait_until
from tests.support.probes.links import veths_in
from tests.support.scenes.attachbench import DNS, WEB
from tests.support.scenes.pair import HERE, Pair

SO_RCVBUFFORCE = 33  # asm-generic/socket.h
STEP_S, MOST = 0.001, 60_000
PORTS = (WEB, DNS)


class Arrivals:
    """What comes to a workload, by port, from before its link is there."""

    def __init__(self, place: str) -> None:
        with netns.inside(place):
            self._sockets = {port: socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for port in PORTS}
        for port, each in self._sockets.items():
            each.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
            each.bind(("", port))
            each.setblocking(False)
        self.got: dict[int, list[int]] = {port: [] for port in PORTS}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets.values():
            each.close()

    def read(self) -> Mapping[int, list[int]]:
        """The numbers of the packets that have come, by port."""
        for port, each in self._sockets.items():
            with suppress(BlockingIOError):
                while True:
                    self.got[port].append(int(each.recv(64)))
        return self.got


class Stream(threading.Thread):
    """Numbered packets from a place to both ports of an address in turn, one a millisecond and port, bounded. Those
    that found no way out aren't counted as sent."""

    def __init__(self, place: str, to: str) -> None:
        super().__init__(daemon=True)
        self._to = to
        self.sent: dict[int, list[int]] = {port: [] for port in PORTS}
        self.tried = 0
        self._is_over = threading.Event()
        with netns.inside(place):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def run(self) -> None:
        with self._socket:
            for number in range(MOST):
                for port in PORTS:
                    with suppress(OSError):
                        self._socket.sendto(str(number).encode(), (self._to, port))
                        self.sent[port].append(number)
                self.tried = number
                if self._is_over.wait(STEP_S):
                    return

    @property
    def last(self) -> int:
        """The number that was sent last."""
        return max((numbers[-1] for numbers in self.sent.values() if numbers), default=-1)

    def stop(self) -> None:
        self._is_over.set()
        self.join()


@contextmanager
def streaming(place: str, to: str = HERE["instance"][0]) -> Iterator[Stream]:
    stream = Stream(place, to)
    stream.start()
    try:
        yield stream
    finally:
        stream.stop()


def open_for(stream: Stream, arrivals: Arrivals) -> int:
    """How many packets to the denied port came in, once an allowed one that was sent from now on has arrived."""
    mark = stream.last
    wait_until(lambda: any(number > mark for number in arrivals.read()[WEB]))
    return len(arrivals.got[DNS])


def end(pair: Pair) -> None:
    """A named namespace goes, and its link."""
    netns.remove(pair["instance"])
    wait_until(lambda: not veths_in(pair["peer"]))


def wait_for(count: int, arrivals: Arrivals, port: int) -> None:
    """Until so many have come to that port: the positive control."""
    wait_until(lambda: len(arrivals.read()[port]) >= count)


@contextmanager
def staying_in(place: str) -> Iterator[str]:
    """A process that keeps the namespace, and its path."""
    with netns.inside(place):
        process = subprocess.Popen(["sleep", "600"])
    try:
        yield f"/proc/{process.pid}/ns/net"
    finally:
        process.kill()
        process.wait()

"""TCP connections that carry checked bytes both ways at an even pace, by a process of their own.

    with Streams(folder, [Route(client_netns, server_netns, server_address, port), ...]) as streams:
        ...                                bytes keep going both ways
    streams.reports                        for each end of each route what it sent and received, once the block ended

The bytes follow from the route's number and the end's, so that the receiver knows each of them. At the end both sides
shut down, and everything that was sent has arrived or the report says so.
"""

from __future__ import annotations

import hashlib
import json
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Self

from sgdataplane.host import netns
from tests.support.probes.flood import DEADLINE, ROOT, Counters, _Stop, kill_all, wait_until

SO_MAX_PACING_RATE = 47  # asm-generic/socket.h
BYTES_PER_S, CHUNK = 1_500_000, 4096
MAX_ENDS = 8  # Counters' numbers


@dataclass(frozen=True, slots=True)
class Route:
    """A connection: from where to where."""

    client_netns: str
    server_netns: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Report:
    """What one end did. `wrong`: what went wrong with it, "" if nothing."""

    sent: int
    sent_digest: str
    received: int
    received_digest: str
    wrong: str


class Streams:
    """Runs from `__enter__` to `__exit__`."""

    def __init__(self, folder: Path, routes: Sequence[Route]) -> None:
        self._routes = routes
        self._path = folder / f"streams-{len(list(folder.iterdir()))}"
        self._path.write_bytes(bytes(8 * MAX_ENDS))
        self._counters = Counters(self._path)
        self._process: subprocess.Popen[bytes] | None = None
        self.reports: tuple[Report, ...] = ()

    def __enter__(self) -> Self:
        words = json.dumps([asdict(route) for route in self._routes])
        command = [sys.executable, "-m", "tests.support.probes.streams", str(self._path), words]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        try:
            self.wait_for_more()
        except BaseException:
            kill_all([self._process])
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        assert self._process is not None
        self._process.terminate()
        output, _ = self._process.communicate(timeout=2 * DEADLINE)
        assert self._process.returncode == 0
        self.reports = tuple(Report(**entry) for entry in json.loads(output))
        print([(report.sent, report.received, report.wrong) for report in self.reports])

    def received(self) -> tuple[int, ...]:
        """Bytes that each end has received so far: client and server of the first route, then of the next."""
        return tuple(self._counters[index] for index in range(2 * len(self._routes)))

    def wait_for_more(self) -> None:
        """Return when each end has received something that was sent after the call."""
        mark = [count + 2 * CHUNK for count in self.received()]

        def waiting() -> list[int]:
            return [end for end, (now, then) in enumerate(zip(self.received(), mark, strict=True)) if now <= then]

        wait_until(lambda: not waiting(), must=False)
        stalled = waiting()
        assert stalled == [], f"these ends receive nothing more: {stalled} of {self.received()}"

    def check(self) -> None:
        """Both ways: nothing lost, nothing changed, no reset."""
        assert len(self.reports) == 2 * len(self._routes)
        assert [report.wrong for report in self.reports] == [""] * len(self.reports)
        for client, server in zip(self.reports[::2], self.reports[1::2], strict=True):
            assert (client.sent, client.sent_digest) == (server.received, server.received_digest)
            assert (server.sent, server.sent_digest) == (client.received, client.received_digest)
            assert min(client.sent, server.sent) > CHUNK


@dataclass
class End:
    """One socket: what goes out of it and what comes in."""

    name: str
    peer: str
    socket: socket.socket
    sent: int = 0
    received: int = 0
    wrong: str = ""
    is_open: bool = True
    is_shut: bool = False
    digests: dict[str, hashlib._Hash] = field(default_factory=lambda: {w: hashlib.sha256() for w in ("out", "in")})

    def send(self) -> None:
        data = _bytes_of(self.name, self.sent)
        count = self.socket.send(data)
        self.digests["out"].update(data[:count])
        self.sent += count

    def receive(self) -> None:
        data = self.socket.recv(CHUNK)
        self.is_open = bool(data)
        self.digests["in"].update(data)
        while data:
            expected = _bytes_of(self.peer, self.received)[: len(data)]
            if data[: len(expected)] != expected:
                self.wrong = self.wrong or f"byte {self.received} or one of the next is wrong"
            self.received += len(expected)
            data = data[len(expected) :]

    def report(self) -> Report:
        return Report(
            self.sent, self.digests["out"].hexdigest(), self.received, self.digests["in"].hexdigest(), self.wrong
        )


def _bytes_of(name: str, offset: int) -> bytes:
    """The stream from there to the end of its chunk."""
    return _chunk(name, offset // CHUNK)[offset % CHUNK :]


@lru_cache(64)
def _chunk(name: str, number: int) -> bytes:
    """Both ends are here, so who receives it finds what was made for who sent it."""
    return hashlib.shake_128(f"{name} {number}".encode()).digest(CHUNK)


def connect(stack: ExitStack, number: int, route: Route) -> tuple[End, End]:
    """Both ends of a connection."""
    family = socket.AF_INET6 if ":" in route.address else socket.AF_INET
    with netns.inside(route.server_netns):
        listener = stack.enter_context(socket.create_server((route.address, route.port), family=family))
    with netns.inside(route.client_netns):
        client = stack.enter_context(socket.create_connection((route.address, route.port), timeout=DEADLINE))
    server, _ = listener.accept()
    stack.enter_context(server)
    for found in (client, server):
        found.setblocking(False)
        found.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, BYTES_PER_S)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * CHUNK)
    names = (f"{number} client", f"{number} server")
    return End(names[0], names[1], client), End(names[1], names[0], server)


def run(counters: Counters, routes: Sequence[Route]) -> list[Report]:
    """Keep all connections busy until SIGTERM; then shut down, and wait for the rest."""
    stop, selector = _Stop(), selectors.DefaultSelector()
    with ExitStack() as stack:
        ends = [end for number, route in enumerate(routes) for end in connect(stack, number, route)]
        for index, end in enumerate(ends):
            selector.register(end.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, (index, end))
        deadline = float("inf")
        while selector.get_map() and time.monotonic() < deadline:
            if stop.is_set and deadline == float("inf"):
                deadline = time.monotonic() + DEADLINE
            for key, events in selector.select(0.1):
                index, end = key.data
                _serve(selector, end, events, is_stopped=stop.is_set)
                counters[index] = end.received
        for end in ends:
            end.wrong = end.wrong or ("the other end's last bytes never came" if end.is_open else "")
        return [end.report() for end in ends]


def _serve(selector: selectors.BaseSelector, end: End, events: int, *, is_stopped: bool) -> None:
    try:
        with suppress(BlockingIOError):
            if events & selectors.EVENT_READ and end.is_open:
                end.receive()
            if events & selectors.EVENT_WRITE and not is_stopped:
                end.send()
        if is_stopped and not end.is_shut:
            end.socket.shutdown(socket.SHUT_WR)
            end.is_shut = True
            selector.modify(end.socket, selectors.EVENT_READ, selector.get_key(end.socket).data)
    except OSError as error:
        end.wrong = error.strerror or str(error)
        end.is_open = False
    if end.wrong or (end.is_shut and not end.is_open):
        selector.unregister(end.socket)


def main(arguments: Sequence[str]) -> None:
    path, words = arguments
    reports = run(Counters(Path(path)), [Route(**entry) for entry in json.loads(words)])
    print(json.dumps([asdict(report) for report in reports]))


if __name__ == "__main__":
    main(sys.argv[1:])

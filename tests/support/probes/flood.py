"""UDP floods between two namespaces, counted at both ends, by processes of their own.

    with Flood(folder, source, target, allowed=[("10.0.0.2", 5000)], denied=[("10.0.0.2", 6000)]) as flood:
        ...                                       packets keep coming, both kinds in turn
    flood.allowed, flood.denied                   Count(sent, received), complete when the block has ended

A `Flood` opens many sessions and is received by sockets; it never has more than WINDOW allowed packets under way, so
no socket buffer overflows. A `PacedFlood` is the same with a pause after each two packets, for tests that last and
leave the machine to others. A `DenseFlood` is two sessions as fast as can be, counted by rules behind ours, then
dropped. What is missing at the end was lost in between, or refused by the rules of the sending side.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import re
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from sgdataplane.host import netns
from sgdataplane.lab.waiting import scale_timeout
from tests.support.kernel.nft import nft
from tests.support.run.waiting import is_so_within

ROOT = Path(__file__).resolve().parents[3]
WINDOW, SOURCES, BURST = 1000, 128, 100
PAUSE_S = 0.002
STINT, REST_S = 16, 0.001  # the sender rests after so many of each kind
SENT_ALLOWED, SENT_DENIED, GOT_ALLOWED, GOT_DENIED, READY = range(5)
SO_RCVBUFFORCE = 33
DEADLINE = scale_timeout(60.0)  # only what fails waits so long; on a busy machine an agent may take 20 s to start
QUIET_S = scale_timeout(10.0)  # after which nothing more arrives: what is lost never comes
Target = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Count:
    sent: int
    received: int


class Counters:
    """Five numbers in a file that both processes map; each is written by one process only."""

    def __init__(self, path: Path) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 64)

    def __getitem__(self, index: int) -> int:
        return int(struct.unpack_from("=Q", self._map, index * 8)[0])

    def __setitem__(self, index: int, value: int) -> None:
        struct.pack_into("=Q", self._map, index * 8, value)


class Flood:
    """Runs from `__enter__` to `__exit__`, which waits until everything that was sent and accepted has arrived, or
    nothing more arrives."""

    sender = "send"

    def __init__(
        self, folder: Path, source: str, target: str, allowed: Sequence[Target], denied: Sequence[Target]
    ) -> None:
        self._path = folder / f"flood-{len(list(folder.iterdir()))}"
        self._path.write_bytes(bytes(64))
        self._counters = Counters(self._path)
        self._namespaces = {"send": source, "receive": target}
        self._words = [",".join(f"{host}/{port}" for host, port in targets) for targets in (allowed, denied)]
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._start("receive", self._namespaces["receive"])
            wait_until(lambda: self._counters[READY] == 1)
            self._start(self.sender, self._namespaces["send"])
            wait_until(lambda: self.allowed.received > 0)
        except BaseException:
            kill_all(self._processes)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        receiver, sender = self._processes
        codes = [_end(sender)]
        self._settle()
        codes.append(_end(receiver))
        assert codes == [0, 0]

    def _settle(self) -> None:
        """Wait until all that was sent and accepted has arrived, or nothing more arrives."""
        while self.allowed.received < self.allowed.sent and self._receives_more():
            pass

    def _receives_more(self) -> bool:
        arrived = self.allowed.received
        return is_so_within(QUIET_S, lambda: self.allowed.received > arrived)

    def wait_until_counted(self) -> None:
        """Return when all that has arrived by now is counted: the receiver has gone over all of its sockets since.

        An allowed packet that is sent from now on is read in a round that isn't over yet, the next one in a later
        round, and with the third one a whole round lies between.
        """
        for _ in range(3):
            sent = self.allowed.sent
            wait_until(lambda sent=sent: self.allowed.received > sent)  # type: ignore[misc]

    @property
    def allowed(self) -> Count:
        return Count(self._counters[SENT_ALLOWED], self._counters[GOT_ALLOWED])

    @property
    def denied(self) -> Count:
        return Count(self._counters[SENT_DENIED], self._counters[GOT_DENIED])

    def _start(self, role: str, namespace: str) -> None:
        command = [sys.executable, "-m", "tests.support.probes.flood", role, namespace, str(self._path), *self._words]
        self._processes.append(subprocess.Popen(command, cwd=ROOT))


class PacedFlood(Flood):
    """Some 450 packets of each kind a second.

    All open sessions, which last for 30 s: 27,000, which an ENI may have (`sessions_per_eni`).
    """

    sender = "send-paced"


class DenseFlood(Flood):
    """Its targets are one of each kind, in IPv4."""

    def __enter__(self) -> Self:
        ports = [words.rpartition("/")[2] for words in self._words]
        rules = [f"add rule inet receiver in udp dport {port} counter drop" for port in ports]
        chain = "add chain inet receiver in { type filter hook input priority 300; }"
        nft(self._namespaces["receive"], "add table inet receiver", chain, *rules)
        self._start("send-fast", self._namespaces["send"])
        wait_until(lambda: self.allowed.received > 0)
        return self

    def __exit__(self, *_: object) -> None:
        assert _end(self._processes[0]) == 0
        self._settle()

    @property
    def allowed(self) -> Count:
        return Count(self._counters[SENT_ALLOWED], self._received()[0])

    @property
    def denied(self) -> Count:
        return Count(self._counters[SENT_DENIED], self._received()[1])

    def _received(self) -> list[int]:
        text = nft(self._namespaces["receive"], "list chain inet receiver in")
        return [int(number) for number in re.findall(r"counter packets (\d+)", text)]


def wait_for_packets(floods: Sequence[Flood], count: int) -> None:
    """Until each flood has sent so many packets more of both kinds, however fast the machine is."""
    before = [min(flood.allowed.sent, flood.denied.sent) for flood in floods]
    pairs = list(zip(floods, before, strict=True))
    wait_until(lambda: all(min(flood.allowed.sent, flood.denied.sent) > sent + count for flood, sent in pairs))


def wait_until(condition: Callable[[], bool], *, must: bool = True) -> None:
    """Return when it holds, or, unless it must, at the deadline."""
    happened = is_so_within(DEADLINE, condition)
    assert happened or not must, "it did not happen in time"


def kill_all(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Those that were started for something that didn't begin."""
    for process in processes:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _end(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    return process.wait(DEADLINE)


class _Stop:
    """Set by SIGTERM."""

    def __init__(self) -> None:
        self.is_set = False
        signal.signal(signal.SIGTERM, self._set)

    def _set(self, *_: object) -> None:
        self.is_set = True


class Pace:
    """Both sides rest for as long as they have worked, since what is flooded needs the processor, too: longer on a slow
    machine than on a quick one."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def rest(self) -> None:
        time.sleep(max(REST_S, time.monotonic() - self._began))
        self._began = time.monotonic()


def send(counters: Counters, allowed: Sequence[Target], denied: Sequence[Target], pause: float = 0.0) -> None:
    """An allowed and a denied packet in turn, until SIGTERM: from each source port to a target, then to the next, so
    that with many targets a session has expired before its turn comes again."""
    stop, pace = _Stop(), Pace()
    sources = [socket.socket(_family_of(allowed[0]), socket.SOCK_DGRAM) for _ in range(SOURCES)]
    for number in itertools.count():
        good, bad = allowed[number % len(allowed)], denied[number % len(denied)]
        for index, source in enumerate(sources):
            if index % STINT == 0 and not pause:
                pace.rest()
            while counters[SENT_ALLOWED] - counters[GOT_ALLOWED] >= WINDOW and not stop.is_set:
                time.sleep(REST_S)
            if stop.is_set:
                return
            counters[SENT_ALLOWED] += _has_sent(source, good)
            _has_sent(source, bad)
            counters[SENT_DENIED] += 1
            if pause:
                time.sleep(pause)


def send_fast(counters: Counters, allowed: Sequence[Target], denied: Sequence[Target]) -> None:
    """An allowed and a denied packet in turn until SIGTERM, with a pause of 50 us after each BURST of them: a busy
    machine leaves receiving to another thread, and keeps a thousand packets at most for it."""
    stop = _Stop()
    good, bad = (socket.socket(_family_of(target), socket.SOCK_DGRAM) for target in (allowed[0], denied[0]))
    good.connect(allowed[0])
    bad.connect(denied[0])
    while not stop.is_set:
        for _ in range(BURST):
            good.send(b"sgdataplane")
            bad.send(b"sgdataplane")
        counters[SENT_ALLOWED] += BURST
        counters[SENT_DENIED] += BURST
        time.sleep(50e-6)


def _family_of(target: Target) -> int:
    return socket.AF_INET6 if ":" in target[0] else socket.AF_INET


def _has_sent(source: socket.socket, target: Target) -> bool:
    """False if the packet never came to the rules. One that egress rules drop is an error of the send (EPERM)."""
    try:
        source.sendto(b"sgdataplane", target)
    except PermissionError:
        return True
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise
        return False
    return True


def receive(counters: Counters, allowed: Sequence[Target], denied: Sequence[Target]) -> None:
    """Count what comes, until SIGTERM."""
    stop, selector, pace = _Stop(), selectors.DefaultSelector(), Pace()
    for index, targets in ((GOT_ALLOWED, allowed), (GOT_DENIED, denied)):
        for target in targets:
            selector.register(_bound(target), selectors.EVENT_READ, index)
    counters[READY] = 1
    while not stop.is_set:
        for key, _ in selector.select(0.1):
            assert isinstance(key.fileobj, socket.socket)
            counters[key.data] += _drain(key.fileobj)
        pace.rest()  # many at once cost less than one by one


def _bound(target: Target) -> socket.socket:
    found = socket.socket(_family_of(target), socket.SOCK_DGRAM)
    found.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
    found.bind(target)
    found.setblocking(False)
    return found


def _drain(found: socket.socket) -> int:
    count = 0
    try:
        while count < WINDOW:
            found.recv(64)
            count += 1
    except BlockingIOError:
        pass
    return count


def main(arguments: Sequence[str]) -> None:
    role, namespace, path, *words = arguments
    netns.enter(namespace)
    allowed, denied = ([(w.rpartition("/")[0], int(w.rpartition("/")[2])) for w in text.split(",")] for text in words)
    paced = partial(send, pause=PAUSE_S)
    roles: dict[str, Callable[..., None]] = {"send": send, "send-paced": paced, "send-fast": send_fast}
    {**roles, "receive": receive}[role](Counters(Path(path)), allowed, denied)


if __name__ == "__main__":
    main(sys.argv[1:])

"""TCP floods between two namespaces: connections to ports that are allowed, and lone SYNs to ports that are not.

    with SynFlood(folder, source, target, allowed=[("10.0.0.2", 5000)], denied=[("10.0.0.2", 6000)]) as flood: ...
    flood.allowed, flood.denied            Count(connections made or SYNs sent, connections accepted)

Each connection is reset as soon as it stands. A socket that is closed while it waits for an answer sends nothing more,
so a denied one is one packet.
"""

from __future__ import annotations

import itertools
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sgdataplane.host import netns
from tests.support.probes.flood import (
    DEADLINE,
    GOT_ALLOWED,
    GOT_DENIED,
    READY,
    REST_S,
    ROOT,
    SENT_ALLOWED,
    SENT_DENIED,
    Counters,
    Flood,
    Pace,
    Target,
    _family_of,
    _Stop,
)

STINT = 8  # connections and lone SYNs, then a rest
BACKLOG = 500  # connections made but not accepted yet
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class UdpFlood(Flood):
    """A flood that leaves the processor to whoever applies, if he wants it: several of them can run at once."""

    module = "tests.support.probes.flood"

    def _start(self, role: str, namespace: str) -> None:
        nicely = ["nice", "-n", "5", sys.executable, "-m", self.module]
        command = [*nicely, role, namespace, str(self._path), *self._words]
        self._processes.append(subprocess.Popen(command, cwd=ROOT))


class SynFlood(UdpFlood):
    module = "tests.support.probes.synflood"


def send(counters: Counters, allowed: Sequence[Target], denied: Sequence[Target]) -> None:
    """A connection and a lone SYN in turn, until SIGTERM."""
    stop, pace = _Stop(), Pace()
    for number in itertools.count():
        if number % STINT == 0:
            pace.rest()
        while counters[SENT_ALLOWED] - counters[GOT_ALLOWED] >= BACKLOG and not stop.is_set:
            time.sleep(REST_S)
        if stop.is_set:
            return
        _connect(allowed[number % len(allowed)])
        counters[SENT_ALLOWED] += 1
        _knock(denied[number % len(denied)])
        counters[SENT_DENIED] += 1


def _connect(target: Target) -> None:
    with socket.socket(_family_of(target), socket.SOCK_STREAM) as made:
        made.settimeout(DEADLINE)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        made.connect(target)


def _knock(target: Target) -> None:
    with socket.socket(_family_of(target), socket.SOCK_STREAM) as made:
        made.setblocking(False)
        with suppress(BlockingIOError):
            made.connect(target)


def receive(counters: Counters, allowed: Sequence[Target], denied: Sequence[Target]) -> None:
    """Accept and count until SIGTERM."""
    stop, selector, pace = _Stop(), selectors.DefaultSelector(), Pace()
    for index, targets in ((GOT_ALLOWED, allowed), (GOT_DENIED, denied)):
        for target in targets:
            listener = socket.create_server(target, family=_family_of(target), backlog=2 * BACKLOG)
            listener.setblocking(False)
            selector.register(listener, selectors.EVENT_READ, index)
    counters[READY] = 1
    while not stop.is_set:
        for key, _ in selector.select(0.1):
            assert isinstance(key.fileobj, socket.socket)
            counters[key.data] += _accept_all(key.fileobj)
        pace.rest()


def _accept_all(listener: socket.socket) -> int:
    count = 0
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


def main(arguments: Sequence[str]) -> None:
    role, namespace, path, *words = arguments
    netns.enter(namespace)
    allowed, denied = ([(w.rpartition("/")[0], int(w.rpartition("/")[2])) for w in text.split(",")] for text in words)
    {"send": send, "receive": receive}[role](Counters(Path(path)), allowed, denied)


if __name__ == "__main__":
    main(sys.argv[1:])

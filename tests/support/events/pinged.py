"""A flood at a container that is started again and again: pings, which are allowed, and denied datagrams.

Owns the flood, its counters at both ends, and what the container's first process notes. Must not know what starts it.

Sent packets are counted by the sender. What came in is counted by the kernel in the container's namespace:
/proc/net/snmp counts datagrams that passed the rules, also those that nobody listens for. The container's first process
notes these counters first. What came before that, came to nobody.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

from sgdataplane.host import netns
from sgdataplane.model.state import CloudState
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import DNS
from tests.support.scenes.pair import HERE

HOST, CONTAINER = HERE["peer"][0], HERE["instance"][0]
STEP_S, MOST = 0.001, 400_000
ECHO = struct.pack("!BBHHH", 8, 0, 0xFFFF - 0x0800, 0, 0)  # an ICMP echo request and its checksum
NOTES = "b=/bin/busybox; $b cat /proc/net/snmp > /out/noted; $b mv /out/noted /out/start; exec $b sleep 600"
ALLOWED = 100  # that many in each life of the container


def pinged_state() -> CloudState:
    """Pings come in, and nothing else."""
    group = make_group("sg-a", [make_rule("ingress icmp from 0.0.0.0/0", "sgr-ping")])
    return make_state([group], [make_eni("eni-a", CONTAINER, "sg-a")])


class Flood(threading.Thread):
    """From a place to the container: a ping and a denied datagram, each millisecond."""

    def __init__(self, place: str = netns.OWN_NETNS) -> None:
        super().__init__(daemon=True)
        self.allowed = self.denied = 0
        self._is_over, self._may_send = threading.Event(), threading.Lock()
        with netns.inside(place):
            self._sockets = (
                socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            )

    def run(self) -> None:
        for _ in range(MOST):
            with self._may_send:
                self._send()
            if self._is_over.wait(STEP_S):
                return

    def _send(self) -> None:
        pings, datagrams = self._sockets
        with suppress(OSError):
            datagrams.sendto(b"denied", (CONTAINER, DNS))
            self.denied += 1
        with suppress(OSError):
            pings.sendto(ECHO, (CONTAINER, 0))
            self.allowed += 1

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is sent meanwhile, so that counters can be read."""
        with self._may_send:
            yield

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self.join()
        for each in self._sockets:
            each.close()


class Came(NamedTuple):
    """What came into a namespace since it was made."""

    allowed: int
    denied: int


def came_to(pid: int) -> Came:
    return counted_in(Path(f"/proc/{pid}/net/snmp"))


def counted_in(file: Path) -> Came:
    lines = [line.split() for line in file.read_text("ascii").splitlines()]
    rows = zip(lines[::2], lines[1::2], strict=True)
    found = {names[0] + name: value for names, values in rows for name, value in zip(names, values, strict=True)}
    return Came(int(found["Icmp:InEchos"]), int(found["Udp:InDatagrams"]) + int(found["Udp:NoPorts"]))


def noted_in(folder: Path) -> Came:
    """What had come when the container's first process started."""
    wait_until((folder / "start").exists)
    return counted_in(folder / "start")


def wait_for_more(pid: int) -> None:
    """Until more has come that is allowed: the positive control."""
    enough = came_to(pid).allowed + ALLOWED
    wait_until(lambda: came_to(pid).allowed >= enough)


def wait_for_each(flood: Flood, pid: int) -> None:
    """While the container is protected, each allowed packet comes: of those from now on, none is missing."""
    wait_for_more(pid)
    with flood.held():
        wait_until(lambda: is_still(pid))
        sent, came = flood.allowed, came_to(pid).allowed
    wait_for_more(pid)
    with flood.held():
        wait_until(lambda: came_to(pid).allowed - came == flood.allowed - sent)


def is_still(pid: int) -> bool:
    """Whether nothing more is under way."""
    before = came_to(pid)
    threading.Event().wait(0.02)
    return came_to(pid) == before

"""What root of a namespace does so that the agent has no time for others: run as a process, bounded in count and time.

Owns the attacks. Is given namespaces, each with our tables and an interface `spare`. Must not know what comes of it.

    elements    150,000 in a map of ours, once a second
    commits     70 a second to our table
    counters    50,000 in our table with names like ours, once a second
    chains      50,000 in our table, once a second
    links       the spare interface gets another alias, as fast as it goes
    renames     and another name
    processor   nothing but to keep a processor busy: what an attack costs others beside its commits
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache

from sgdataplane.contract.tables import TABLE, dispatch_name
from sgdataplane.host import netns
from sgdataplane.host.netlink import HEADER, NLM_F_REQUEST, attribute
from sgdataplane.host.nfsocket import NETLINK_NETFILTER
from sgdataplane.net.values import Direction
from tests.support.kernel import rawnft
from tests.support.kernel.rawnft import In, Message

OURS = In(TABLE.encode())
MAP = dispatch_name(Direction.INGRESS).encode()
ELEMENTS, NAMES, IN_A_MESSAGE = 150_000, 50_000, 800
COMMITS_A_SECOND = 70
SPARE, BEGUN = "spare", "begun\n"
NEWLINK, LINK_NAME, LINK_ALIAS = 16, 3, 20  # RTM_*, IFLA_*
LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
Acts = tuple[float, Iterator[bytes]]  # seconds between two, and what is sent


def elements(count: int = ELEMENTS) -> list[Message]:
    """Interfaces that nobody has, of which our map says that all they send be dropped."""
    keys = (b"x%d" % number for number in range(count))
    made = [rawnft.element(key.ljust(16, b"\0"), rawnft.verdict(2, 0)) for key in keys]
    return [OURS.elements(MAP, made[at : at + IN_A_MESSAGE]) for at in range(0, count, IN_A_MESSAGE)]


def counters(count: int = NAMES) -> list[Message]:
    """Named as ours are."""
    return [OURS.object(b"rule.sg-x.sgr-%d" % number, rawnft.COUNTER, COUNTED) for number in range(count)]


COUNTED = attribute(1, struct.pack("!Q", 4711)) + attribute(2, struct.pack("!Q", 47))  # NFTA_COUNTER_*


def chains(count: int = NAMES) -> list[Message]:
    return [OURS.chain(b"x%d" % number) for number in range(count)]


def commit(number: int) -> list[Message]:
    return [OURS.object(b"odd%d" % (number % 2), rawnft.COUNTER)]


@cache
def _made(make: Callable[[], list[Message]]) -> bytes:
    """Once for all namespaces: it is large."""
    return rawnft.batch(make())


def _ever(data: bytes) -> Iterator[bytes]:
    while True:
        yield data


def _busy() -> Iterator[bytes]:
    """One processor, with work of no kernel's."""
    while True:
        until = time.monotonic() + 0.01
        while time.monotonic() < until:
            pass
        yield b""


def _commits() -> Iterator[bytes]:
    both = [rawnft.batch(commit(number)) for number in range(2)]
    while True:
        yield from both


def _links(kind: int, names: Sequence[bytes]) -> Iterator[bytes]:
    index = next(number for number, name in socket.if_nameindex() if name.startswith(SPARE))
    body = LINK.pack(0, 0, index, 0, 0)
    while True:
        for name in names:
            part = attribute(kind, name)
            yield HEADER.pack(HEADER.size + len(body + part), NEWLINK, NLM_F_REQUEST, 0, 0) + body + part


ATTACKS: dict[str, Callable[[], Acts]] = {
    "elements": lambda: (1.0, _ever(_made(elements))),
    "commits": lambda: (1.0 / COMMITS_A_SECOND, _commits()),
    "counters": lambda: (1.0, _ever(_made(counters))),
    "chains": lambda: (1.0, _ever(_made(chains))),
    "links": lambda: (0.0, _links(LINK_ALIAS, (b"one\0", b"two\0"))),
    "renames": lambda: (0.0, _links(LINK_NAME, (b"spare1\0", b"spare\0"))),
    "processor": lambda: (0.0, _busy()),
}


class Attacker:
    """One namespace's, by one socket, from which no answer is read."""

    def __init__(self, place: str, attack: str) -> None:
        protocol = socket.NETLINK_ROUTE if attack in ("links", "renames") else NETLINK_NETFILTER
        with netns.inside(place):
            self._door = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
            self.every_s, self._acts = ATTACKS[attack]()
            self._next = next(self._acts)
        self._door.setsockopt(socket.SOL_SOCKET, rawnft.SO_SNDBUFFORCE, rawnft.BUFFER_BYTES)
        self._door.bind((0, 0))

    def act(self) -> None:
        with suppress(OSError):
            self._door.send(self._next)
        self._next = next(self._acts)
        with suppress(OSError):
            while True:
                self._door.recv(1 << 16, socket.MSG_DONTWAIT)


def run(attack: str, seconds: float, places: Sequence[str]) -> None:
    """Says when each has acted once."""
    attackers = [Attacker(place, attack) for place in places]
    for attacker in attackers:
        attacker.act()
    print(BEGUN, end="", flush=True)
    began, rounds = time.monotonic(), 0
    while time.monotonic() < began + seconds:
        for attacker in attackers:
            attacker.act()
        rounds += 1
        time.sleep(max(0.0, began + rounds * attackers[0].every_s - time.monotonic()))


if __name__ == "__main__":
    run(sys.argv[1], float(sys.argv[2]), sys.argv[3:])

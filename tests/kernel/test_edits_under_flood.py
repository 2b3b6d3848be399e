"""Maps and sets that are edited in place, each kind of them, while 300,000 packets look something up: none misses its
element.

These are the only ones that an update may edit in place: hash maps by address, interface and mark, the one whose
elements expire, and sets of pairs. Meanwhile others' elements come and go, thousands at once, so that the kernel's
hash grows and shrinks.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event, Thread

import pytest
from bench.batch import PACKETS, Batch

from sgdataplane.contract.fields import PAIRED, Field, Hook, KeyType
from sgdataplane.host import netns
from sgdataplane.net.values import UDP, Address
from sgdataplane.nft.ir import (
    DROP,
    MEMBER,
    RETURN,
    Chain,
    Count,
    Counter,
    InSet,
    Map,
    MapKey,
    Table,
    VerdictMap,
    goto,
    is_value,
    jump,
    rule,
)
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from tests.support.scenes.pair import HERE, Pair, made_pair

pytestmark = pytest.mark.kernel
NAME, PORT, FLOOD, EDITED = "edited", 5000, 300_000, 2000
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Kept:
    """A kind of map. `key`: what the flood's packets look up. `other`: keys that no packet has."""

    asked: Field
    key_type: KeyType
    key: MapKey
    other: Callable[[int], MapKey]
    lifetime: int = 0
    address: str = HERE["instance"][0]
    mask: int | None = None

    def map(self, *keys: MapKey) -> Map:
        if self.is_set:
            return Map("asked", self.key_type, tuple((key, MEMBER) for key in keys), holds=KeyType.NOTHING)
        value = RETURN if self.lifetime else goto("found")  # as the product has them
        return Map("asked", self.key_type, tuple((key, value) for key in keys), lifetime=self.lifetime)

    @property
    def is_set(self) -> bool:
        return self.key_type in PAIRED

    @property
    def table(self) -> Table:
        """The packets of the flood go to `asking`, which counts those that find no element."""
        is_flood = is_value(Field.L4PROTO, UDP), is_value(Field.TH_DPORT, PORT)
        of_set = (InSet(self.asked, Field.IIFNAME, "asked", mask=self.mask), goto("found"))
        asking = of_set if self.is_set else (VerdictMap(self.asked, name="asked"),)
        chains = (
            Chain("asking", (rule(*asking), rule(Count("missed"), DROP))),
            Chain("found", (rule(Count("found"), DROP),)),
            Chain("watch", (rule(*is_flood, jump("asking")), rule(*is_flood, goto("found"))), Hook("prerouting", -150)),
        )
        return Table(NAME, chains, (self.map(self.key),), (Counter("found"), Counter("missed")))


def value_of(text: str) -> int:
    return Address.parse(text).value


KINDS = {
    "ipv4": Kept(Field.IP_SADDR, KeyType.IPV4, value_of(HERE["peer"][0]), lambda n: value_of("10.1.0.0") + n),
    "ipv6": Kept(
        Field.IP6_SADDR,
        KeyType.IPV6,
        value_of(HERE["peer"][1]),
        lambda n: value_of("2001:db8:1::") + n,
        address=HERE["instance"][1],
    ),
    "interface": Kept(Field.IIFNAME, KeyType.IFNAME, "eth0", "x{}".format),
    "expiring": Kept(Field.IIFNAME, KeyType.IFNAME, "eth0", "x{}".format, HOUR_MS),
    "mark": Kept(Field.CT_MARK, KeyType.MARK, 0, lambda n: n + 1),
    "mark-at-interface": Kept(Field.CT_MARK, KeyType.MARK_IFNAME, (0, "eth0"), lambda n: (n, f"x{n}"), mask=0xFFFF),
}


def transaction(table: Table, *operations: tuple[Verb, Kind, Table | Chain | Map | Counter]) -> Transaction:
    return Transaction.of(table, [Operation(*operation) for operation in operations])


@pytest.fixture
def pair(make_lab_name: Callable[[], str]) -> Iterator[Pair]:
    """In one placement, since the kernel's maps know none."""
    with made_pair(make_lab_name) as names:
        yield names


@pytest.fixture(params=KINDS)
def kept(request: pytest.FixtureRequest) -> Kept:
    return KINDS[request.param]


@pytest.fixture
def kernel(pair: Pair, kept: Kept) -> Iterator[NetlinkKernel]:
    """With the table of that kind."""
    table = kept.table
    with NetlinkKernel(pair["instance"]) as kernel:
        kernel.run(
            transaction(
                table,
                (Verb.ADD, Kind.TABLE, table),
                *((Verb.ADD, Kind.COUNTER, counter) for counter in table.counters),
                *((Verb.ADD, Kind.CHAIN, chain) for chain in table.chains),
                *((Verb.ADD, kind, table.maps[0]) for kind in (Kind.MAP, Kind.ELEMENTS)),
                *((Verb.ADD, Kind.RULES, chain) for chain in table.chains),
            )
        )
        yield kernel


def counted(kernel: NetlinkKernel) -> tuple[int, int]:
    """How many packets found their element, and how many missed it."""
    found = kernel.read_counters(NAME, ["found", "missed"])
    return found["found"].packets, found["missed"].packets


def sender(pair: Pair, kept: Kept) -> socket.socket:
    family = socket.AF_INET6 if ":" in kept.address else socket.AF_INET
    with netns.inside(pair["peer"]):
        made = socket.socket(family, socket.SOCK_DGRAM)
    made.connect((kept.address, PORT))
    return made


def test_no_packet_misses_its_element_while_others_come_and_go(pair: Pair, kept: Kept, kernel: NetlinkKernel) -> None:
    others = kept.map(*map(kept.other, range(EDITED)))
    edits = [transaction(kept.table, (verb, Kind.ELEMENTS, others)) for verb in (Verb.ADD, Verb.DELETE)]
    is_over, made = Event(), 0
    with sender(pair, kept) as flood:
        thread = Thread(target=_flood, args=(flood, is_over))
        thread.start()
        while not is_over.is_set():
            for edit in edits:
                kernel.run(edit)
            made += 1
        thread.join()
        found, missed = counted(kernel)
        print(f"{found} packets, {made} times {EDITED} elements came and went")
        assert (found + missed, missed) == (FLOOD, 0)
        assert made > 2
        kernel.run(transaction(kept.table, (Verb.DELETE, Kind.ELEMENTS, kept.map(kept.key))))
        flood.send(b"the control: without its element it is a miss")
        assert counted(kernel) == (FLOOD, 1)


def _flood(sock: socket.socket, is_over: Event) -> None:
    batch = Batch()
    for _ in range(FLOOD // PACKETS):
        batch.send(sock)
    for _ in range(FLOOD % PACKETS):
        sock.send(b"rest")
    is_over.set()

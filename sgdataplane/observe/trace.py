"""Paths of real packets of an ENI through our chains, as the kernel traces them.

Owns which packets are marked for tracing, and which events belong to one packet. Is given a namespace and interfaces.
Must not know what chains mean, or who asks.

Tables of our own, named sgdataplane-trace-<random>, mark the packets one priority before the policy and the fence. They
have no verdicts, and the kernel removes them when this process ends, however it ends (flag `owner`).
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from sgdataplane.contract.fields import DESTINATION, SOURCE, Field, Hook
from sgdataplane.contract.sites import FENCE_PRIORITY, Site
from sgdataplane.contract.tables import NETDEV
from sgdataplane.errors import KernelError
from sgdataplane.host import netns
from sgdataplane.host.events import Subscription
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.host.nfsocket import NETLINK_NETFILTER
from sgdataplane.net.values import Direction, Prefix
from sgdataplane.nft.ir import Chain, Match, Rule, Table, is_value, prefix_range, rule
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.tracing import TRACE_GROUP, Event, MarkingTable, counters_of_rules, parse_event
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.observe.tracepath import DECIDING, is_policy

NAME = "sgdataplane-trace"
PER_SECOND = 100  # packets traced at most; each makes some fifteen messages
QUIET_S = 0.2  # after its last event a packet has left the rules


@dataclass(frozen=True, slots=True)
class Wanted:
    """The packets of one interface to trace."""

    ifname: str
    direction: Direction | None = None
    """Towards the ENI (ingress) or from it; None for both."""
    protocol: int | None = None
    """The protocol's number; None for any."""
    remote: Prefix | None = None
    """The other end; None for any."""
    port: int | None = None
    """The destination port in the header; None for any."""
    source_port: int | None = None
    """The source port in the header; None for any."""

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions to trace."""
        return tuple(Direction) if self.direction is None else (self.direction,)

    def conditions(self, direction: Direction) -> tuple[Match, ...]:
        """Return what a packet's header must have, at either hook."""
        found = []
        if self.remote is not None:
            far = (SOURCE if direction is Direction.INGRESS else DESTINATION)[self.remote.family]
            found.append(Match(far, (prefix_range(self.remote),)))
        for asked, value in (
            (Field.L4PROTO, self.protocol),
            (Field.TH_DPORT, self.port),
            (Field.TH_SPORT, self.source_port),
        ):
            if value is not None:
                found.append(is_value(asked, value))
        return tuple(found)


def make_marking_tables(wanted: tuple[Wanted, ...], site: Site, name: str) -> tuple[Table, Table]:
    """Return the tables that mark these packets, for the policy and for the fence."""
    policy: dict[Direction, list[Rule]] = {}
    fences: list[Chain] = []
    for entry in wanted:
        for direction in entry.directions:
            conditions = entry.conditions(direction)
            at = is_value(site.interface(direction), entry.ifname)
            policy.setdefault(direction, []).append(rule(at, *conditions))
            if direction is Direction.EGRESS:
                hook = Hook("egress" if site.is_leaving(direction) else "ingress", FENCE_PRIORITY - 1, entry.ifname)
                fences.append(Chain(f"fence{len(fences)}", (rule(*conditions),), hook))
    chains = [
        Chain(direction.value, tuple(rules), Hook(site.hooks[direction].name, site.hooks[direction].priority - 1))
        for direction, rules in policy.items()
    ]
    return Table(name, tuple(chains)), Table(name, tuple(fences), family=NETDEV)


@dataclass
class PacketPath:
    """The events of one packet, in order."""

    number: int
    at: float
    """When its first event came, in seconds since 1970."""
    events: list[Event] = field(default_factory=list)
    """Without those of the marking."""
    marked: set[tuple[str, str]] = field(default_factory=set)
    """The chains that marked it, by family."""
    last: float = 0.0
    """When the last event came, by the clock of Paths."""
    is_whole: bool = False
    """Whether nothing more will come."""


class Paths:
    """A collector that puts events together into paths, in the order in which packets came.

    The kernel soon uses a packet's number again: a packet that is marked in the same place again is the next one.
    """

    def __init__(self, own: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._own, self._clock = own, clock
        self._open: dict[int, PacketPath] = {}
        self._waiting: deque[PacketPath] = deque()

    def note(self, event: Event) -> None:
        """Add an event to its packet's path; ignore what another program traces."""
        path = self._open.get(event.number)
        place = (event.family, event.chain)
        if event.table == self._own and event.handle and (path is None or place in path.marked):
            if path is not None:
                path.is_whole = True
            path = self._open[event.number] = PacketPath(event.number, time.time())
            self._waiting.append(path)
        if path is None:  # another program's trace
            return
        path.last = self._clock()
        if event.table == self._own:
            path.marked.add(place)
            return
        path.events.append(event)
        if event.verdict == "drop":
            path.is_whole = True
            del self._open[event.number]

    def ready(self) -> Iterator[PacketPath]:
        """Yield the paths that are whole, or got no event for QUIET_S.

        A packet that met nothing after its mark has none.
        """
        while self._waiting:
            path = self._waiting[0]
            if not path.is_whole and self._clock() - path.last < QUIET_S:
                return
            self._waiting.popleft()
            if self._open.get(path.number) is path:
                del self._open[path.number]
            if path.events:
                yield path


class Tracer:
    """A marker of packets in a namespace, while it is open, that returns their paths.

    Attributes:
        ifnames: The namespace's interfaces, by index.
    """

    def __init__(self, namespace: str, wanted: tuple[Wanted, ...], site: Site) -> None:
        self._name = f"{NAME}-{os.urandom(4).hex()}"
        self._paths = Paths(self._name)
        self._rules: dict[tuple[str, str], Mapping[int, str]] = {}
        self._kernel = NetlinkKernel(namespace)
        try:
            with netns.inside(namespace):
                self._sock = Nfnetlink()
                self._events = Subscription(NETLINK_NETFILTER, (TRACE_GROUP,))
                self.ifnames = dict(socket.if_nameindex())
            self._tables = [table for table in make_marking_tables(wanted, site, self._name) if table.chains]
            for table in self._tables:
                self._kernel.run(MarkingTable.make(table, PER_SECOND))
        except BaseException:
            self._kernel.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor of the socket for events, for a selector."""
        return self._events.fileno()

    def close(self) -> None:
        """Remove the tables, and close all sockets."""
        for table in self._tables:
            with suppress(KernelError):  # closing our socket removes it, too
                self._kernel.run(Transaction.of(table, [Operation(Verb.DELETE, Kind.TABLE, table)]))
        self._events.close()
        self._sock.close()
        self._kernel.close()

    def read(self, seconds: float) -> Iterator[PacketPath]:
        """Yield paths as they become whole, for at most that time."""
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            select.select([self], [], [], max(0.0, min(left, QUIET_S)))
            for message in self._events.read()[0]:
                event = parse_event(message.kind, message.payload) if message.number is None else None
                if event is not None:
                    self._learn(event)
                    self._paths.note(event)
            yield from self._paths.ready()
            if left <= 0:
                return

    def counter_of(self, event: Event) -> str:
        """Return the counter in the event's rule; "" if it has none, or the rule has gone meanwhile."""
        return counter_in(self._rules.get((event.family, event.chain), {}), event)

    def _learn(self, event: Event) -> None:
        """Read the counters in the rules of the event's chain, before the chain may go.

        Stable chains change in place.
        """
        key = (event.family, event.chain)
        if is_policy(event) and event.handle and event.handle not in self._rules.get(key, {}):
            with suppress(OSError):
                self._rules[key] = counters_of_rules(self._sock, event.family, event.table, event.chain)


def counter_in(rules: Mapping[int, str], event: Event) -> str:
    """Return the counter in the event's rule, among those of its chain; "" if there is none.

    A rule that logs is left when its limit is reached, and the kernel doesn't report it then. So the next rule of a
    deciding chain gets that rule's counter.
    """
    found = rules.get(event.handle, "")
    return found or (next(filter(None, rules.values()), "") if event.chain.startswith(DECIDING) else "")


@contextmanager
def trace_packets(namespace: str, wanted: tuple[Wanted, ...], site: Site) -> Iterator[Tracer]:
    """Trace packets while the block runs.

    Raises:
        KernelError: The kernel refuses.
        HostError: There is no such namespace.
    """
    tracer = Tracer(namespace, wanted, site)
    try:
        yield tracer
    finally:
        tracer.close()

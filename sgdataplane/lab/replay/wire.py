"""Puts packets into a lab at one node, one at a time, and sees how far each of them gets.

Owns the sockets, the tables that watch and keep the nodes silent, and the neighbours' addresses, while a replay runs. Is
given datagrams and their ends. Must not know what should become of them.

    node's raw socket -> LEAVING -> [sender's policy] -> router -> ARRIVING -> [receiver's policy] -> DELIVERED (input)

LEAVING and ARRIVING are looked at just before the policy, in the namespace that enforces it; there conntrack's word
"invalid" is noted, too. What nodes' kernels would answer (resets, port unreachable) never gets as far as conntrack.

Order: all is sent by one thread on one processor, whose queue of packets between links is first in, first out. So once
`HOPS` rounds over a loopback interface have followed a packet, it is where it got to.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from pyroute2 import IPRoute

from sgdataplane.errors import LabError
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.lab.listeners import AF
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.packetlog import LOCAL_IN, PREROUTING, PacketLog
from sgdataplane.lab.parts import Interface, Node, Router
from sgdataplane.lab.replay.endpoints import Endpoint
from sgdataplane.lab.replay.facts import Datagram
from sgdataplane.lab.routers import GATEWAYS
from sgdataplane.model.placement import Placement
from sgdataplane.net.values import Address, Family
from sgdataplane.nft.ir import Table
from sgdataplane.nft.kernel import LibnftKernel
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb

COPIED = 256
OURS = 0x53475250  # the priority of sockets by which ours are known; it ends with the namespace
HOPS = 4
WAIT_S = 2.0  # for what should arrive; the kernel needs microseconds
INVALID = b"invalid"
BATCH = 256


@dataclass(frozen=True, slots=True)
class Sighting:
    """How far a packet got, and which conntrack tables called it invalid."""

    left: bool = False
    arrived: bool = False
    delivered: bool = False
    invalid: frozenset[str] = frozenset()


@dataclass(frozen=True)
class NodeTable(Transaction):
    """What is in every node: silence, and who is delivered. With `judges`, the looks before both policies."""

    group: int = 0
    is_node: bool = True
    judges: bool = False

    def lines(self) -> Iterator[tuple[str, Operation]]:
        operation = Operation(Verb.ADD, Kind.TABLE, Table(self.name))
        table, log = f"inet {self.name}", f"group {self.group} snaplen {COPIED} queue-threshold 1"
        yield f"add table {table} {{ flags owner; }}", operation
        if self.is_node:
            yield f"add chain {table} silence {{ type filter hook output priority -450; }}", operation
            for rule in (
                f"meta priority {OURS:#x} accept",
                'oifname "lo" accept',
                "icmpv6 type 133-137 accept",
                "drop",
            ):
                yield f"add rule {table} silence {rule}", operation
            yield f"add chain {table} delivered {{ type filter hook input priority 200; }}", operation
            yield f'add rule {table} delivered iifname != "lo" log {log}', operation
        for hook, priority, name in (("prerouting", -160, "iifname"), ("postrouting", 140, "oifname")):
            if self.judges:
                yield f"add chain {table} {hook} {{ type filter hook {hook} priority {priority}; }}", operation
                condition = f'{name} != "lo"'
                said = f'log prefix "{INVALID.decode()}" {log}'
                yield f"add rule {table} {hook} {condition} ct state invalid {said}", operation
                yield f"add rule {table} {hook} {condition} ct state != invalid log {log}", operation


class Door:
    """One namespace: its table, its log, its raw sockets."""

    def __init__(self, name: str, *, is_node: bool, judges: bool) -> None:
        self.name = name
        self._sockets: dict[tuple[str, Family], socket.socket] = {}
        with ExitStack() as stack:
            with netns.inside(name):
                self.log = PacketLog(COPIED)
            stack.callback(self.log.close)
            self._kernel = LibnftKernel(name)  # kept: the table is its socket's
            stack.callback(self._kernel.close)
            table = f"sgdp_replay_{self.log.group}"
            self._kernel.run(NodeTable(table, group=self.log.group, is_node=is_node, judges=judges))
            self._stack = stack.pop_all()

    def close(self) -> None:
        for door in self._sockets.values():
            door.close()
        self._stack.close()

    def send(self, data: bytes, end: Endpoint, target: Address) -> int:
        """From the end's interface; the error number if the kernel refuses, 0 if not. A drop is no refusal."""
        try:
            self._socket_of(end).sendto(data, (str(target), 0))
        except OSError as error:
            return 0 if error.errno in (errno.EPERM, errno.ENOBUFS) else error.errno or -1
        return 0

    def _socket_of(self, end: Endpoint) -> socket.socket:
        family = end.address.family
        found = self._sockets.get((end.interface.ifname, family))
        if found is None:
            with netns.inside(self.name):
                found = socket.socket(AF[family], socket.SOCK_RAW, socket.IPPROTO_RAW)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, OURS)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, end.interface.ifname.encode())
            self._sockets[end.interface.ifname, family] = found
        return found


class Wire:
    """A lab's nodes as a replay uses them; each is prepared when it is first needed."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._doors: dict[str, Door] = {}
        self._known: set[tuple[str, Address]] = set()
        self._macs: dict[str, dict[str, str]] = {}
        self._neighbours: list[tuple[str, str, Address]] = []
        self._processors = os.sched_getaffinity(0)
        self.strangers = 0

    def __enter__(self) -> Self:
        os.sched_setaffinity(0, {min(self._processors)})
        with netns.nowhere():
            with IPRoute() as door:
                door.link("set", index=door.link_lookup(ifname="lo")[0], state="up")
            self._loop = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._loop.bind(("127.0.0.1", 0))
        self._loop.connect(self._loop.getsockname())
        self._loop.settimeout(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        os.sched_setaffinity(0, self._processors)
        for door in self._doors.values():
            door.close()
        self._loop.close()
        self._forget_neighbours()

    def prepare(self, near: Endpoint, far: Endpoint) -> None:
        """Both nodes and the routers between them."""
        for end in (near, far):
            if (end.interface.router_ifname, end.address) not in self._known:
                self._known.add((end.interface.router_ifname, end.address))
                self._prepare_end(end)

    def send(self, data: bytes, near: Endpoint, target: Address) -> str:
        """One packet; what the kernel says if it refuses to send such a one."""
        code = self._doors[near.node.netns].send(data, near, target)
        return os.strerror(code) if code else ""

    def settle(self) -> None:
        """Return when what was sent is where it gets to."""
        for _ in range(HOPS):
            self._loop.send(b"")
            self._loop.recv(1)

    def look(self, datagram: Datagram, near: Endpoint, far: Endpoint, until: str) -> Sighting:
        """How far it got, once it has settled; or, if the machine is slow, once it has got as far as `until`, which is a
        field of Sighting."""
        seen = self._read(datagram, near, far, Sighting())
        if not seen.delivered:
            self.settle()
            seen = self._read(datagram, near, far, seen)
        deadline = time.monotonic() + WAIT_S
        while not getattr(seen, until) and not seen.invalid and (left := deadline - time.monotonic()) > 0:
            select.select(self._logs(near, far), (), (), left)
            seen = self._read(datagram, near, far, seen)
        return seen

    def has_lost(self) -> bool:
        """Whether any log lost messages since the last time it was asked."""
        return any([door.log.take_lost() for door in self._doors.values()])

    def _doors_between(self, near: Endpoint, far: Endpoint) -> Iterator[Door]:
        names = (near.node.netns, self._router(near).netns, self._router(far).netns, far.node.netns)
        return (self._doors[name] for name in dict.fromkeys(names) if name in self._doors)

    def _logs(self, near: Endpoint, far: Endpoint) -> list[PacketLog]:
        return [door.log for door in self._doors_between(near, far)]

    def _read(self, datagram: Datagram, near: Endpoint, far: Endpoint, seen: Sighting) -> Sighting:
        """What the logs on the way have of it, besides what has been seen."""
        left, arrived, delivered, invalid = seen.left, seen.arrived, seen.delivered, set(seen.invalid)
        for door in self._doors_between(near, far):
            for entry in door.log.read(BATCH):
                if not is_copy(entry.packet, datagram):
                    self.strangers += 1
                    continue
                if entry.prefix == INVALID:
                    invalid.add(door.name)
                if entry.hook == LOCAL_IN:
                    delivered = True
                elif (entry.hook == PREROUTING) is (self._lab.placement is Placement.HOST):
                    left = True
                else:
                    arrived = True
        return Sighting(left, arrived, delivered, frozenset(invalid))

    # preparing

    def _router(self, end: Endpoint) -> Router:
        return self._lab.topology.router_of(end.node, end.interface)

    def _prepare_end(self, end: Endpoint) -> None:
        is_host = self._lab.placement is Placement.HOST
        router = self._router(end)
        self._open(end.node.netns, is_node=True, judges=end.node.is_instance and not is_host)
        if is_host:
            self._open(router.netns, is_node=False, judges=True)
        self._introduce(end.node, end.interface, router)

    def _open(self, name: str, *, is_node: bool, judges: bool) -> None:
        if name not in self._doors:
            self._doors[name] = Door(name, is_node=is_node, judges=judges)

    def _introduce(self, node: Node, interface: Interface, router: Router) -> None:
        """Tell both ends of a link each other's MAC: a packet that waits for its neighbour to answer would be late."""
        near, far = self._macs_in(node.netns)[interface.ifname], self._macs_in(router.netns)[interface.router_ifname]
        for address in interface.addresses:
            self._add_neighbour(router.netns, interface.router_ifname, address, near)
        for gateway in GATEWAYS.values():
            self._add_neighbour(node.netns, interface.ifname, gateway, far)

    def _macs_in(self, name: str) -> dict[str, str]:
        if name not in self._macs:
            with Links(name) as door:
                self._macs[name] = {link.ifname: link.mac for link in door.links()}
        return self._macs[name]

    def _add_neighbour(self, name: str, ifname: str, address: Address, mac: str) -> None:
        if (name, ifname, address) in self._neighbours:
            return
        self._neighbours.append((name, ifname, address))
        with netns.inside(name), IPRoute() as door:
            index = door.link_lookup(ifname=ifname)[0]
            door.neigh("replace", dst=str(address), lladdr=mac, ifindex=index, state="permanent")

    def _forget_neighbours(self) -> None:
        """In a lab that goes on: what its kernels find out for themselves is as good."""
        for name, ifname, address in self._neighbours:
            if netns.is_bound(name):
                with netns.inside(name), IPRoute() as door:
                    for index in door.link_lookup(ifname=ifname):
                        door.neigh("del", dst=str(address), ifindex=index)


def is_copy(logged: bytes, datagram: Datagram) -> bool:
    """Whether a log's copy, which may be the beginning only, is of this datagram: same ends, same octets behind them.
    (Routers count the hop limit down; the kernel numbers, and writes checksums of, IPv4 headers.)"""
    facts, payload = datagram.facts, datagram.payload
    if facts.source.family_bits == 32:
        header = (logged[0] & 15) * 4 if logged else 0
        ends, behind = logged[12:20], logged[header:]
    else:
        ends, behind = logged[8:40], logged[40:]
        if len(datagram.packets) > 1:  # the kernel takes the fragment header away
            return ends == _ends(datagram) and behind[:8] in payload
    return ends == _ends(datagram) and payload.startswith(behind)


def _ends(datagram: Datagram) -> bytes:
    size = datagram.facts.source.family_bits // 8
    return datagram.facts.source.value.to_bytes(size, "big") + datagram.facts.target.value.to_bytes(size, "big")


def check_capable() -> None:
    """LabError if this kernel can't log packets to us."""
    with netns.nowhere():
        try:
            PacketLog(COPIED).close()
        except OSError as error:
            raise LabError("packet log", f"the kernel has none (nfnetlink_log): {error.strerror}") from error

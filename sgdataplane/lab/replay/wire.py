"""Put packets into a lab one at a time, each at its node, and see how far it gets.

Owns the sockets, logs and tables that exist while a replay runs. It is given datagrams and their ends. Must not know
what should become of them.

    node's raw socket -> LEAVING -> [sender's policy] -> router -> ARRIVING -> [receiver's policy] -> DELIVERED (input)

LEAVING and ARRIVING are just before the policy, in the namespace that enforces it; a packet that conntrack calls
invalid is noted there too. The tables keep nodes silent: conntrack never sees what their kernels would answer
(resets, port unreachable). A table goes when our process does. It is not part of the product, whose rulesets have no
type for these logs.

One thread sends everything on one processor, and that processor's queue of packets between links is first in, first
out. So once `HOPS` rounds over a loopback interface have followed a packet, the packet has got as far as it ever will.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from pyroute2 import IPRoute

from sgdataplane.contract.fields import CtState, Field, Hook
from sgdataplane.host import netns
from sgdataplane.lab.listeners import AF, allow_delegated
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.packetlog import LOCAL_IN, PREROUTING, LoggedPacket, PacketLog
from sgdataplane.lab.parts import Router
from sgdataplane.lab.replay.endpoints import LINK_SCOPE_IPV4, Endpoint
from sgdataplane.lab.replay.facts import Datagram
from sgdataplane.model.always import LINK_LOCAL
from sgdataplane.model.options import Placement
from sgdataplane.net.headers import ends_of
from sgdataplane.net.values import Address, Family
from sgdataplane.nft import wire
from sgdataplane.nft.ir import ACCEPT, DROP, Chain, Match, Range, Rule, Table, rule
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.messages import Messages, Writer
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.nft.uapi import TABLE_OWNER

COPIED = 256  # octets of a packet: headers, and some of what is behind them
OURS = 0x53475250  # the priority of sockets by which ours are known; it ends with the namespace
INVALID = b"invalid"
PRIORITY = 2  # NFT_META_PRIORITY
NEIGHBOURS = Match(Field.ICMPV6_TYPE, (Range(133, 137),))
Said = tuple[Rule, bytes]  # a rule, and instructions behind its own


@dataclass(frozen=True)
class ReplayTable(Transaction):
    """`is_node`: not a router. `judges`: policy is enforced here."""

    group: int = 0
    is_node: bool = True
    judges: bool = False

    def requests(self) -> Iterator[tuple[Messages, Operation]]:
        table, writer = Table(self.name), Writer()
        operation = Operation(Verb.ADD, Kind.TABLE, table)
        yield writer.add_table(table, TABLE_OWNER), operation
        node, looks = self._node() if self.is_node else (), self._looks() if self.judges else ()
        for chain, hook, said in (*node, *looks):
            yield writer.add_chain(table, Chain(chain, (), hook)), operation
            for entry, more in said:
                yield writer.add_rule(table, chain, entry, more), operation

    def _node(self) -> Iterator[tuple[str, Hook, tuple[Said, ...]]]:
        """Silence but for our sockets, and what is delivered. Where no policy is, conntrack has no say, and fragments
        are sent as they are: what is untracked isn't put together. That what comes is put together takes a rule that
        asks conntrack something."""
        is_ours = wire.meta(PRIORITY) + wire.compare(struct.pack("=I", OURS))
        ours = is_ours + (b"" if self.judges else wire.untracked()) + wire.decide(ACCEPT)
        silence = ((rule(), ours), (rule(_of("lo"), ACCEPT), b""), (rule(NEIGHBOURS, ACCEPT), b""), (rule(DROP), b""))
        yield "silence", Hook("output", -450), silence
        if not self.judges:
            yield "blindness", Hook("prerouting", -300), ((rule(), wire.untracked()),)
        delivered = rule(_other_than_lo(Field.IIFNAME)), self._log()
        yield "delivered", Hook("input", 200), ((rule(_is(CtState.ESTABLISHED)), b""), delivered)

    def _looks(self) -> Iterator[tuple[str, Hook, tuple[Said, ...]]]:
        """Just before both policies, with conntrack's word."""
        for hook, field in ((Hook("prerouting", -160), Field.IIFNAME), (Hook("postrouting", 140), Field.OIFNAME)):
            other = _other_than_lo(field)
            invalid = rule(other, _is(CtState.INVALID)), self._log(INVALID.decode())
            yield hook.name, hook, (invalid, (rule(other, _is(CtState.INVALID, negate=True)), self._log()))

    def _log(self, prefix: str = "") -> bytes:
        return wire.log(self.group, COPIED, prefix, at_once=True)


def _of(ifname: str) -> Match:
    return Match(Field.OIFNAME, (Range.of(ifname),))


def _other_than_lo(field: Field) -> Match:
    return Match(field, (Range.of("lo"),), negate=True)


def _is(state: CtState, *, negate: bool = False) -> Match:
    return Match(Field.CT_STATE, (Range.of(state),), negate)


HOPS = 4
WAIT_S = 2.0  # for what should arrive; the kernel needs microseconds
PATIENCE = 30  # packets that are waited for in vain: by then it isn't for want of time
BATCH = 256


@dataclass(frozen=True, slots=True)
class Sighting:
    """How far a packet got, and which conntrack tables called it invalid."""

    left: bool = False
    arrived: bool = False
    delivered: bool = False
    invalid: frozenset[str] = frozenset()


class ReplayPoint:
    """One namespace: its table, its log, its raw sockets."""

    def __init__(self, name: str, *, is_node: bool, judges: bool) -> None:
        self.name = name
        self._sockets: dict[tuple[str, Family], socket.socket] = {}
        with ExitStack() as stack:
            with netns.inside(name):
                self.log = PacketLog(COPIED)
            stack.callback(self.log.close)
            self._kernel = NetlinkKernel(name)  # kept: the table is its socket's
            stack.callback(self._kernel.close)
            table = f"sgdp_replay_{self.log.group}"
            self._kernel.run(ReplayTable(table, group=self.log.group, is_node=is_node, judges=judges))
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
            if end.interface.eni_id:  # by its source the interface's routes are chosen
                allow_delegated(found, family)
                found.bind((str(end.interface.primary(family) or end.address), 0))
            self._sockets[end.interface.ifname, family] = found
        return found


class Wire:
    """A lab's nodes as a replay uses them; each is prepared when it is first needed."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._doors: dict[str, ReplayPoint] = {}
        self._known: set[tuple[str, Address]] = set()
        self._processors = os.sched_getaffinity(0)
        self._patience = PATIENCE
        self.strangers = 0  # delivered, and no copy of what was just sent, or a second one

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
        """How far it got, once it has settled; or, if the machine is slow, once it has got as far as `until`, a field
        of Sighting, or "nothing"."""
        seen = self._read(datagram, near, far, Sighting())
        if not seen.delivered:
            self.settle()
            seen = self._read(datagram, near, far, seen)
        deadline = time.monotonic() + (WAIT_S if self._patience > 0 else 0.0)
        while until != "nothing" and not getattr(seen, until) and not seen.invalid:
            left = deadline - time.monotonic()
            if left <= 0:
                self._patience -= 1
                break
            select.select(self._logs(near, far), (), (), left)
            seen = self._read(datagram, near, far, seen)
        return seen

    def drain(self) -> None:
        """After the last packet: what comes now was sent by nobody, or came late."""
        self.settle()
        for door in self._doors.values():
            for entry in door.log.read(BATCH):
                self._note_stranger(entry)

    def _note_stranger(self, entry: LoggedPacket) -> None:
        self.strangers += entry.hook == LOCAL_IN and not is_routers(entry.packet)

    def has_lost(self) -> bool:
        """Whether any log lost messages since the last time it was asked."""
        return sum(door.log.take_lost() for door in self._doors.values()) > 0

    def _doors_between(self, near: Endpoint, far: Endpoint) -> Iterator[ReplayPoint]:
        names = (near.node.netns, self._router(near).netns, self._router(far).netns, far.node.netns)
        return (self._doors[name] for name in dict.fromkeys(names) if name in self._doors)

    def _logs(self, near: Endpoint, far: Endpoint) -> list[PacketLog]:
        return [door.log for door in self._doors_between(near, far)]

    def _read(self, datagram: Datagram, near: Endpoint, far: Endpoint, seen: Sighting) -> Sighting:
        """What the logs on the way have of it, besides what has been seen."""
        left, arrived, delivered, invalid = seen.left, seen.arrived, seen.delivered, set(seen.invalid)
        sender, receiver = self._judging(near), self._judging(far)
        is_host = self._lab.placement is Placement.HOST
        for door in self._doors_between(near, far):
            for entry in door.log.read(BATCH):
                if not is_copy(entry.packet, datagram) or (delivered and entry.hook == LOCAL_IN):
                    self._note_stranger(entry)
                    continue
                if entry.prefix == INVALID:
                    invalid.add(door.name)
                if entry.hook == LOCAL_IN:
                    delivered = True
                elif (entry.hook == PREROUTING) is is_host:
                    left |= door.name == sender
                else:
                    arrived |= door.name == receiver
        return Sighting(left, arrived, delivered, frozenset(invalid))

    # preparing

    def _router(self, end: Endpoint) -> Router:
        return self._lab.topology.router_of(end.node, end.interface)

    def _judging(self, end: Endpoint) -> str:
        """The namespace in which an end's policy is."""
        return self._router(end).netns if self._lab.placement is Placement.HOST else end.node.netns

    def _prepare_end(self, end: Endpoint) -> None:
        is_host = self._lab.placement is Placement.HOST
        router = self._router(end)
        self._open(end.node.netns, is_node=True, judges=end.node.is_instance and not is_host)
        if is_host:
            self._open(router.netns, is_node=False, judges=True)

    def _open(self, name: str, *, is_node: bool, judges: bool) -> None:
        if name not in self._doors:
            self._doors[name] = ReplayPoint(name, is_node=is_node, judges=judges)


def is_copy(logged: bytes, datagram: Datagram) -> bool:
    """Whether a log's copy, which may be the beginning only, is of this datagram: same ends, same octets behind them.
    (Routers count the hop limit down; the kernel numbers, and writes checksums of, IPv4 headers.)"""
    if datagram.facts.source.family_bits == 32:
        header = (logged[0] & 15) * 4 if logged else 0
        ends, behind = logged[12:20], logged[header:]
    else:
        ends, behind = logged[8:40], logged[40:]
    return ends == _ends(datagram) and any(form.startswith(behind) for form in datagram.forms)


def is_routers(logged: bytes) -> bool:
    """Whether a router said it itself, or the kernels did for their link: no packet of a capture comes from there."""
    source, _ = ends_of(logged)
    return source in LINK_LOCAL or source in LINK_SCOPE_IPV4


def _ends(datagram: Datagram) -> bytes:
    size = datagram.facts.source.family_bits // 8
    return datagram.facts.source.value.to_bytes(size, "big") + datagram.facts.target.value.to_bytes(size, "big")

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
from sgdataplane.host.nflog import Logged
from sgdataplane.lab.listeners import AF, allow_delegated
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.packetlog import LOCAL_IN, PREROUTING, LogTable, RawRule, open_log
from sgdataplane.lab.parts import Endpoint
from sgdataplane.lab.replay.datagrams import Datagram
from sgdataplane.lab.replay.endpoints import LINK_SCOPE_IPV4
from sgdataplane.model.always import LINK_LOCAL
from sgdataplane.model.options import Placement
from sgdataplane.net.headers import ends_of
from sgdataplane.net.values import Address, Family
from sgdataplane.nft import wire
from sgdataplane.nft.ir import ACCEPT, DROP, Match, Range, rule
from sgdataplane.nft.kernel import NetlinkKernel

OURS = 0x53475250  # the priority that marks our sockets' packets; it ends with the namespace
INVALID = "invalid"
PRIORITY = 2  # NFT_META_PRIORITY
NEIGHBOURS = Match(Field.ICMPV6_TYPE, (Range(133, 137),))
HOPS = 4
WAIT_S = 2.0  # for what should arrive, although the kernel needs microseconds
MAX_MISSING = 30  # how many packets we wait for in vain; after that we no longer blame a slow machine


@dataclass(frozen=True)
class ReplayTable(LogTable):
    """The table of one namespace of a replay."""

    is_node: bool = True
    """Whether the namespace is a node's, not a router's."""
    judges: bool = False
    """Whether policy is enforced in it."""

    def chains(self) -> Iterator[tuple[str, Hook, tuple[RawRule, ...]]]:
        """Yield the chains that this namespace needs."""
        if self.is_node:
            yield from self._node()
        if self.judges:
            yield from self._looks()

    def _node(self) -> Iterator[tuple[str, Hook, tuple[RawRule, ...]]]:
        """Yield chains that silence everything but our sockets, and log what is delivered.

        Where no policy is enforced, conntrack is kept out of it, so that fragments are sent as they are: the kernel
        reassembles only tracked packets. It reassembles those that come in only if some rule asks conntrack something.
        """
        is_ours = wire.meta(PRIORITY) + wire.compare(struct.pack("=I", OURS))
        ours = is_ours + (b"" if self.judges else wire.untrack()) + wire.decide(ACCEPT)
        to_loopback = Match(Field.OIFNAME, (Range.of("lo"),))
        silence = ((rule(), ours), (rule(to_loopback, ACCEPT), b""), (rule(NEIGHBOURS, ACCEPT), b""), (rule(DROP), b""))
        yield "silence", Hook("output", -450), silence
        if not self.judges:
            yield "blindness", Hook("prerouting", -300), ((rule(), wire.untrack()),)
        delivered = rule(_other_than_lo(Field.IIFNAME)), self.log()
        yield "delivered", Hook("input", 200), ((rule(_is(CtState.ESTABLISHED)), b""), delivered)

    def _looks(self) -> Iterator[tuple[str, Hook, tuple[RawRule, ...]]]:
        """Yield chains that log just before both policies; the prefix says what conntrack calls invalid."""
        for hook, field in ((Hook("prerouting", -160), Field.IIFNAME), (Hook("postrouting", 140), Field.OIFNAME)):
            other = _other_than_lo(field)
            invalid = rule(other, _is(CtState.INVALID)), self.log(INVALID)
            yield hook.name, hook, (invalid, (rule(other, _is(CtState.INVALID, negate=True)), self.log()))


def _other_than_lo(field: Field) -> Match:
    return Match(field, (Range.of("lo"),), negate=True)


def _is(state: CtState, *, negate: bool = False) -> Match:
    return Match(Field.CT_STATE, (Range.of(state),), negate)


@dataclass(frozen=True, slots=True)
class Sighting:
    """How far a packet got."""

    left: bool = False
    """It came to the sender's policy."""
    arrived: bool = False
    """It came to the receiver's policy."""
    delivered: bool = False
    """It came to the receiving node."""
    invalid: frozenset[str] = frozenset()
    """The namespaces whose conntrack called it invalid."""


class ReplayPoint:
    """One namespace of a replay: its table, its log, its raw sockets."""

    def __init__(self, name: str, *, is_node: bool, judges: bool) -> None:
        self.name = name
        self._sockets: dict[tuple[str, Family], socket.socket] = {}
        with ExitStack() as stack:
            with netns.inside(name):
                self.log = open_log()
            stack.callback(self.log.close)
            self._kernel = NetlinkKernel(name)  # kept, as the table goes with its socket
            stack.callback(self._kernel.close)
            table = f"sgdp_replay_{self.log.group}"
            self._kernel.run(ReplayTable(table, group=self.log.group, is_node=is_node, judges=judges))
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Close its sockets; its table goes with the kernel's."""
        for sock in self._sockets.values():
            sock.close()
        self._stack.close()

    def send(self, data: bytes, end: Endpoint, target: Address) -> int:
        """Send from the end's interface; return the kernel's error number, or 0.

        That a policy drops it is no error.
        """
        try:
            self._socket_of(end).sendto(data, (str(target), 0))
        except OSError as error:
            return 0 if error.errno in (errno.EPERM, errno.ENOBUFS) else error.errno or -1
        return 0

    def _socket_of(self, end: Endpoint) -> socket.socket:
        """Return the raw socket of the end's interface and family; it is opened once."""
        family = end.address.family
        found = self._sockets.get((end.interface.ifname, family))
        if found is None:
            with netns.inside(self.name):
                found = socket.socket(AF[family], socket.SOCK_RAW, socket.IPPROTO_RAW)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, OURS)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, end.interface.ifname.encode())
            if end.interface.eni_id:  # the kernel chooses the interface's routes by the source address
                allow_delegated(found, family)
                found.bind((str(end.interface.primary(family) or end.address), 0))
            self._sockets[end.interface.ifname, family] = found
        return found


class Wire:
    """The namespaces of a lab as a replay uses them. Each is prepared when a packet first needs it.

    While the block of its `with` runs, this process runs on one processor.

    Attributes:
        strangers: Packets that were delivered although nobody had just sent them, or twice.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._points: dict[str, ReplayPoint] = {}
        self._processors = os.sched_getaffinity(0)
        self._misses_left = MAX_MISSING
        self.strangers = 0  # packets that were delivered although nobody had just sent them, or twice

    def __enter__(self) -> Self:
        os.sched_setaffinity(0, {min(self._processors)})
        with netns.nowhere():
            with IPRoute() as ipr:
                ipr.link("set", index=ipr.link_lookup(ifname="lo")[0], state="up")
            self._loop = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._loop.bind(("127.0.0.1", 0))
        self._loop.connect(self._loop.getsockname())
        self._loop.settimeout(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        os.sched_setaffinity(0, self._processors)
        for point in self._points.values():
            point.close()
        self._loop.close()

    def prepare(self, near: Endpoint, far: Endpoint) -> None:
        """Prepare both nodes and the routers between them."""
        is_host = self._lab.placement is Placement.HOST
        for end in (near, far):
            self._open(end.node.netns, is_node=True, judges=end.node.is_instance and not is_host)
            if is_host:
                self._open(self._lab.router_of(end).netns, is_node=False, judges=True)

    def send(self, data: bytes, near: Endpoint, target: Address) -> str:
        """Send one packet; return what the kernel says if it refuses to send such a packet, else ""."""
        code = self._points[near.node.netns].send(data, near, target)
        return os.strerror(code) if code else ""

    def settle(self) -> None:
        """Return when everything that was sent has got as far as it ever will."""
        for _ in range(HOPS):
            self._loop.send(b"")
            self._loop.recv(1)

    def look(self, datagram: Datagram, near: Endpoint, far: Endpoint, until: str) -> Sighting:
        """Return how far the datagram got, once it has settled.

        On a slow machine, this waits until it has got as far as `until`: a field of Sighting, or "nothing".
        """
        seen = self._read(datagram, near, far, Sighting())
        if not seen.delivered:
            self.settle()
            seen = self._read(datagram, near, far, seen)
        deadline = time.monotonic() + (WAIT_S if self._misses_left > 0 else 0.0)
        while until != "nothing" and not getattr(seen, until) and not seen.invalid:
            left = deadline - time.monotonic()
            if left <= 0:
                self._misses_left -= 1
                break
            select.select([point.log for point in self._points_between(near, far)], (), (), left)
            seen = self._read(datagram, near, far, seen)
        return seen

    def drain(self) -> None:
        """Count what still comes after the last packet, because nobody sent it, or it is late."""
        self.settle()
        for point in self._points.values():
            for entry in point.log.read():
                self._note_stranger(entry)

    def _note_stranger(self, entry: Logged) -> None:
        """Count a packet that was delivered and belongs to no datagram of the replay, unless a router sent it."""
        self.strangers += entry.hook == LOCAL_IN and not is_routers(entry.payload)

    def has_lost(self) -> bool:
        """Return whether any log lost messages since the last call."""
        return sum(point.log.take_lost() for point in self._points.values()) > 0

    def _points_between(self, near: Endpoint, far: Endpoint) -> list[ReplayPoint]:
        names = (near.node.netns, self._lab.router_of(near).netns, self._lab.router_of(far).netns, far.node.netns)
        return [self._points[name] for name in dict.fromkeys(names) if name in self._points]

    def _read(self, datagram: Datagram, near: Endpoint, far: Endpoint, seen: Sighting) -> Sighting:
        """Return what the logs on the way say of the datagram, added to what was seen of it before."""
        left, arrived, delivered, invalid = seen.left, seen.arrived, seen.delivered, set(seen.invalid)
        sender, receiver = self._lab.enforces(near), self._lab.enforces(far)
        is_host = self._lab.placement is Placement.HOST
        for point in self._points_between(near, far):
            for entry in point.log.read():
                if not is_copy(entry.payload, datagram) or (delivered and entry.hook == LOCAL_IN):
                    self._note_stranger(entry)
                    continue
                if entry.prefix == INVALID:
                    invalid.add(point.name)
                if entry.hook == LOCAL_IN:
                    delivered = True
                elif (entry.hook == PREROUTING) is is_host:
                    left |= point.name == sender
                else:
                    arrived |= point.name == receiver
        return Sighting(left, arrived, delivered, frozenset(invalid))

    def _open(self, name: str, *, is_node: bool, judges: bool) -> None:
        if name not in self._points:
            self._points[name] = ReplayPoint(name, is_node=is_node, judges=judges)


def is_copy(logged: bytes, datagram: Datagram) -> bool:
    """Return whether a logged packet, which may be cut off, is of this datagram.

    It is if both ends and the octets behind the IP header are the same. The header itself may differ: routers decrease
    the hop limit, and the kernel writes IPv4's identification and checksum.
    """
    if datagram.header.source.family_bits == 32:
        header = (logged[0] & 15) * 4 if logged else 0
        ends, behind = logged[12:20], logged[header:]
    else:
        ends, behind = logged[8:40], logged[40:]
    return ends == _ends(datagram) and any(form.startswith(behind) for form in datagram.forms)


def is_routers(logged: bytes) -> bool:
    """Return whether a router sent it, or a kernel did for its link.

    No packet of a capture comes from such an address.
    """
    source, _ = ends_of(logged)
    return source in LINK_LOCAL or source in LINK_SCOPE_IPV4


def _ends(datagram: Datagram) -> bytes:
    size = datagram.header.source.family_bits // 8
    return datagram.header.source.value.to_bytes(size, "big") + datagram.header.target.value.to_bytes(size, "big")

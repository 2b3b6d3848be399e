"""Many workloads that come and go: a namespace and an ENI each, joined to one peer that knows them all.

Owns making and ending them, and the sockets at both ends of each. Must not know what is expected of them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from sgdataplane.host import netns, sysctl
from sgdataplane.host.links import InterfaceAddress, Links, Route
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.values import Address, Prefix
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.probes.links import wait_carried

ALLOWED, DENIED = PORTS = (5001, 5002)  # by every policy here
SOURCE = Address.parse("10.7.0.1")
SO_RCVBUFFORCE = 33


def eni_of(number: int) -> Eni:
    return make_eni(f"eni-{number}", f"10.8.{number // 200}.{1 + number % 200}", f"sg-{number % 3}")


def state_of(count: int, step: int) -> CloudState:
    """All ENIs, in three groups; `step` changes what no packet here meets."""
    texts = [f"ingress udp {ALLOWED}/{ALLOWED} from 0.0.0.0/0", f"egress tcp {1 + step}/9999 to ::/0 drop"]
    rules = [make_rule(text, f"sgr-{number}") for number, text in enumerate(texts)]
    return make_state([make_group(f"sg-{n}", rules) for n in range(3)], [eni_of(n) for n in range(count)])


@dataclass
class Plugged:
    """One workload's interface. `sent`, `received`: by port, since it was there or all was forgotten; but what was
    denied counts whenever it was sent. `mark`: what packets to it hold."""

    number: int
    name: str
    ifname: str
    stack: ExitStack = field(default_factory=ExitStack)
    inboxes: dict[int, socket.socket] = field(default_factory=dict)
    mark: bytes = b"0"
    sent: dict[int, int] = field(default_factory=lambda: dict.fromkeys(PORTS, 0))
    received: dict[int, int] = field(default_factory=lambda: dict.fromkeys(PORTS, 0))

    @property
    def eni_id(self) -> str:
        return eni_of(self.number).network_interface_id

    @property
    def address(self) -> str:
        return str(eni_of(self.number).addresses[0])

    def drain(self) -> int:
        """Count what has come; how much that is by now."""
        for port, inbox in self.inboxes.items():
            try:
                while found := inbox.recv(64):
                    self.received[port] += port == DENIED or found == self.mark
            except BlockingIOError:
                pass
        return sum(self.received.values())

    def has_all_allowed(self) -> bool:
        self.drain()
        return self.received[ALLOWED] == self.sent[ALLOWED]

    def has_all(self) -> bool:
        self.drain()
        return self.received == self.sent

    def forget(self) -> None:
        """Of what was sent so far nothing counts, even if it is still to come."""
        self.mark = b"%d" % (int(self.mark) + 1)
        self.sent, self.received = (dict.fromkeys(PORTS, 0) for _ in range(2))


class Peer:
    """The one at the other end of all their links."""

    def __init__(self, name: str) -> None:
        self.name = name
        with Links(name) as links:
            links.set_up("lo")
            links.add_address(InterfaceAddress("lo", SOURCE, 32))
        with netns.inside(name):
            self._outbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._outbox.bind((str(SOURCE), 0))

    def close(self) -> None:
        self._outbox.close()

    def send(self, to: Plugged, port: int) -> None:
        self._outbox.sendto(to.mark, (to.address, port))
        to.sent[port] += 1

    def plug(self, name: str, number: int) -> Plugged:
        """A workload that is there and can be reached; nobody has attached it."""
        plugged = Plugged(number, name, "eth0")
        netns.create(name)
        plugged.stack.callback(netns.remove, name)
        return self._joined(plugged)

    def plug_into(self, home: Plugged, number: int) -> Plugged:
        """One more interface of a workload."""
        return self._joined(Plugged(number, home.name, f"eth{number + 1}"))

    def _joined(self, plugged: Plugged) -> Plugged:
        number, eni = plugged.number, eni_of(plugged.number)
        with Links(self.name) as far, Links(plugged.name) as near:
            far.add_veth(f"far{number}", plugged.name, plugged.ifname, eni.mac_address)
            near.add_address(InterfaceAddress(plugged.ifname, eni.addresses[0], 32))
            near.set_up(plugged.ifname)
            far.set_up(f"far{number}")
            near.add_route(Route(plugged.ifname, Prefix.of(SOURCE)))
            far.add_route(Route(f"far{number}", Prefix.of(eni.addresses[0])))
        wait_carried(plugged.name, plugged.ifname)
        wait_carried(self.name, f"far{number}")
        with netns.inside(plugged.name):
            for ifname in ("all", plugged.ifname):  # the way back may be by another of its interfaces
                sysctl.write(f"ipv4/conf/{ifname}/rp_filter", "0")
            for port in PORTS:
                inbox = plugged.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                inbox.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
                inbox.bind((plugged.address, port))
                inbox.setblocking(False)
                plugged.inboxes[port] = inbox
        return plugged

    def unplug(self, plugged: Plugged) -> None:
        """Its interface goes, and its namespace, if it has one of its own."""
        plugged.stack.close()
        with Links(self.name) as links:
            links.delete_link(f"far{plugged.number}")


@contextmanager
def peer_in(name: str) -> Iterator[Peer]:
    netns.create(name)
    peer = Peer(name)
    try:
        yield peer
    finally:
        peer.close()
        netns.remove(name)

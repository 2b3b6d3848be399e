"""Two namespaces joined by one link, or by a router between them: a protected instance and its peer, both with an
interface eth0.

Owns their addresses (the instance's end has the MAC of eni-a), and sockets that live there. Must not know policy.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Self

from sgdataplane.enforce import Desired
from sgdataplane.host import netns, sysctl
from sgdataplane.host.links import InterfaceAddress, Links, Route
from sgdataplane.lab.topology import EVERYWHERE, GATEWAYS, LENGTHS
from sgdataplane.lab.waiting import scale_timeout
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address, Prefix
from tests.support.inputs.builders import mac_of
from tests.support.probes.links import wait_carried

HERE = {"peer": ("10.0.0.1", "2001:db8::1"), "instance": ("10.0.0.2", "2001:db8::2")}
LINKS = {"peer": "out", "instance": "eni-a"}  # a router's, where there is one
ARRIVAL = scale_timeout(60.0)
Pair = Mapping[str, str]  # role -> namespace


@contextmanager
def made_pair(make_name: Callable[[], str], placement: str = "instance") -> Iterator[Pair]:
    """The role `policy` is the namespace where that placement enforces it: the instance's, or the router's."""
    roles = [*HERE] if placement == "instance" else [*HERE, "policy"]
    names = {role: make_name() for role in roles}
    with ExitStack() as stack:
        for name in names.values():
            netns.create(name)
            stack.callback(netns.remove, name)
        if placement == "instance":
            join(names)
        else:
            join_by_router(names)
        yield {"policy": names["instance"], **names}


def desired_at(pair: Pair, state: CloudState) -> Desired:
    """For eni-a of the state, which the instance has."""
    if pair["policy"] == pair["instance"]:
        return Desired(state, {"eni-a": "eth0"})
    return Desired(state, {"eni-a": LINKS["instance"]}, placement=Placement.HOST, uplinks=(LINKS["peer"],))


def join_by_router(names: Pair) -> None:
    """A link for each, and the router forwards."""
    router = names["policy"]
    with netns.inside(router):
        sysctl.write_all({"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"})
    for role, addresses in HERE.items():
        with Links(router) as links:
            links.add_veth(LINKS[role], names[role], "eth0", mac_of("eni-a") if role == "instance" else "")
        wire_up(router, LINKS[role], names[role], addresses)
        know(names[role], "eth0", map(str, GATEWAYS.values()), mac_at(router, LINKS[role]))
        know(router, LINKS[role], addresses, mac_at(names[role], "eth0"))


def wire_up(router: str, ifname: str, node: str, addresses: Iterable[str]) -> None:
    """Addresses, both ends up, and routes, as a lab does it, for a link that is there; the node's end is eth0."""
    found = [Address.parse(text) for text in addresses]
    with Links(router) as near, Links(node) as far:
        for address in found:
            near.add_address(InterfaceAddress(ifname, GATEWAYS[address.family], LENGTHS[address.family]))
            far.add_address(InterfaceAddress("eth0", address, address.family_bits))
        near.set_up(ifname)
        far.set_up("eth0")
        for address in found:
            near.add_route(Route(ifname, Prefix.of(address)))
            far.add_route(Route("eth0", EVERYWHERE[address.family], GATEWAYS[address.family]))
    wait_carried(router, ifname)
    wait_carried(node, "eth0")


def join(names: Pair) -> None:
    """Link two namespaces that are there already."""
    plug(names)
    switch_on(names)


def plug(names: Pair) -> None:
    """The link alone, both ends down."""
    with Links(names["peer"]) as links:
        links.add_veth("eth0", names["instance"], "eth0", mac_of("eni-a"))


def switch_on(names: Pair) -> None:
    """Addresses, both ends up, and each knows the other."""
    for role, addresses in HERE.items():
        with Links(names[role]) as links:
            for text in addresses:
                links.add_address(InterfaceAddress("eth0", Address.parse(text), 64 if ":" in text else 24))
            links.set_up("eth0")
    for role in HERE:
        wait_carried(names[role], "eth0")
    introduce(names)


def introduce(names: Pair) -> None:
    """Each end knows the other's hardware address, for good: a flood outruns the search for it, and packets that wait
    for its end are dropped."""
    for role, other in (("peer", "instance"), ("instance", "peer")):
        know(names[role], "eth0", HERE[other], mac_at(names[other], "eth0"))


def mac_at(namespace: str, ifname: str) -> str:
    with Links(namespace) as links:
        return next(link.mac for link in links.links() if link.ifname == ifname)


def know(namespace: str, ifname: str, addresses: Iterable[str], mac: str) -> None:
    with netns.inside(namespace):
        for address in addresses:
            command = f"ip neigh replace {address} lladdr {mac} dev {ifname} nud permanent"
            subprocess.run(command.split(), check=True)


def bound(pair: Pair, role: str, port: int, kind: int = socket.SOCK_DGRAM, *, address: str = "") -> socket.socket:
    """An IPv4 socket at that end, on that port (0: any); it waits for a packet ARRIVAL seconds at most."""
    with netns.inside(pair[role]):
        found = socket.socket(socket.AF_INET, kind)
    found.settimeout(ARRIVAL)
    found.bind((address or HERE[role][0], port))
    return found


class Session:
    """A UDP session from the peer to a port of the instance, with both ends in hand. `client`: the peer's address, if
    it isn't the one that it has here. `waits`: until both links carry packets."""

    def __init__(self, pair: Pair, port: int, client: str = "", *, waits: bool = True) -> None:
        self._pair = pair
        if waits:
            self.wait_carried()
        self._server, self._client = bound(pair, "instance", port), bound(pair, "peer", 0, address=client)
        self._client.connect(self._server.getsockname())
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self._client.close()

    def wait_carried(self) -> None:
        """Until both links carry packets: also after one of them has been moved, or closed and opened."""
        for role in HERE:
            wait_carried(self._pair[role], "eth0")

    def send(self) -> bytes:
        """One packet to the instance; its content, which no other one has."""
        self._number += 1
        content = f"{self._client.getsockname()[1]}/{self._number}".encode()
        self._client.send(content)
        return content

    def must_pass(self) -> list[bytes]:
        """One more packet, which has to arrive; what has arrived before it, and was not read yet."""
        content, before = self.send(), list[bytes]()
        while (found := self._server.recv(64)) != content:
            before.append(found)
        return before

    def passes(self, beside: Session) -> bool:
        """Whether one more packet arrives, before one of `beside`, which takes the same way and has to."""
        content = self.send()
        beside.must_pass()
        return content in self.read()

    def answer(self) -> bytes:
        """One packet back, which may be refused; its content, which no other one has."""
        self._number += 1
        content = f"answer {self._number}".encode()
        with suppress(PermissionError):
            self._server.sendto(content, self._client.getsockname())
        return content

    def must_be_answered(self) -> list[bytes]:
        """One more packet back, which has to arrive; what has arrived before it, and was not read yet."""
        content, before = self.answer(), list[bytes]()
        while (found := self._client.recv(64)) != content:
            before.append(found)
        return before

    def read(self) -> list[bytes]:
        """What has arrived and was not read yet."""
        found = []
        self._server.setblocking(False)
        try:
            while True:
                found.append(self._server.recv(64))
        except BlockingIOError:
            self._server.settimeout(ARRIVAL)
            return found

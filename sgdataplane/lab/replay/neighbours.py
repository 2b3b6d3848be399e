"""The MACs of a lab's links, told to both of their ends, so that no packet of a replay waits for its neighbour.

Owns these entries while a replay runs. Is given links. Must not know packets.
"""

from __future__ import annotations

from pyroute2 import IPRoute

from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.lab.parts import Interface, Node, Router
from sgdataplane.lab.routers import GATEWAYS
from sgdataplane.net.values import Address, link_local


class Neighbours:
    """Entries that don't age, until `forget`."""

    def __init__(self) -> None:
        self._macs: dict[str, dict[str, str]] = {}
        self._told: set[tuple[str, str, Address]] = set()

    def introduce(self, node: Node, interface: Interface, router: Router) -> None:
        """Both ends of an interface's link to each other."""
        near, far = self._macs_in(node.netns)[interface.ifname], self._macs_in(router.netns)[interface.router_ifname]
        for address in (*interface.addresses, link_local(near)):
            self._add(router.netns, interface.router_ifname, address, near)
        for gateway in GATEWAYS.values():
            self._add(node.netns, interface.ifname, gateway, far)

    def forget(self) -> None:
        """In a lab that goes on: what its kernels find out for themselves is as good."""
        for name, ifname, address in self._told:
            if netns.is_bound(name):
                with netns.inside(name), IPRoute() as door:
                    for index in door.link_lookup(ifname=ifname):
                        door.neigh("del", dst=str(address), ifindex=index)

    def _macs_in(self, name: str) -> dict[str, str]:
        if name not in self._macs:
            with Links(name) as door:
                self._macs[name] = {link.ifname: link.mac for link in door.links()}
        return self._macs[name]

    def _add(self, name: str, ifname: str, address: Address, mac: str) -> None:
        if (name, ifname, address) in self._told:
            return
        self._told.add((name, ifname, address))
        with netns.inside(name), IPRoute() as door:
            index = door.link_lookup(ifname=ifname)[0]
            door.neigh("replace", dst=str(address), lladdr=mac, ifindex=index, state="permanent")

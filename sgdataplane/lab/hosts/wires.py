"""The networks of a lab of hosts: one for management, and one for each VPC between the hosts.

Owns addresses and links. Must not know what is said on them, or policy.

    management   a bridge in the sandbox; each host namespace has one address there, and no route to anything else
    data         a bridge for each VPC in the host namespace `fabric`. In instance placement, each host has one, too,
                 joined by a link; the host ends of workloads' links are ports of their host's bridge, so that a VPC is
                 one segment over all hosts. In host placement, routers are joined to the fabric's bridge (routers.py)
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.host import netns, sysctl
from sgdataplane.host.links import RT_TABLE_MAIN, InterfaceAddress, Links, Route, RoutingRule
from sgdataplane.host.routing import QUIET
from sgdataplane.lab.hosts.sandbox import HostNamespace
from sgdataplane.lab.topology import EVERYWHERE, FIRST_TABLE, GATEWAYS
from sgdataplane.net.values import Address, Prefix

MANAGEMENT = "mgmt"  # the bridge, and every interface that leads to it
UPLINK = "uplink"  # of a router, in host placement
NETWORK = Prefix.parse("198.18.0.0/16")  # reserved for tests of networks (RFC 2544)
SANDBOX_NUMBER = 1


@dataclass(frozen=True, slots=True)
class Plug:
    """The interface of a workload, with the ENI's MAC and addresses."""

    index: int
    """The interface's number; 0 for the primary ENI's, by which everything leaves that belongs to no other."""
    mac: str
    addresses: tuple[Address, ...]

    @property
    def ifname(self) -> str:
        """The interface's name in the workload."""
        return f"eth{self.index}"


def management_address(number: int) -> str:
    """Return the address of the host namespace with that number, which is 1 to 65534."""
    return str(Address(NETWORK.family_bits, NETWORK.first + number))


def management_port(number: int) -> str:
    """Return the name of the sandbox's end of that host namespace's link. Setting it down cuts that off."""
    return f"m{number}"


def make_management(sandbox: HostNamespace) -> None:
    """Make the bridge, which is also how the sandbox itself takes part."""
    with Links(sandbox.netns) as links:
        links.add_bridge(MANAGEMENT)
        links.add_address(_at(MANAGEMENT, SANDBOX_NUMBER))


def join_management(sandbox: HostNamespace, namespace: HostNamespace, number: int) -> None:
    """Link a host namespace to the bridge, and give it its address there."""
    port = management_port(number)
    with Links(sandbox.netns) as links, Links(namespace.netns) as inside:
        links.add_veth(port, namespace.netns, MANAGEMENT, "")
        links.put_into(port, MANAGEMENT)
        links.set_up(port)
        inside.add_address(_at(MANAGEMENT, number))
        inside.set_up(MANAGEMENT)


def _at(ifname: str, number: int) -> InterfaceAddress:
    return InterfaceAddress(ifname, Address.parse(management_address(number)), NETWORK.length)


def segment_ifname(number: int) -> str:
    """Return the name of the bridge of the VPC with that number, on each host and in the fabric."""
    return f"vpc{number}"


def join_segment(fabric: HostNamespace, host: HostNamespace, host_number: int, number: int) -> None:
    """Make a bridge of that VPC on the host, and link it to the fabric."""
    bridge, ifname = segment_ifname(number), f"up{number}"
    with Links(host.netns) as inside:
        inside.add_bridge(bridge)
        add_port(fabric, number, f"h{host_number}v{number}", host.netns, ifname)
        inside.put_into(ifname, bridge)
        inside.set_up(ifname)


def add_port(fabric: HostNamespace, number: int, port: str, namespace: str, ifname: str) -> None:
    """Link a namespace to the fabric's bridge of that VPC, which is made with the first link.

    The end in `namespace` is still down.
    """
    bridge = segment_ifname(number)
    with Links(fabric.netns) as links:
        if links.link(bridge) is None:
            links.add_bridge(bridge)
        links.add_veth(port, namespace, ifname, "")
        links.put_into(port, bridge)
        links.set_up(port)


def plug_in(host: HostNamespace, namespace: str, plug: Plug, number: int, port: str) -> None:
    """Link a workload's namespace to its host, and give it its addresses and routes.

    The host's end, `port`, is still down.

    Args:
        host: The host's namespace.
        namespace: The path of the workload's namespace, from outside.
        plug: The workload's interface.
        number: The VPC whose bridge on the host the link is put into; 0 for none.
        port: The name of the host's end.
    """
    with Links(host.netns) as outside:
        outside.add_veth(port, namespace, plug.ifname, plug.mac)
        if number:
            outside.put_into(port, segment_ifname(number))
    with netns.inside(namespace):
        sysctl.write_all(QUIET)
    with Links(namespace) as links:
        links.set_up("lo")
        links.set_up(plug.ifname)
        for address in plug.addresses:
            links.add_address(InterfaceAddress(plug.ifname, address, address.family_bits))
        _add_routes(links, plug, is_segment=bool(number))


def _add_routes(links: Links, plug: Plug, *, is_segment: bool) -> None:
    """Add the routes of a workload's interface, and the rules by which an ENI's addresses leave through it.

    Everything is a neighbour if the VPC is one segment; otherwise it is behind the router.
    """
    table = FIRST_TABLE + plug.index if plug.index else RT_TABLE_MAIN
    for family in dict.fromkeys(address.family for address in plug.addresses):
        gateway = None if is_segment else GATEWAYS[family]
        links.add_route(Route(plug.ifname, EVERYWHERE[family], gateway, table=table))
    for address in plug.addresses if plug.index else ():
        links.add_rule(RoutingRule(address.family, table, table, source=Prefix.of(address)))

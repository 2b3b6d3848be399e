"""What is in a VPC's router on one host, and the links between the routers of one VPC.

Owns the gateway's addresses, the ways to every address, and the addresses of links between hosts. Is given the ends of
links. Must not do I/O.

    to a node         169.254.1.1 and fe80::1, the gateway; a route per address of the node, whatever its subnet
    to another host   169.254.2.K and fe80::2:K on host K's ends; a route per address that a node there has
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from sgdataplane.host.links import InterfaceAddress, Route
from sgdataplane.lab import names
from sgdataplane.lab.parts import Interface, NetnsPlan, Node, Router, Veth
from sgdataplane.model.options import GATEWAY_IPV4, GATEWAY_IPV6
from sgdataplane.net.values import Address, Family, Prefix, link_local

GATEWAYS = {Family.IPV4: GATEWAY_IPV4, Family.IPV6: GATEWAY_IPV6}
LENGTHS = {Family.IPV4: 32, Family.IPV6: 64}
MAX_HOSTS = 16


def links_between(routers: Sequence[Router]) -> tuple[Veth, ...]:
    """A link from each of a VPC's routers to each other one."""
    return tuple(
        Veth(
            router_netns=near.netns,
            router_ifname=names.uplink_ifname(far.host),
            node_netns=far.netns,
            node_ifname=names.uplink_ifname(near.host),
            mac="",
            mark=names.link_mark(near.name, far.name),
        )
        for near, far in combinations(routers, 2)
    )


def router_plan(lab: str, router: Router, ends: Sequence[tuple[Node, Interface]], peers: Sequence[Router]) -> NetnsPlan:
    """`ends`: all that the VPC has, on all hosts. `peers`: its routers, this one included."""
    here = tuple(end for node, end in ends if node.host == router.host)
    away = tuple((node.host, end) for node, end in ends if node.host != router.host)
    to_hosts = tuple(names.uplink_ifname(peer.host) for peer in peers if peer.host != router.host)
    to_nodes = (_addresses(end.router_ifname, GATEWAYS) for end in here)
    between = (_addresses(ifname, host_addresses(router.host)) for ifname in to_hosts)
    return NetnsPlan(
        netns=router.netns,
        mark=names.namespace_mark(lab, router.name),
        role="router",
        addresses=frozenset(entry for group in (*to_nodes, *between) for entry in group),
        routes=frozenset(
            (
                *(route for end in here for route in _routes_to_node(end)),
                *(route for host, end in away for route in _routes_to_host(host, end)),
            )
        ),
    )


def host_addresses(host: int) -> dict[Family, Address]:
    """What the routers on a host are called on the links to other hosts."""
    return {Family.IPV4: Address.parse(f"169.254.2.{host}"), Family.IPV6: Address.parse(f"fe80::2:{host:x}")}


def _addresses(ifname: str, own: dict[Family, Address]) -> tuple[InterfaceAddress, ...]:
    return tuple(InterfaceAddress(ifname, address, LENGTHS[family]) for family, address in own.items())


def _routes_to_node(end: Interface) -> Iterator[Route]:
    """Addresses are on the link and answer ARP or ND; delegated prefixes are behind the interface."""
    for address in end.addresses:
        yield Route(end.router_ifname, Prefix.of(address))
    for prefix in end.prefixes:
        gateway = end.primary(prefix.family) if prefix.family is Family.IPV4 else link_local(end.mac)
        yield Route(end.router_ifname, prefix, gateway)


def _routes_to_host(host: int, end: Interface) -> Iterator[Route]:
    for prefix in end.answers_to:
        yield Route(names.uplink_ifname(host), prefix, host_addresses(host)[prefix.family])

"""Plan a lab from a state: nodes, interfaces, routers, and each namespace's addresses, routes and rules.

Owns the lab's addressing plan. It is given a CloudState, the hosts outside, and the number of hosts that each VPC is
spread over. Must not do I/O.

    instance   eth0 (primary ENI), eth1 ...   each ENI has its own veth to its VPC's router, and the default route
                                              leads to the gateway
    router     one per VPC and host; all routers of a VPC are linked with each other
    external   eth0, eth1 ...: one link per VPC, to its router on the first host, with the same addresses on each

A router's addresses and routes:

    to a node           169.254.1.1 and fe80::1, the gateway; one route per address of the node, whatever its subnet
    to another host     169.254.2.K and fe80::2:K on host K's end; one route per address that a node there has
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

from sgdataplane.errors import LabError
from sgdataplane.host.links import RT_TABLE_LOCAL, RT_TABLE_MAIN, InterfaceAddress, Route, RoutingRule
from sgdataplane.host.routing import router_ifname
from sgdataplane.lab.parts import (
    Interface,
    LabNode,
    NetnsPlan,
    Router,
    Veth,
    external_node,
    link_mark,
    namespace_mark,
    netns_of,
    router_name,
    uplink_ifname,
)
from sgdataplane.model.options import GATEWAY_IPV4, GATEWAY_IPV6
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address, Family, Prefix, link_local

DEFAULT_EXTERNALS = ((Address.parse("198.51.100.7"), Address.parse("2001:db8:ffff::7")),)
EVERYWHERE = {Family.IPV4: Prefix.parse("0.0.0.0/0"), Family.IPV6: Prefix.parse("::/0")}
FIRST_TABLE = 1000  # routing table FIRST_TABLE + k is for what belongs to ethk
FIRST_MARK = 0x100  # FIRST_MARK + k marks packets of a session that came to a host outside by ethk


@dataclass(frozen=True)
class Topology:
    """A whole lab, computed from a state. The same state gives the same topology."""

    lab: str
    nodes: tuple[LabNode, ...]
    routers: tuple[Router, ...]

    @cached_property
    def node(self) -> dict[str, LabNode]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def routers_of_vpc(self) -> dict[str, tuple[Router, ...]]:
        """The routers of each VPC by host; the first one also leads outside."""
        found: dict[str, tuple[Router, ...]] = {}
        for router in self.routers:
            found[router.vpc_id] = (*found.get(router.vpc_id, ()), router)
        return found

    def router_of(self, node: LabNode, interface: Interface) -> Router:
        """Return the router that the interface's link leads to."""
        return self.routers_of_vpc[interface.vpc_id][node.host - 1]

    @property
    def netns_names(self) -> tuple[str, ...]:
        """The names of all namespaces: the routers', then the nodes'."""
        return tuple(router.netns for router in self.routers) + tuple(node.netns for node in self.nodes)

    @cached_property
    def veths(self) -> tuple[Veth, ...]:
        """All links: those of the nodes, then those between routers."""
        of_nodes = tuple(self._veth(node, interface) for node in self.nodes for interface in node.interfaces)
        return of_nodes + tuple(veth for group in self.routers_of_vpc.values() for veth in links_between(group))

    def _veth(self, node: LabNode, interface: Interface) -> Veth:
        return Veth(
            router_netns=self.router_of(node, interface).netns,
            router_ifname=interface.router_ifname,
            node_netns=node.netns,
            node_ifname=interface.ifname,
            mac=interface.mac,
            mark=link_mark(node.name, interface.eni_id or interface.vpc_id),
        )

    @cached_property
    def plans(self) -> tuple[NetnsPlan, ...]:
        """What must be in each namespace: the routers', then the nodes'."""
        of_routers = tuple(
            router_plan(self.lab, router, self.ends_in(router.vpc_id), self.routers_of_vpc[router.vpc_id])
            for router in self.routers
        )
        return of_routers + tuple(node_plan(self, node) for node in self.nodes)

    def ends_in(self, vpc_id: str) -> tuple[tuple[LabNode, Interface], ...]:
        """Return the interfaces of all nodes in one VPC."""
        return tuple((node, end) for node in self.nodes for end in node.interfaces if end.vpc_id == vpc_id)

    def ends_at(self, router: Router) -> tuple[Interface, ...]:
        """Return the interfaces whose links end at that router."""
        return tuple(end for node, end in self.ends_in(router.vpc_id) if node.host == router.host)

    def uplinks(self, router: Router) -> tuple[str, ...]:
        """Return the router's interfaces that carry no ENI: they lead outside, or to other hosts."""
        outside = tuple(end.router_ifname for end in self.ends_at(router) if not end.eni_id)
        peers = (peer for peer in self.routers_of_vpc[router.vpc_id] if peer is not router)
        return outside + tuple(uplink_ifname(peer.host) for peer in peers)


def plan(lab: str, state: CloudState, externals: tuple[tuple[Address, ...], ...], hosts: int = 1) -> Topology:
    """Compute the topology of a state.

    The instances of each VPC are spread over `hosts` hosts in turn, in the order of the state.

    Raises:
        LabError: Two things would get the same name, an id can't be part of one, or an address outside isn't outside.
    """
    turns: Counter[str] = Counter()
    nodes = []
    for entry in state.instances:
        node = _instance_node(lab, state, entry.instance_id)
        home = node.interfaces[0].vpc_id if node.interfaces else ""
        nodes.append(replace(node, host=turns[home] % hosts + 1))
        turns[home] += 1
    nodes += [_external_node(lab, state, addresses) for addresses in externals]
    topology = Topology(lab, tuple(nodes), tuple(_routers(lab, state, hosts)))
    _check_unique("namespace", topology.netns_names)
    ends = tuple(end for veth in topology.veths for end in veth.ends)
    for router in topology.routers:
        _check_unique(f"interface in {router.netns}", tuple(ifname for name, ifname in ends if name == router.netns))
    _check_externals(state, topology)
    return topology


def _routers(lab: str, state: CloudState, hosts: int) -> Iterator[Router]:
    for vpc in state.vpcs:
        for host in range(1, hosts + 1):
            yield Router(vpc.vpc_id, netns_of(lab, router_name(vpc.vpc_id, host)), host)


def _instance_node(lab: str, state: CloudState, instance_id: str) -> LabNode:
    interfaces = tuple(
        Interface(
            ifname=f"eth{index}",
            vpc_id=eni.vpc_id,
            router_ifname=router_ifname(eni.network_interface_id),
            addresses=eni.addresses,
            prefixes=eni.delegated_prefixes,
            eni_id=eni.network_interface_id,
            mac=eni.mac_address,
        )
        for index, eni in enumerate(state.enis_of_instance[instance_id])
    )
    alias = state.instance[instance_id].instance_name
    return LabNode(instance_id, "instance", netns_of(lab, instance_id), interfaces, alias)


def _external_node(lab: str, state: CloudState, addresses: tuple[Address, ...]) -> LabNode:
    name = external_node(addresses[0])
    interfaces = tuple(
        Interface(f"eth{index}", vpc.vpc_id, router_ifname(f"{name}.link"), addresses)
        for index, vpc in enumerate(state.vpcs)
    )
    return LabNode(name, "external", netns_of(lab, name), interfaces)


def _check_unique(what: str, found: tuple[str, ...]) -> None:
    """Raise LabError if a name occurs twice."""
    doubles = sorted({name for name in found if found.count(name) > 1})
    if doubles:
        raise LabError(f"{what} {doubles[0]}", "two things of this lab would get this name; rename one of them")


def _check_externals(state: CloudState, topology: Topology) -> None:
    """Raise LabError if the address of a host outside belongs to a VPC, an instance, or another host outside."""
    hosts = tuple(node for node in topology.nodes if not node.is_instance)
    outside = tuple(address for node in hosts for end in node.interfaces[:1] for address in end.addresses)
    inside = tuple(end for node in topology.nodes if node.is_instance for end in node.interfaces)
    for address in outside:
        owner = next((vpc.vpc_id for vpc in state.vpcs if any(address in block for block in vpc.cidr_blocks)), None)
        owner = owner or next((end.eni_id for end in inside if any(address in p for p in end.answers_to)), None)
        if owner is not None:
            raise LabError(f"external {address}", f"it belongs to {owner}; choose an address outside every VPC")
    _check_unique("external", tuple(map(str, outside)))


# what is in each namespace


def node_plan(topology: Topology, node: LabNode) -> NetnsPlan:
    """Return a node's addresses, default routes and rules.

    Addresses have no subnet: every neighbour is behind the gateway.
    """
    is_marked = not node.is_instance and len(node.interfaces) > 1
    routes = [r for i, interface in enumerate(node.interfaces) for r in _node_routes(i, interface, is_marked)]
    if is_marked:
        routes.extend(_ways_in(topology, node))
    return NetnsPlan(
        netns=node.netns,
        mark=namespace_mark(topology.lab, node.name),
        role="marked_external" if is_marked else node.kind,
        addresses=frozenset(
            InterfaceAddress(interface.ifname, address, address.family_bits)
            for interface in node.interfaces
            for address in interface.addresses
        ),
        routes=frozenset(routes),
        rules=frozenset(r for i, interface in enumerate(node.interfaces) for r in _node_rules(i, interface, is_marked)),
    )


def _node_routes(index: int, interface: Interface, is_marked: bool) -> Iterator[Route]:
    """Yield a node's default routes.

    The first interface's is the node's; those that rules choose have tables of their own.
    """
    tables = ((RT_TABLE_MAIN,) if index == 0 else ()) + ((FIRST_TABLE + index,) if index or is_marked else ())
    for family in Family:
        source = interface.primary(family)
        if source is None and not any(prefix.family is family for prefix in interface.prefixes):
            continue
        for table in tables:
            yield Route(interface.ifname, EVERYWHERE[family], GATEWAYS[family], source, table)
    for prefix in interface.prefixes:
        yield Route("lo", prefix, table=RT_TABLE_LOCAL, kind="local")


def _ways_in(topology: Topology, node: LabNode) -> Iterator[Route]:
    """Yield routes from a host outside of several VPCs to each instance.

    An address that two VPCs have is routed to the first, unless a socket is bound to the other's interface.
    """
    taken: set[Prefix] = set()
    for interface in node.interfaces:
        for _, end in topology.ends_in(interface.vpc_id):
            for prefix in end.answers_to if end.eni_id else ():
                source = interface.primary(prefix.family)
                if source is not None and prefix not in taken:
                    taken.add(prefix)
                    yield Route(interface.ifname, prefix, GATEWAYS[prefix.family], source)


def _node_rules(index: int, interface: Interface, is_marked: bool) -> Iterator[RoutingRule]:
    """Yield the rules by which what belongs to an interface leaves through it.

    The rules go by source address. Where all interfaces have the same addresses, they go by the session's mark, or by
    the interface that a socket is bound to.
    """
    table = FIRST_TABLE + index
    for family in Family:
        if is_marked and interface.primary(family):
            yield RoutingRule(family, table, table, mark=FIRST_MARK + index)
            yield RoutingRule(family, table, table, bound_to=interface.ifname)
    if not is_marked and index > 0:
        for source in interface.answers_to:
            yield RoutingRule(source.family, table, table, source=source)


GATEWAYS = {Family.IPV4: GATEWAY_IPV4, Family.IPV6: GATEWAY_IPV6}
LENGTHS = {Family.IPV4: 32, Family.IPV6: 64}
# Each two routers of a VPC share a link, so 32 hosts have 496 of them in each VPC. A host with an agent and a sync of
# its own (`--api`) takes some 120 MB.
MAX_HOSTS = 32


def links_between(routers: Sequence[Router]) -> tuple[Veth, ...]:
    """Return a link between each two of a VPC's routers."""
    return tuple(
        Veth(
            router_netns=near.netns,
            router_ifname=uplink_ifname(far.host),
            node_netns=far.netns,
            node_ifname=uplink_ifname(near.host),
            mac="",
            mark=link_mark(near.name, far.name),
        )
        for near, far in combinations(routers, 2)
    )


def router_plan(
    lab: str, router: Router, ends: Sequence[tuple[LabNode, Interface]], peers: Sequence[Router]
) -> NetnsPlan:
    """Return a router's addresses and routes.

    Args:
        lab: The lab's name.
        router: The router.
        ends: All interfaces of its VPC, on all hosts.
        peers: All routers of its VPC, this one included.
    """
    here = tuple(end for node, end in ends if node.host == router.host)
    away = tuple((node.host, end) for node, end in ends if node.host != router.host)
    to_hosts = tuple(uplink_ifname(peer.host) for peer in peers if peer.host != router.host)
    to_nodes = (_addresses(end.router_ifname, GATEWAYS) for end in here)
    between = (_addresses(ifname, host_addresses(router.host)) for ifname in to_hosts)
    return NetnsPlan(
        netns=router.netns,
        mark=namespace_mark(lab, router.name),
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
    """Return the addresses of a host's routers on the links to other hosts."""
    return {Family.IPV4: Address.parse(f"169.254.2.{host}"), Family.IPV6: Address.parse(f"fe80::2:{host:x}")}


def _addresses(ifname: str, own: dict[Family, Address]) -> tuple[InterfaceAddress, ...]:
    return tuple(InterfaceAddress(ifname, address, LENGTHS[family]) for family, address in own.items())


def _routes_to_node(end: Interface) -> Iterator[Route]:
    """Yield the routes to a node.

    Its addresses are on the link and answer ARP or ND; delegated prefixes are behind it.
    """
    for address in end.addresses:
        yield Route(end.router_ifname, Prefix.of(address))
    for prefix in end.prefixes:
        gateway = end.primary(prefix.family) if prefix.family is Family.IPV4 else link_local(end.mac)
        yield Route(end.router_ifname, prefix, gateway)


def _routes_to_host(host: int, end: Interface) -> Iterator[Route]:
    for prefix in end.answers_to:
        yield Route(uplink_ifname(host), prefix, host_addresses(host)[prefix.family])

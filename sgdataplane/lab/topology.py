"""From a state to what must exist: nodes and interfaces, and for each namespace its addresses, routes and rules.

Owns the lab's addressing plan; what is in a router is routers.py's. Is given a CloudState, the hosts outside, and over
how many hosts a VPC is spread. Must not do I/O.

    instance   eth0 (primary ENI), eth1 ...   each ENI its own veth to its VPC's router; default route via the gateway
    router     one per VPC and host; those of one VPC are linked, each with each
    external   eth0, eth1 ...: one link per VPC, to its router on the first host, the same addresses on all of them
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from sgdataplane.errors import LabError
from sgdataplane.host.links import RT_TABLE_LOCAL, RT_TABLE_MAIN, InterfaceAddress, Route, RoutingRule
from sgdataplane.host.routing import router_ifname
from sgdataplane.lab import names, routers
from sgdataplane.lab.parts import Interface, NetnsPlan, Node, Router, Veth
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address, Family, Prefix

DEFAULT_EXTERNALS = ((Address.parse("198.51.100.7"), Address.parse("2001:db8:ffff::7")),)
EVERYWHERE = {Family.IPV4: Prefix.parse("0.0.0.0/0"), Family.IPV6: Prefix.parse("::/0")}
FIRST_TABLE = 1000  # table FIRST_TABLE + k routes what belongs to ethk
FIRST_MARK = 0x100  # packet mark of a session that came to an external host through ethk


@dataclass(frozen=True)
class Topology:
    """A whole lab, computed from a state: same state, same topology."""

    lab: str
    nodes: tuple[Node, ...]
    routers: tuple[Router, ...]

    @cached_property
    def node(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def routers_of_vpc(self) -> dict[str, tuple[Router, ...]]:
        """By host; the first is also the way out."""
        found: dict[str, tuple[Router, ...]] = {}
        for router in self.routers:
            found[router.vpc_id] = (*found.get(router.vpc_id, ()), router)
        return found

    def router_of(self, node: Node, interface: Interface) -> Router:
        """The one that the interface's link leads to."""
        return self.routers_of_vpc[interface.vpc_id][node.host - 1]

    @property
    def netns_names(self) -> tuple[str, ...]:
        return tuple(router.netns for router in self.routers) + tuple(node.netns for node in self.nodes)

    @cached_property
    def veths(self) -> tuple[Veth, ...]:
        of_nodes = tuple(self._veth(node, interface) for node in self.nodes for interface in node.interfaces)
        return of_nodes + tuple(veth for group in self.routers_of_vpc.values() for veth in routers.links_between(group))

    def _veth(self, node: Node, interface: Interface) -> Veth:
        return Veth(
            router_netns=self.router_of(node, interface).netns,
            router_ifname=interface.router_ifname,
            node_netns=node.netns,
            node_ifname=interface.ifname,
            mac=interface.mac,
            mark=names.link_mark(node.name, interface.eni_id or interface.vpc_id),
        )

    @cached_property
    def plans(self) -> tuple[NetnsPlan, ...]:
        of_routers = tuple(
            routers.router_plan(self.lab, router, self.ends_in(router.vpc_id), self.routers_of_vpc[router.vpc_id])
            for router in self.routers
        )
        return of_routers + tuple(node_plan(self, node) for node in self.nodes)

    def ends_in(self, vpc_id: str) -> tuple[tuple[Node, Interface], ...]:
        """The interfaces of all nodes in one VPC."""
        return tuple((node, end) for node in self.nodes for end in node.interfaces if end.vpc_id == vpc_id)

    def ends_at(self, router: Router) -> tuple[Interface, ...]:
        """The interfaces whose links end at that router."""
        return tuple(end for node, end in self.ends_in(router.vpc_id) if node.host == router.host)

    def uplinks(self, router: Router) -> tuple[str, ...]:
        """The router's interfaces that carry no ENI: they lead outside, or to other hosts."""
        outside = tuple(end.router_ifname for end in self.ends_at(router) if not end.eni_id)
        peers = (peer for peer in self.routers_of_vpc[router.vpc_id] if peer is not router)
        return outside + tuple(names.uplink_ifname(peer.host) for peer in peers)


def plan(lab: str, state: CloudState, externals: tuple[tuple[Address, ...], ...], hosts: int = 1) -> Topology:
    """The topology of a state. LabError if two things would get one name, or an id can't be one.

    `hosts`: the instances of each VPC take turns at being on these, in the order of the state.
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
            yield Router(vpc.vpc_id, names.netns_of(lab, names.router_name(vpc.vpc_id, host)), host)


def _instance_node(lab: str, state: CloudState, instance_id: str) -> Node:
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
    return Node(instance_id, "instance", names.netns_of(lab, instance_id), interfaces, alias)


def _external_node(lab: str, state: CloudState, addresses: tuple[Address, ...]) -> Node:
    name = names.external_node(addresses[0])
    interfaces = tuple(
        Interface(f"eth{index}", vpc.vpc_id, router_ifname(f"{name}.link"), addresses)
        for index, vpc in enumerate(state.vpcs)
    )
    return Node(name, "external", names.netns_of(lab, name), interfaces)


def _check_unique(what: str, found: tuple[str, ...]) -> None:
    doubles = sorted({name for name in found if found.count(name) > 1})
    if doubles:
        raise LabError(f"{what} {doubles[0]}", "two things of this lab would get this name; rename one of them")


def _check_externals(state: CloudState, topology: Topology) -> None:
    """A host outside lies outside every VPC, and owns its addresses alone."""
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


def node_plan(topology: Topology, node: Node) -> NetnsPlan:
    """A node's addresses (no subnet: every neighbour is behind the gateway), default routes and rules."""
    is_marked = not node.is_instance and len(node.interfaces) > 1
    routes = [r for i, interface in enumerate(node.interfaces) for r in _node_routes(i, interface, is_marked)]
    if is_marked:
        routes.extend(_ways_in(topology, node))
    return NetnsPlan(
        netns=node.netns,
        mark=names.namespace_mark(topology.lab, node.name),
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
    """The first interface's default route is the node's; those that rules choose have tables of their own."""
    tables = ((RT_TABLE_MAIN,) if index == 0 else ()) + ((FIRST_TABLE + index,) if index or is_marked else ())
    for family in Family:
        source = interface.primary(family)
        if source is None and not any(prefix.family is family for prefix in interface.prefixes):
            continue
        for table in tables:
            yield Route(interface.ifname, EVERYWHERE[family], routers.GATEWAYS[family], source, table)
    for prefix in interface.prefixes:
        yield Route("lo", prefix, table=RT_TABLE_LOCAL, kind="local")


def _ways_in(topology: Topology, node: Node) -> Iterator[Route]:
    """From a host outside of several VPCs to each instance: what two VPCs both have is the first one's, unless a socket
    is bound to the other's interface."""
    taken: set[Prefix] = set()
    for interface in node.interfaces:
        for _, end in topology.ends_in(interface.vpc_id):
            for prefix in end.answers_to if end.eni_id else ():
                source = interface.primary(prefix.family)
                if source is not None and prefix not in taken:
                    taken.add(prefix)
                    yield Route(interface.ifname, prefix, routers.GATEWAYS[prefix.family], source)


def _node_rules(index: int, interface: Interface, is_marked: bool) -> Iterator[RoutingRule]:
    """What belongs to an interface leaves through it: by source address, or, where all interfaces have the same
    addresses, by the mark of the session or the interface that a socket is bound to."""
    table = FIRST_TABLE + index
    for family in Family:
        if is_marked and interface.primary(family):
            yield RoutingRule(family, table, table, mark=FIRST_MARK + index)
            yield RoutingRule(family, table, table, bound_to=interface.ifname)
    if not is_marked and index > 0:
        for source in interface.answers_to:
            yield RoutingRule(source.family, table, table, source=source)

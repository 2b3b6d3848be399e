"""From a state to what must exist: nodes and interfaces, and for each namespace its addresses, routes and rules.

Owns the lab's addressing plan. Is given a CloudState and the hosts outside. Must not do I/O.

    instance   eth0 (primary ENI), eth1 ...   each ENI its own veth to its VPC's router; default route via the gateway
    router     one per VPC: the gateway's addresses on every link, a host route per ENI address
    external   eth0, eth1 ...: one link per VPC's router, the same addresses on all of them
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv6Address

from sgdataplane.errors import LabError
from sgdataplane.host.links import RT_TABLE_LOCAL, RT_TABLE_MAIN, InterfaceAddress, Route, RoutingRule
from sgdataplane.lab import names
from sgdataplane.model.options import GATEWAY_IPV4, GATEWAY_IPV6
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address, Family, Prefix

DEFAULT_EXTERNALS = ((Address.parse("198.51.100.7"), Address.parse("2001:db8:ffff::7")),)
GATEWAYS = {Family.IPV4: GATEWAY_IPV4, Family.IPV6: GATEWAY_IPV6}
EVERYWHERE = {Family.IPV4: Prefix.parse("0.0.0.0/0"), Family.IPV6: Prefix.parse("::/0")}
FIRST_TABLE = 1000  # table FIRST_TABLE + k routes what belongs to ethk
FIRST_MARK = 0x100  # packet mark of a session that came to an external host through ethk


@dataclass(frozen=True, slots=True)
class Interface:
    """One end of a node: `eni_id` is empty on an external host. `addresses` in the order of the state."""

    ifname: str
    vpc_id: str
    router_ifname: str
    addresses: tuple[Address, ...]
    prefixes: tuple[Prefix, ...] = ()
    eni_id: str = ""
    mac: str = ""

    def primary(self, family: Family) -> Address | None:
        """The first address of a family; None if there is none."""
        return next((address for address in self.addresses if address.family is family), None)

    @property
    def answers_to(self) -> tuple[Prefix, ...]:
        """Its addresses and delegated prefixes."""
        return tuple(Prefix.of(address) for address in self.addresses) + self.prefixes


@dataclass(frozen=True, slots=True)
class Node:
    """An instance or a host outside. `alias` is another name people may use for it (an instance's name)."""

    name: str
    kind: str
    netns: str
    interfaces: tuple[Interface, ...]
    alias: str = ""

    @property
    def is_instance(self) -> bool:
        return self.kind == "instance"


@dataclass(frozen=True, slots=True)
class Router:
    vpc_id: str
    netns: str


@dataclass(frozen=True, slots=True)
class Veth:
    """A link to make: the router's end and the node's; `mark` is the alias of both once it is finished."""

    router_netns: str
    router_ifname: str
    node_netns: str
    node_ifname: str
    mac: str
    mark: str


@dataclass(frozen=True, slots=True)
class NetnsPlan:
    """All that must be in one namespace besides its links."""

    netns: str
    mark: str
    role: str
    addresses: frozenset[InterfaceAddress]
    routes: frozenset[Route]
    rules: frozenset[RoutingRule] = frozenset()


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
    def router_of_vpc(self) -> dict[str, Router]:
        return {router.vpc_id: router for router in self.routers}

    @property
    def netns_names(self) -> tuple[str, ...]:
        return tuple(router.netns for router in self.routers) + tuple(node.netns for node in self.nodes)

    @cached_property
    def veths(self) -> tuple[Veth, ...]:
        return tuple(self._veth(node, interface) for node in self.nodes for interface in node.interfaces)

    def _veth(self, node: Node, interface: Interface) -> Veth:
        return Veth(
            router_netns=self.router_of_vpc[interface.vpc_id].netns,
            router_ifname=interface.router_ifname,
            node_netns=node.netns,
            node_ifname=interface.ifname,
            mac=interface.mac,
            mark=names.link_mark(node.name, interface.eni_id or interface.vpc_id),
        )

    @cached_property
    def plans(self) -> tuple[NetnsPlan, ...]:
        routers = tuple(router_plan(self, router) for router in self.routers)
        return routers + tuple(node_plan(self, node) for node in self.nodes)

    def ends_in(self, vpc_id: str) -> tuple[Interface, ...]:
        """The interfaces of all nodes on one VPC's router."""
        return tuple(end for node in self.nodes for end in node.interfaces if end.vpc_id == vpc_id)


def plan(lab: str, state: CloudState, externals: tuple[tuple[Address, ...], ...]) -> Topology:
    """The topology of a state. LabError if two things would get one name, or an id can't be one."""
    instances = tuple(_instance_node(lab, state, entry.instance_id) for entry in state.instances)
    hosts = tuple(_external_node(lab, state, addresses) for addresses in externals)
    routers = tuple(Router(vpc.vpc_id, names.netns_of(lab, vpc.vpc_id)) for vpc in state.vpcs)
    topology = Topology(lab, instances + hosts, routers)
    _check_unique("namespace", topology.netns_names)
    for router in routers:
        links = tuple(veth.router_ifname for veth in topology.veths if veth.router_netns == router.netns)
        _check_unique(f"interface in {router.netns}", links)
    _check_externals(state, topology)
    return topology


def _instance_node(lab: str, state: CloudState, instance_id: str) -> Node:
    interfaces = tuple(
        Interface(
            ifname=f"eth{index}",
            vpc_id=eni.vpc_id,
            router_ifname=names.router_ifname(eni.network_interface_id),
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
        Interface(f"eth{index}", vpc.vpc_id, names.router_ifname(f"{name}.link"), addresses)
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
            yield Route(interface.ifname, EVERYWHERE[family], GATEWAYS[family], source, table)
    for prefix in interface.prefixes:
        yield Route("lo", prefix, table=RT_TABLE_LOCAL, kind="local")


def _ways_in(topology: Topology, node: Node) -> Iterator[Route]:
    """From a host outside of several VPCs to each instance: what two VPCs both have is the first one's, unless a socket
    is bound to the other's interface."""
    taken: set[Prefix] = set()
    for interface in node.interfaces:
        for end in topology.ends_in(interface.vpc_id):
            for prefix in end.answers_to if end.eni_id else ():
                source = interface.primary(prefix.family)
                if source is not None and prefix not in taken:
                    taken.add(prefix)
                    yield Route(interface.ifname, prefix, GATEWAYS[prefix.family], source)


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


def router_plan(topology: Topology, router: Router) -> NetnsPlan:
    """The gateway on every link, and the way to every address."""
    ends = topology.ends_in(router.vpc_id)
    return NetnsPlan(
        netns=router.netns,
        mark=names.namespace_mark(topology.lab, router.vpc_id),
        role="router",
        addresses=frozenset(
            InterfaceAddress(end.router_ifname, gateway, length)
            for end in ends
            for gateway, length in ((GATEWAY_IPV4, 32), (GATEWAY_IPV6, 64))
        ),
        routes=frozenset(route for end in ends for route in _router_routes(end)),
    )


def _router_routes(end: Interface) -> Iterator[Route]:
    """Addresses are on the link and answer ARP or ND; delegated prefixes are behind the interface."""
    for address in end.addresses:
        yield Route(end.router_ifname, Prefix.of(address))
    for prefix in end.prefixes:
        gateway = end.primary(prefix.family) if prefix.family is Family.IPV4 else link_local(end.mac)
        yield Route(end.router_ifname, prefix, gateway)


def link_local(mac: str) -> Address:
    """The address that an interface of that MAC gives itself (RFC 4291, appendix A)."""
    octets = bytes(int(part, 16) for part in mac.split(":"))
    host = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return Address.parse(str(IPv6Address(b"\xfe\x80" + bytes(6) + host)))

"""Which ends of a lab can probe each other, and which of them a name stands for.

Owns the way from nodes and names to ends. Is given a lab. Must not send anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sgdataplane.errors import LabError
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.parts import Interface, LabNode, Router, RouterPath
from sgdataplane.lab.probe import Probe, ProbeEnd, Service
from sgdataplane.model.options import Placement
from sgdataplane.net.values import ICMP, ICMPV6, Address, Family


def in_family(service: Service, family: Family) -> Service:
    """The echo protocol is each family's own."""
    if service.protocol in (ICMP, ICMPV6):
        return Service(ICMP if family is Family.IPV4 else ICMPV6)
    return service


def pairs_of_ends(sender: LabNode, receiver: LabNode) -> Iterator[tuple[ProbeEnd, ProbeEnd]]:
    """The primary addresses of each two interfaces that meet at one VPC's router, for each family both have."""
    for near in sender.interfaces:
        for far in receiver.interfaces:
            for family in Family:
                source, target = end_of(sender, near, family), end_of(receiver, far, family)
                if source and target and near.vpc_id == far.vpc_id:
                    yield source, target


def end_of(node: LabNode, interface: Interface, family: Family) -> ProbeEnd | None:
    """The interface's primary address of that family as an end; None if it has none."""
    address = interface.primary(family)
    if address is None:
        return None
    return ProbeEnd(node.name, interface.ifname, address, interface.eni_id, device_of(node, interface))


def device_of(node: LabNode, interface: Interface) -> str:
    """The interface that a sender must bind to; empty where its address says which way to go."""
    return interface.ifname if not node.is_instance and len(node.interfaces) > 1 else ""


def path_between(lab: Lab, source: ProbeEnd, target: ProbeEnd) -> RouterPath | None:
    """The routers that enforce policy between two ends; None where the nodes do."""
    if lab.placement is not Placement.HOST:
        return None
    return RouterPath(_router_of(lab, source), _router_of(lab, target))


def watched_routers(lab: Lab) -> tuple[Router, ...]:
    """Those that enforce policy."""
    return lab.topology.routers if lab.placement is Placement.HOST else ()


def _router_of(lab: Lab, end: ProbeEnd) -> Router:
    node = lab.topology.node[end.node]
    return lab.topology.router_of(node, next(i for i in node.interfaces if i.ifname == end.ifname))


@dataclass(frozen=True, slots=True)
class Asked:
    """A probe as a person asks for it; an end is a node, an instance's name, ENI or address; `source_port` 0: any."""

    sender: str
    receiver: str
    service: Service
    source_port: int = 0


def find_probes(lab: Lab, asked: Asked) -> tuple[Probe, ...]:
    """What was asked for: one probe for each family that both ends have, at least one.

    A node stands for its first interface that meets the other end's. LabError if there is no way between the two.
    """
    senders, receivers = find_ends(lab, asked.sender), find_ends(lab, asked.receiver)
    if not 0 <= asked.source_port <= 65535:
        raise LabError(f"source port {asked.source_port}", "it must be 1..65535, or 0 for any")
    pairs: dict[Family, tuple[ProbeEnd, ProbeEnd]] = {}
    for near, source in senders:
        for far, target in receivers:
            if can_meet(lab, (near, source), (far, target)):
                pairs.setdefault(source.address.family, (source, target))
    if not pairs:
        why = "they share no VPC and address family, or both are one node or outside; nothing would go over a wire"
        raise LabError(f"probe {asked.sender} -> {asked.receiver}", why)
    return tuple(Probe(*ends, in_family(asked.service, family), asked.source_port) for family, ends in pairs.items())


def can_meet(lab: Lab, near: tuple[Interface, ProbeEnd], far: tuple[Interface, ProbeEnd]) -> bool:
    """Two nodes, one VPC, one family, and at least one end with a policy."""
    nodes = (lab.topology.node[near[1].node], lab.topology.node[far[1].node])
    return (
        nodes[0] is not nodes[1]
        and any(node.is_instance for node in nodes)
        and near[0].vpc_id == far[0].vpc_id
        and near[1].address.family is far[1].address.family
    )


def find_ends(lab: Lab, name: str) -> tuple[tuple[Interface, ProbeEnd], ...]:
    """The ends that a name stands for, with their interfaces. LabError if nothing has that name or address."""
    address = _as_address(name)
    if address is not None:
        found = tuple(_ends_at(lab, address))
    elif name in lab.state.eni:
        found = tuple(pair for pair in _all_ends(lab.topology.nodes) if pair[0].eni_id == name)
    else:
        found = tuple(_all_ends((lab.find_node(name),)))
    if not found:
        raise LabError(f"end {name!r}", "no node of this lab has it; `sgdp lab status` shows what there is")
    return found


def _as_address(name: str) -> Address | None:
    try:
        return Address.parse(name)
    except ValueError:
        return None


def _all_ends(nodes: Iterable[LabNode]) -> Iterator[tuple[Interface, ProbeEnd]]:
    for node in nodes:
        for interface in node.interfaces:
            for family in Family:
                end = end_of(node, interface, family)
                if end is not None:
                    yield interface, end


def _ends_at(lab: Lab, address: Address) -> Iterator[tuple[Interface, ProbeEnd]]:
    """Interfaces that answer to an address; several where VPCs use the same ones."""
    for node in lab.topology.nodes:
        for interface in node.interfaces:
            if address in interface.addresses or any(address in prefix for prefix in interface.prefixes):
                yield (
                    interface,
                    ProbeEnd(node.name, interface.ifname, address, interface.eni_id, device_of(node, interface)),
                )

"""The ends of a lab: which ones can probe each other, and which ones a name stands for.

Owns the way from names and nodes to ends. It is given a lab. Must not send anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from sgdataplane.errors import LabError
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.parts import Endpoint, LabNode, Router, RouterPath
from sgdataplane.lab.probe import Probe, ProbeEnd, Service
from sgdataplane.model.options import Placement
from sgdataplane.net.values import ICMP, ICMPV6, Address, Family

NOTHING = "nothing would go over a wire"
# What somebody who writes this means for an address: digits and dots alone, or a colon, which no name has.
LIKE_ADDRESS = re.compile(r"[0-9]+(\.[0-9]+)+|.*:.*")


@dataclass(frozen=True, slots=True)
class Asked:
    """A probe as a person asks for it."""

    sender: str
    """A node, an instance's name, an ENI or an address."""
    receiver: str
    """The other end, in the same words."""
    service: Service
    source_port: int = 0
    """The source port to send from; 0 for any free one."""


def find_probes(lab: Lab, asked: Asked) -> tuple[Probe, ...]:
    """Return the probes that were asked for: one for each family that both ends have, at least one.

    A node stands for its first interface that meets the other end's.

    Raises:
        LabError: An end is unknown, there is no way between the two, or the source port isn't a port.
    """
    senders, receivers = find_ends(lab, asked.sender), find_ends(lab, asked.receiver)
    if not 0 <= asked.source_port <= 65535:
        raise LabError(f"source port {asked.source_port}", "it must be 1..65535, or 0 for any")
    pairs: dict[Family, tuple[ProbeEnd, ProbeEnd]] = {}
    for source, target in product(senders, receivers):
        if _can_meet(source, target):
            pairs.setdefault(source.address.family, (probe_end(source), probe_end(target)))
    if not pairs:
        why = _apart(senders, receivers)
        raise LabError(f"{asked.sender} -> {asked.receiver}", why if lab.is_planned else f"{why}; {NOTHING}")
    return tuple(Probe(*ends, in_family(asked.service, family), asked.source_port) for family, ends in pairs.items())


def _apart(senders: Iterable[Endpoint], receivers: Iterable[Endpoint]) -> str:
    """Explain why no two of these ends can meet."""
    nodes = {end.node.name: end.node for end in (*senders, *receivers)}
    if len(nodes) == 1:
        return "both ends are the same, and what it sends to itself passes no ENI"
    if not any(node.is_instance for node in nodes.values()):
        return "both are outside every VPC, where no policy applies"
    return "they share no VPC and address family"


def _can_meet(source: Endpoint, target: Endpoint) -> bool:
    """Return whether packets between two ends pass a policy.

    That is so for two nodes in one VPC, with addresses of one family, at least one of them an instance.
    """
    return (
        source.node is not target.node
        and (source.node.is_instance or target.node.is_instance)
        and source.interface.vpc_id == target.interface.vpc_id
        and source.address.family is target.address.family
    )


def find_ends(lab: Lab, name: str) -> tuple[Endpoint, ...]:
    """Return the ends that a name or an address stands for.

    Raises:
        LabError: Nothing in the lab has it.
    """
    try:
        found = tuple(_ends_at(lab, Address.parse(name)))
    except ValueError:
        if LIKE_ADDRESS.fullmatch(name):
            raise LabError(f"end {name!r}", "not a valid IP address") from None
        found = tuple(_ends_named(lab, name))
    if not found and lab.is_planned:
        raise LabError(f"end {name!r}", "it is in a VPC's block, and no ENI of the state has it")
    if not found:
        raise LabError(f"end {name!r}", "no node of this lab has it; `sgdp lab status` shows what there is")
    return found


def _ends_at(lab: Lab, address: Address) -> Iterator[Endpoint]:
    """Yield the interfaces that answer to an address; several where VPCs use the same addresses."""
    for node in lab.topology.nodes:
        for interface in node.interfaces:
            if any(address in prefix for prefix in interface.answers_to):
                yield Endpoint(node, interface, address)


def _ends_named(lab: Lab, name: str) -> Iterable[Endpoint]:
    """Return the primary ends of an ENI, a node or an instance's name."""
    if name in lab.state.eni:
        return (end for node in lab.topology.nodes for end in _primary_ends(node) if end.interface.eni_id == name)
    return _primary_ends(lab.find_node(name))


def _primary_ends(node: LabNode) -> Iterator[Endpoint]:
    """Yield the primary address of each family at each interface."""
    for interface in node.interfaces:
        for family in Family:
            address = interface.primary(family)
            if address is not None:
                yield Endpoint(node, interface, address)


def pairs_of_ends(sender: LabNode, receiver: LabNode) -> Iterator[tuple[ProbeEnd, ProbeEnd]]:
    """Yield the primary addresses of each two interfaces in one VPC, for each family that both have."""
    for near, far in product(sender.interfaces, receiver.interfaces):
        for family in Family if near.vpc_id == far.vpc_id else ():
            source, target = near.primary(family), far.primary(family)
            if source and target:
                yield probe_end(Endpoint(sender, near, source)), probe_end(Endpoint(receiver, far, target))


def probe_end(end: Endpoint) -> ProbeEnd:
    """Return the end as a probe has it.

    A host outside with links to several VPCs must bind to its interface, because its address alone doesn't say which
    way to go.
    """
    node, interface = end.node, end.interface
    device = interface.ifname if not node.is_instance and len(node.interfaces) > 1 else ""
    return ProbeEnd(node.name, interface.ifname, end.address, interface.eni_id, device)


def in_family(service: Service, family: Family) -> Service:
    """Return the same service in a family: each family has an echo protocol of its own."""
    if service.protocol in (ICMP, ICMPV6):
        return Service(ICMP if family is Family.IPV4 else ICMPV6)
    return service


def path_between(lab: Lab, source: ProbeEnd, target: ProbeEnd) -> RouterPath | None:
    """Return the routers that enforce policy between two ends; None where the nodes enforce it."""
    if lab.placement is not Placement.HOST:
        return None
    return RouterPath(_router_of(lab, source), _router_of(lab, target))


def list_watched_routers(lab: Lab) -> tuple[Router, ...]:
    """Return the routers that enforce policy; none unless the placement is `host`."""
    return lab.topology.routers if lab.placement is Placement.HOST else ()


def _router_of(lab: Lab, end: ProbeEnd) -> Router:
    node = lab.topology.node[end.node]
    return lab.topology.router_of(node, next(i for i in node.interfaces if i.ifname == end.ifname))

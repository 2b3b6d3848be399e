"""Every pair of ends and every service asked for, probed at once and compared with what policy says.

Owns which probes make a matrix, and their running side by side. Is given a lab. Must not judge a probe.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack

from sgdataplane.errors import LabError
from sgdataplane.lab.expect import Cell, expect
from sgdataplane.lab.fleet import Fleet, run_fleet
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.probe import End, Probe, Service, observe
from sgdataplane.lab.topology import Interface, Node
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import ICMP, ICMPV6, TCP, UDP, Family, PortRange, Protocol

AT_ONCE = 64
EVERY_PORT = PortRange(1, 65535)
MOST_PORTS = 12  # of those that the rules name, for a matrix that wasn't told which
EXTENSION_HEADERS = (0, 43, 44, 51, 60)  # not the protocol of a packet but of what comes before it (RFC 8200)


def parse_services(text: str) -> tuple[Service, ...]:
    """Services from e.g. `tcp/22,udp/53,icmp,gre`; `icmp` is an echo of each pair's family. LabError if malformed."""
    return tuple(dict.fromkeys(parse_service(part.strip()) for part in text.split(",") if part.strip()))


def parse_service(text: str) -> Service:
    """One of them."""
    name, slash, port = text.partition("/")
    try:
        protocol = Protocol.parse(name)
    except ValueError as error:
        raise LabError(f"service {text!r}", str(error)) from error
    if protocol.is_all or protocol.number in EXTENSION_HEADERS:
        raise LabError(f"service {text!r}", "a probe is of one transport protocol, e.g. tcp/22, udp/53, icmp, gre, 132")
    if protocol.has_ports != bool(slash):
        raise LabError(f"service {text!r}", "tcp and udp take a port (tcp/22), other protocols none")
    return Service(protocol.number, parse_port(port, text) if slash else 0)


def parse_port(port: str, text: str) -> int:
    """A port that can be listened on."""
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise LabError(f"service {text!r}", "the port must be 1..65535")
    return int(port)


def default_services(state: CloudState) -> tuple[Service, ...]:
    """What the state's rules speak of: the first port of each range, echo, and SSH and DNS if room is left."""
    ranges = {
        (rule.ip_protocol.number, entry.first)
        for group in state.security_groups
        for rule in group.rules
        for entry in (rule.port_range,)
        if entry is not None and entry != EVERY_PORT
    }
    usual = [Service(TCP, 22), Service(UDP, 53)]
    named = [Service(number, port) for number, port in sorted(ranges) if number in (TCP, UDP)]
    return (*sorted(dict.fromkeys((named + usual)[:MOST_PORTS]), key=_order), Service(ICMP))


def _order(service: Service) -> tuple[int, int]:
    return service.protocol, service.port


def in_family(service: Service, family: Family) -> Service:
    """The echo protocol is each family's own."""
    if service.protocol in (ICMP, ICMPV6):
        return Service(ICMP if family is Family.IPV4 else ICMPV6)
    return service


def matrix_probes(nodes: Iterable[Node], services: Iterable[Service]) -> tuple[Probe, ...]:
    """All probes between nodes that can reach each other, by sender, receiver, ends, family and service."""
    wanted, asked = tuple(nodes), tuple(services)
    return tuple(
        Probe(source, target, service)
        for sender in wanted
        for receiver in wanted
        if sender is not receiver and (sender.is_instance or receiver.is_instance)
        for source, target in pairs_of_ends(sender, receiver)
        for service in dict.fromkeys(in_family(service, source.address.family) for service in asked)
    )


def pairs_of_ends(sender: Node, receiver: Node) -> Iterator[tuple[End, End]]:
    """The primary addresses of each two interfaces that meet at one VPC's router, for each family both have."""
    for near in sender.interfaces:
        for far in receiver.interfaces:
            for family in Family:
                source, target = end_of(sender, near, family), end_of(receiver, far, family)
                if source and target and near.vpc_id == far.vpc_id:
                    yield source, target


def end_of(node: Node, interface: Interface, family: Family) -> End | None:
    """The interface's primary address of that family as an end; None if it has none. A host outside with the same
    addresses on several interfaces binds to the one it means."""
    address = interface.primary(family)
    if address is None:
        return None
    device = interface.ifname if not node.is_instance and len(node.interfaces) > 1 else ""
    return End(node.name, interface.ifname, address, interface.eni_id, device)


async def run_probes(lab: Lab, probes: Iterable[Probe], on_done: Callable[[Cell], None] | None = None) -> list[Cell]:
    """Run probes side by side in a running lab; the cells in the probes' order."""
    ordered = tuple(probes)
    taking_part = {end.node for probe in ordered for end in (probe.source, probe.target)}
    nodes = tuple(node for node in lab.topology.nodes if node.name in taking_part)
    async with run_fleet(nodes) as fleet:
        runner = Runner(lab, fleet, on_done)
        tasks = [asyncio.create_task(runner.run(probe)) for probe in ordered]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class Runner:
    """Runs probes with bounded concurrency; those that conntrack could take for one another one by one."""

    def __init__(self, lab: Lab, fleet: Fleet, on_done: Callable[[Cell], None] | None = None) -> None:
        self._lab, self._fleet, self._on_done = lab, fleet, on_done
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._pairs: defaultdict[object, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def run(self, probe: Probe) -> Cell:
        """One probe, observed and compared."""
        async with AsyncExitStack() as stack:
            if probe.is_tuple_reused:
                await stack.enter_async_context(self._pairs[probe.pair])
            await stack.enter_async_context(self._slots)
            observed = await observe(self._fleet, probe)
        expected = expect(self._lab.state, probe, observed.source_port or probe.source_port, self._lab.options)
        cell = Cell(probe, expected, observed)
        if self._on_done is not None:
            self._on_done(cell)
        return cell

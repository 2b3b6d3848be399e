"""The nodes of a lab that stand for the addresses of a capture.

Owns the mapping, and the reasons why a pair of addresses has no place in the lab. It is given a lab and the user's
mapping. Must not do I/O.

    --map IP=NODE          the node or ENI, with its primary address of that family; if NODE is an address, with that
    an ENI's address       the node that has it, unchanged
    any other              outside every VPC: the lab's host outside, unchanged (in a lab that was there before: only
                           if one of its hosts outside has that address)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sgdataplane.errors import LabError
from sgdataplane.lab.ends import find_ends
from sgdataplane.lab.manage import Lab
from sgdataplane.lab.parts import Endpoint
from sgdataplane.lab.replay.flows import Report
from sgdataplane.lab.replay.packets import LINK_ONLY, Unfit
from sgdataplane.model.always import LINK_LOCAL, MULTICAST, SHARED
from sgdataplane.net.values import Address, Prefix

LINK_SCOPE = (*(prefix for family in SHARED.values() for prefix in family), MULTICAST, LINK_LOCAL)
LINK_SCOPE_IPV4 = Prefix.parse("169.254.0.0/16")
NOWHERE = (Prefix.parse("127.0.0.0/8"), Prefix.parse("::1"), Prefix.parse("0.0.0.0/8"), Prefix.parse("::"))
MAX_REMEMBERED = 65_536


@dataclass(frozen=True, slots=True)
class Mapping:
    """The user's choice of nodes for addresses."""

    mapped: dict[Address, str]
    """The user's --map: address -> node, ENI or address."""
    everybody: str = ""
    """The node that stands for all addresses outside; empty if none does."""


class Endpoints:
    """A finder of the endpoints of addresses, which remembers them for the report.

    Raises:
        LabError: The mapping names something that the lab doesn't have.
    """

    def __init__(self, lab: Lab, mapping: Mapping) -> None:
        self._lab, self._everybody = lab, mapping.everybody
        self._own = dict(_group_by_address(lab))
        self._delegated = tuple(_list_delegated(lab))
        self._mapped = {address: self._find_mapped_endpoint(address, name) for address, name in mapping.mapped.items()}
        self._found: dict[Address, Endpoint | str] = {}
        self._met: dict[Address, Endpoint] = {}

    def pair(self, source: Address, target: Address) -> tuple[Endpoint, Endpoint]:
        """Return both ends of a packet, at interfaces in one VPC. Unfit if the lab has no way between them."""
        near, far = self._end(source), self._end(target)
        if not near.node.is_instance and not far.node.is_instance:
            raise Unfit("both ends are outside: no policy between them (--map IP=NODE says who is in the lab)")
        if near.node is far.node:
            raise Unfit("both ends are one node")
        near, far = _at(near, far.interface.vpc_id), _at(far, near.interface.vpc_id)
        if near.interface.vpc_id != far.interface.vpc_id:
            raise Unfit("its ends are in two VPCs, which nothing connects")
        self._remember(source, near)
        self._remember(target, far)
        return near, far

    def translate(self, address: Address) -> Address:
        """Return the lab's address for an address of the capture; itself if it has none."""
        try:
            return self._end(address).address
        except Unfit:
            return address

    def tell(self, report: Report) -> None:
        """Add to the report which node stood for which address."""
        for address, end in sorted(self._met.items()):
            if address in self._mapped or end.node.name != self._everybody:
                report.mapped[str(address)] = (end.node.name, str(end.address))
            else:
                report.outside += 1

    def _remember(self, address: Address, end: Endpoint) -> None:
        if len(self._met) < MAX_REMEMBERED:
            self._met[address] = end

    def _end(self, address: Address) -> Endpoint:
        """Return the endpoint of an address; it is looked up once. Unfit if there is none."""
        found = self._found.get(address)
        if found is None:
            found = self._find(address)
            if len(self._found) < MAX_REMEMBERED:
                self._found[address] = found
        if isinstance(found, str):
            raise Unfit(found)
        return found

    def _find(self, address: Address) -> Endpoint | str:
        """Return the endpoint of an address, or the reason why there is none."""
        if address in self._mapped:
            return self._mapped[address]
        if address in LINK_SCOPE_IPV4 or any(address in prefix for prefix in LINK_SCOPE):
            return LINK_ONLY
        if any(address in prefix for prefix in NOWHERE):
            return "no address of a host: unspecified or loopback"
        return self._locate(address)

    def _locate(self, address: Address) -> Endpoint | str:
        """Return the endpoint that an address of the lab belongs to, or the reason why there is none."""
        owners = self._own.get(address, ()) or tuple(end for prefix, end in self._delegated if address in prefix)
        if len({end.node.name for end in owners}) > 1:
            return f"{address} belongs to several nodes: --map {address}=NODE says which"
        if owners:
            return Endpoint(owners[0].node, owners[0].interface, address)
        vpc = next((v for v in self._lab.state.vpcs if any(address in block for block in v.cidr_blocks)), None)
        if vpc is not None:
            return f"{address} is in {vpc.vpc_id}, and no instance has it: --map {address}=NODE says who does"
        if not self._everybody:
            return "outside, and no node of this lab has the address: --map IP=NODE"
        node = self._lab.topology.node[self._everybody]
        return Endpoint(node, node.interfaces[0], address)

    def _find_mapped_endpoint(self, address: Address, name: str) -> Endpoint:
        """Return the endpoint that the user maps an address to. LabError if there is none."""
        option = f"--map {address}={name}"
        try:
            wanted = Address.parse(name)
        except ValueError:
            return self._find_named(option, name, address)
        if wanted.family is not address.family:
            raise LabError(option, "the two are of different families")
        found = self._locate(wanted)
        if isinstance(found, str):
            raise LabError(option, found)
        return found

    def _find_named(self, option: str, name: str, address: Address) -> Endpoint:
        found = next((end for end in find_ends(self._lab, name) if end.address.family is address.family), None)
        if found is None:
            raise LabError(option, f"{name} has no {address.family.value} address")
        return found


def _at(end: Endpoint, vpc_id: str) -> Endpoint:
    """Return the end at its interface in that VPC: a host outside has the same addresses in each."""
    if end.node.is_instance:
        return end
    interface = next((i for i in end.node.interfaces if i.vpc_id == vpc_id), end.interface)
    return Endpoint(end.node, interface, end.address)


def _group_by_address(lab: Lab) -> Iterable[tuple[Address, tuple[Endpoint, ...]]]:
    """Return the endpoints that have each address; several where VPCs use the same addresses."""
    found: dict[Address, tuple[Endpoint, ...]] = {}
    for node in lab.topology.nodes:
        for interface in node.interfaces if node.is_instance else node.interfaces[:1]:
            for address in interface.addresses:
                found[address] = (*found.get(address, ()), Endpoint(node, interface, address))
    return found.items()


def _list_delegated(lab: Lab) -> Iterable[tuple[Prefix, Endpoint]]:
    """Yield each delegated prefix with the endpoint that it is routed to."""
    for node in lab.topology.nodes:
        for interface in node.interfaces:
            for prefix in interface.prefixes:
                yield prefix, Endpoint(node, interface, interface.addresses[0])


def parse_maps(texts: Iterable[str]) -> dict[Address, str]:
    """Parse `IP=NODE` as a user writes it. LabError if it is malformed, or an address is mapped twice."""
    found: dict[Address, str] = {}
    for text in texts:
        left, equals, name = text.partition("=")
        try:
            address = Address.parse(left)
        except ValueError:
            raise LabError(f"--map {text}", f"{left!r} is not an IP address; expected IP=NODE") from None
        if not equals or not name:
            raise LabError(f"--map {text}", "IP=NODE is expected")
        if address in found:
            raise LabError(f"--map {text}", f"{address} is mapped twice, also to {found[address]}")
        found[address] = name
    return found

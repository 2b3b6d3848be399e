"""The parts of a lab as plain records: interfaces, nodes, routers, links and namespaces; and their names.

Owns the records and every name that a lab gives, including the marks by which a lost lab is found again. Must not do
I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sgdataplane.errors import LabError
from sgdataplane.host.links import InterfaceAddress, Route, RoutingRule
from sgdataplane.net.values import Address, Family, Prefix

LAB_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")
ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,127}")  # with a lab's name in front, netns.NAME allows it
MARK = "sgdataplane-lab"


def check_lab_name(name: str) -> str:
    """Return the name. LabError if it can't be a lab's."""
    if not LAB_NAME.fullmatch(name):
        raise LabError(f"lab name {name!r}", "use 1 to 32 of a-z 0-9 _ . - and begin with a letter or digit")
    return name


def netns_of(lab: str, node: str) -> str:
    """Return the name of the namespace of an instance, a router or a host outside.

    Raises:
        LabError: The id can't be part of a file name.
    """
    if not ID.fullmatch(node):
        raise LabError(f"id {node!r}", "a lab makes namespaces of ids: use 1 to 128 letters, digits and _ . : + -")
    return f"{lab}-{node}"


def router_name(vpc_id: str, host: int) -> str:
    """Return the name of a VPC's router on one of the lab's hosts, which count from 1."""
    return vpc_id if host == 1 else f"{vpc_id}.host{host}"


def uplink_ifname(host: int) -> str:
    """Return the name of a router's interface that leads to another host."""
    return f"host{host}"


def external_node(address: Address) -> str:
    """Return the name of a host outside: `ext-198.51.100.7`, `ext-2001-db8-ffff--7`.

    Colons become hyphens, because some file systems allow no colon.
    """
    return "ext-" + str(address).replace(":", "-")


def namespace_mark(lab: str, node: str) -> str:
    """Return the mark of each namespace of a lab: the alias of its loopback."""
    return f"{MARK} lab={lab} node={node}"


def lab_of_mark(alias: str) -> str | None:
    """Return the lab that a loopback's alias names; None if it isn't a lab's mark."""
    match = re.fullmatch(rf"{MARK} lab=(\S+) node=\S+", alias)
    return match[1] if match else None


def link_mark(node: str, key: str) -> str:
    """Return the alias of both ends of a finished link."""
    return f"{MARK} node={node} link={key}"


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface of a node."""

    ifname: str
    vpc_id: str
    router_ifname: str
    """The name of the other end, in the router."""
    addresses: tuple[Address, ...]
    """In the order of the state."""
    prefixes: tuple[Prefix, ...] = ()
    """Delegated prefixes, which are routed to the node and on no interface."""
    eni_id: str = ""
    """Empty on a host outside."""
    mac: str = ""
    """Empty on a host outside."""

    def primary(self, family: Family) -> Address | None:
        """Return the first address of a family; None if there is none."""
        return next((address for address in self.addresses if address.family is family), None)

    @property
    def answers_to(self) -> tuple[Prefix, ...]:
        """Its addresses and delegated prefixes."""
        return tuple(Prefix.of(address) for address in self.addresses) + self.prefixes


@dataclass(frozen=True, slots=True)
class LabNode:
    """An instance or a host outside."""

    name: str
    kind: str
    """`instance` or `external`."""
    netns: str
    interfaces: tuple[Interface, ...]
    alias: str = ""
    """Another name that people may use for it: the instance's name."""
    host: int = 1
    """The host on which its links end, from 1."""

    @property
    def is_instance(self) -> bool:
        """Whether it is an instance, and no host outside."""
        return self.kind == "instance"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address at an interface of a node."""

    node: LabNode
    interface: Interface
    address: Address


@dataclass(frozen=True, slots=True)
class Router:
    """The router that joins a VPC's links on one host."""

    vpc_id: str
    netns: str
    host: int = 1

    @property
    def name(self) -> str:
        """The VPC's id, with the host from the second one on; unique in the lab."""
        return router_name(self.vpc_id, self.host)

    @property
    def process(self) -> str:
        """The name of its process in a fleet. It can't be a node's name, because those have no space."""
        return f"router {self.name}"


@dataclass(frozen=True, slots=True)
class RouterPath:
    """The routers at the sender's and the receiver's links: the same one, or two if the ends are on two hosts."""

    sender: Router
    receiver: Router

    @property
    def processes(self) -> tuple[str, ...]:
        """The names of the routers' processes in a fleet, each once."""
        return tuple(dict.fromkeys((self.sender.process, self.receiver.process)))


@dataclass(frozen=True, slots=True)
class Veth:
    """A link to make, between a router and a node or another router."""

    router_netns: str
    router_ifname: str
    node_netns: str
    node_ifname: str
    mac: str
    """The MAC of the second end; empty if the kernel chooses it."""
    mark: str
    """The alias of both ends once the link is finished."""

    @property
    def ends(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Namespace and interface of both ends."""
        return (self.router_netns, self.router_ifname), (self.node_netns, self.node_ifname)


@dataclass(frozen=True, slots=True)
class NetnsPlan:
    """Everything that must be in one namespace besides its links."""

    netns: str
    mark: str
    """The loopback's alias."""
    role: str
    """Which sysctls it gets: a key of build.SYSCTLS."""
    addresses: frozenset[InterfaceAddress]
    routes: frozenset[Route]
    rules: frozenset[RoutingRule] = frozenset()

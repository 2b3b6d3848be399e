"""What a lab is made of, as plain records: interfaces, nodes, routers, links, and what is in a namespace.

Owns the records. Must not know how they come about.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.host.links import InterfaceAddress, Route, RoutingRule
from sgdataplane.lab import names
from sgdataplane.net.values import Address, Family, Prefix


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
    """An instance or a host outside. `alias` is another name people may use for it (an instance's name). `host`: on
    which of the lab's hosts its links end, from 1."""

    name: str
    kind: str
    netns: str
    interfaces: tuple[Interface, ...]
    alias: str = ""
    host: int = 1

    @property
    def is_instance(self) -> bool:
        return self.kind == "instance"


@dataclass(frozen=True, slots=True)
class Router:
    """What joins a VPC's links on one host. `name` is unique in the lab."""

    vpc_id: str
    netns: str
    host: int = 1

    @property
    def name(self) -> str:
        return names.router_name(self.vpc_id, self.host)

    @property
    def agent(self) -> str:
        """What a fleet calls its process; no node's id has a space."""
        return f"router {self.name}"


@dataclass(frozen=True, slots=True)
class Veth:
    """A link to make: the router's end, and the node's or another router's, which has that MAC if one is given; `mark`
    is the alias of both once it is finished."""

    router_netns: str
    router_ifname: str
    node_netns: str
    node_ifname: str
    mac: str
    mark: str

    @property
    def ends(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Namespace and interface, twice."""
        return (self.router_netns, self.router_ifname), (self.node_netns, self.node_ifname)


@dataclass(frozen=True, slots=True)
class NetnsPlan:
    """All that must be in one namespace besides its links."""

    netns: str
    mark: str
    role: str
    addresses: frozenset[InterfaceAddress]
    routes: frozenset[Route]
    rules: frozenset[RoutingRule] = frozenset()

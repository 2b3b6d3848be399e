"""Interfaces, addresses, routes and routing rules of one network namespace, through netlink.

Owns the access to rtnetlink. Its input is a namespace's name and plain values; it returns plain values. Must not know
labs, clouds or policy.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self, TypeVar

from sgdataplane.errors import HostError
from sgdataplane.host import netns
from sgdataplane.host.linkentry import Link, LinkChanges, link_of
from sgdataplane.host.rtnetlink import Entry, Rtnetlink
from sgdataplane.net.values import Address, Family, Prefix

AF = {Family.IPV4: 2, Family.IPV6: 10}
FAMILIES = {number: family for family, number in AF.items()}
RTPROT_OURS = 71  # marks routes and rules as ours; unassigned in linux/rtnetlink.h
RTPROT_STATIC = 4  # routes of an administrator
AHEAD = 24, 0x1 | 0x4 | 0x400  # RTM_NEWROUTE; NLM_F_REQUEST, _ACK, _CREATE: `ip route prepend`
IPV6_METRIC = 256  # the kernel's own for networks on a link; others have 1024
RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255
RTN_TYPES = {"unicast": 1, "local": 2}
RT_SCOPE_HOST = 254
RTNH_F_ONLINK = 4
IFA_F_NODAD = 2
# IFA_*, linux/if_addr.h
ADDRESS, LOCAL_ADDRESS = 1, 2
ADDR_GEN_MODE_NONE = 1  # linux/if_link.h


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address on an interface with the prefix length of its subnet."""

    ifname: str
    address: Address
    length: int


@dataclass(frozen=True, slots=True)
class Route:
    """A route."""

    ifname: str
    destination: Prefix
    gateway: Address | None = None  # None: the destination is on the link. It need not be in any subnet (onlink)
    source: Address | None = None
    table: int = RT_TABLE_MAIN
    kind: str = "unicast"


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """A rule to use `table` for some packets."""

    family: Family
    priority: int
    table: int
    source: Prefix | None = None  # packets from these addresses; None: any
    mark: int = 0  # packets with this packet mark; 0: any
    bound_to: str = ""  # packets of sockets that are bound to this interface; "": any


class NetlinkMessage(Protocol):
    """A message as pyroute2 hands it over: header fields by key, attributes by name."""

    def __getitem__(self, field: str) -> Any: ...  # noqa: ANN401  # untyped upstream

    def get_attr(self, name: str) -> Any:  # noqa: ANN401
        """Return an attribute's value; None if the message hasn't it."""


T = TypeVar("T")


class Links:
    """rtnetlink in one namespace. Errors are HostError and name the namespace and the object.

    Args:
        name: The namespace. It has to lead there until the first call that changes something or reads more than links
            and addresses.
        protocol: Whose routes and rules these are; all others are neither seen nor touched.
        pinned: The indices of some interfaces. What is asked for by these names means these interfaces, whatever they
            are called now.
    """

    def __init__(self, name: str, protocol: int = RTPROT_OURS, pinned: Mapping[str, int] | None = None) -> None:
        self.name, self._protocol, self._pinned = name, protocol, pinned or {}
        with netns.inside(name):
            self._reader = Rtnetlink()  # the socket stays bound to the namespace

    @cached_property
    def _netlink(self) -> Any:  # noqa: ANN401  # untyped upstream
        """pyroute2's socket, which is opened on first use, since that takes longer than reading all links."""
        with netns.inside(self.name):
            from pyroute2 import IPRoute  # noqa: PLC0415  # Linux only, and slow to import

            return IPRoute()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        if "_netlink" in self.__dict__:
            self._netlink.close()

    # interfaces

    def links(self) -> tuple[Link, ...]:
        """Return all interfaces, loopback included."""
        with self._map_errors("list interfaces"):
            return tuple(link_of(entry) for entry in self._reader.links())

    def link(self, ifname: str) -> Link | None:
        """Return the interface of that name; None if there is none."""
        with self._map_errors(f"find {ifname}"):
            entry = self._reader.link(self._pinned.get(ifname, ifname))
            return None if entry is None else link_of(entry)

    def link_at(self, index: int) -> Link | None:
        """Return the interface with that index; None if there is none."""
        with self._map_errors(f"find interface {index}"):
            entry = self._reader.link(index)
            return None if entry is None else link_of(entry)

    @property
    def by_number(self) -> LinkChanges:
        """Changes to interfaces by their index. Errors are OSError."""
        return LinkChanges(self._reader)

    def number_of(self, path: str) -> int:
        """Return the number that the namespace at `path` has in this one; -1 if it has none."""
        with self._map_errors(f"number of {path}"), netns.open_fd(path) as fd:
            return int(self._netlink.get_netnsid(fd=fd)["nsid"])

    def add_veth(self, ifname: str, peer_netns: str, peer_ifname: str, peer_mac: str) -> None:
        """Make a veth pair directly in this namespace and the peer's, both ends down: no packet can pass yet."""
        with self._map_errors(f"add veth {ifname}"), netns.open_fd(peer_netns) as fd:
            peer = {"ifname": peer_ifname, "net_ns_fd": fd, **({"address": peer_mac} if peer_mac else {})}
            self._netlink.link("add", ifname=ifname, kind="veth", peer=peer)

    def add_bridge(self, ifname: str) -> None:
        """Make a bridge without ports, which is up."""
        with self._map_errors(f"add bridge {ifname}"):
            self._netlink.link("add", ifname=ifname, kind="bridge")
        self.set_up(ifname)

    def delete_link(self, ifname: str) -> None:
        """Delete an interface, and with it its veth peer wherever that is; no error if it is gone."""
        with self._map_errors(f"delete {ifname}", tolerated=(errno.ENODEV,)):
            for index in self._indices(ifname):
                self._netlink.link("del", index=index)

    def set_alias(self, ifname: str, alias: str) -> None:
        """Set an interface's alias."""
        self._set(ifname, f"alias of {ifname}", ifalias=alias)

    def mark_link(self, ifname: str, group: int, alias: str) -> None:
        """Set an interface's group and alias."""
        self._set(ifname, f"mark {ifname}", group=group, ifalias=alias)

    def delete_group(self, group: int) -> None:
        """Delete all interfaces of a group here, and their peers, in one go; no error if there is none."""
        with self._map_errors(f"delete links of group {group}", tolerated=(errno.ENODEV,)):
            self._netlink.link("del", group=group)

    def set_mac(self, ifname: str, mac: str) -> None:
        """Set an interface's MAC."""
        self._set(ifname, f"MAC of {ifname}", address=mac)

    def set_up(self, ifname: str) -> None:
        """Set an interface up."""
        self._set(ifname, f"set {ifname} up", state="up")

    def put_into(self, ifname: str, bridge: str) -> None:
        """Make an interface a port of a bridge."""
        self._set(ifname, f"put {ifname} into {bridge}", master=self.index_of(bridge))

    def release(self, ifname: str) -> None:
        """Take an interface out of its bridge, bond or other master."""
        self._set(ifname, f"release {ifname}", master=0)

    def set_down(self, ifname: str) -> None:
        """Set an interface down."""
        self._set(ifname, f"set {ifname} down", state="down")

    def move(self, ifname: str, namespace: str, new_ifname: str) -> None:
        """Move an interface into another namespace under a new name.

        It is down there, without addresses or a master.
        """
        operation = f"move {ifname} as {new_ifname}"
        with self._map_errors(operation), netns.open_fd(namespace) as fd:
            self._set(ifname, operation, net_ns_fd=fd, ifname=new_ifname)

    def other_end(self, ifname: str, namespaces: Iterable[str]) -> tuple[str, str] | None:
        """Return the namespace that has the other end of a veth, and the end's name there.

        It is None if none of these namespaces has it, or there is no such veth.
        """
        with self._map_errors(f"other end of {ifname}", tolerated=(errno.ENODEV,)):
            indices = self._indices(ifname)
            if not indices:
                return None
            (message,) = self._netlink.get_links(*indices)
            index, number = message.get_attr("IFLA_LINK"), message.get_attr("IFLA_LINK_NETNSID")
            info = message.get_attr("IFLA_LINKINFO")
            if info is None or info.get_attr("IFLA_INFO_KIND") != "veth" or number is None:
                return None
            for namespace in namespaces:
                with netns.open_fd(namespace) as fd:
                    is_there = self._netlink.get_netnsid(fd=fd)["nsid"] == number
                if is_there:
                    with Links(namespace) as there:
                        found = (link.ifname for link in there.links() if link.index == index)
                        return next(((namespace, other) for other in found), None)
        return None

    def without_own_link_local(self, ifname: str) -> None:
        """Have the kernel derive no link-local address from the MAC; call it before the interface comes up."""
        spec = {"attrs": [["AF_INET6", {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", ADDR_GEN_MODE_NONE]]}]]}
        self._set(ifname, f"address mode of {ifname}", IFLA_AF_SPEC=spec)

    def _set(self, name: str, operation: str, **what: object) -> None:
        with self._map_errors(operation):
            self._netlink.link("set", index=self.index_of(name), **what)

    def index_of(self, ifname: str) -> int:
        """Return an interface's index.

        Raises:
            HostError: There is no such interface.
        """
        found = self._indices(ifname)
        if not found:
            raise HostError(f"interface {ifname} in namespace {self.name}", "no interface has that name")
        return found[0]

    def _indices(self, ifname: str) -> list[int]:
        """Return an interface's index, in a list; an empty one if there is none."""
        if ifname in self._pinned:
            return [self._pinned[ifname]]
        entry = self._reader.link(ifname)
        return [] if entry is None else [entry[0][2]]

    # addresses

    def addresses(self, links: Iterable[Link] | None = None) -> frozenset[InterfaceAddress]:
        """Return all addresses. `links` are the interfaces, if the caller has read them already."""
        names = {link.index: link.ifname for link in (self.links() if links is None else links)}
        with self._map_errors("list addresses"):
            entries = (entry for entry in self._reader.addresses() if entry[0][0] in FAMILIES)
            return frozenset(_address_of(entry, names) for entry in entries)

    def add_address(self, entry: InterfaceAddress) -> None:
        """Add an address that is usable at once, without duplicate address detection."""
        with self._map_errors(f"add address {entry.address} to {entry.ifname}", tolerated=(errno.EEXIST,)):
            self._change_address("add", entry, flags=IFA_F_NODAD if entry.address.family is Family.IPV6 else 0)

    def delete_address(self, entry: InterfaceAddress) -> None:
        """Delete an address; no error if it is gone."""
        with self._map_errors(f"delete address {entry.address}", tolerated=(errno.EADDRNOTAVAIL, errno.ENODEV)):
            self._change_address("del", entry)

    def _change_address(self, verb: str, entry: InterfaceAddress, **more: int) -> None:
        address = {"family": AF[entry.address.family], "address": str(entry.address), "prefixlen": entry.length}
        self._netlink.addr(verb, index=self.index_of(entry.ifname), **address, **more)

    # routes and rules: only those with our protocol number

    def routes(self) -> frozenset[Route]:
        """Return our routes."""
        names = {link.index: link.ifname for link in self.links()}
        with self._map_errors("list routes"):
            dumped = [m for family in Family for m in self._netlink.get_routes(family=AF[family])]
        return frozenset(_route_of(message, names) for message in dumped if message["proto"] == self._protocol)

    def add_route(self, route: Route, *, is_first: bool = False) -> None:
        """Add a route.

        With `is_first`, it comes before another one to the same place with the usual metric, which stays.
        """
        metric = IPV6_METRIC if is_first and route.destination.family is Family.IPV6 else 0
        with self._map_errors(f"add route to {route.destination}", tolerated=(errno.EEXIST,)):
            self._change_route(AHEAD if is_first else "add", route, metric)

    def delete_route(self, route: Route) -> None:
        """Delete a route; no error if it is gone."""
        with self._map_errors(f"delete route to {route.destination}", tolerated=(errno.ESRCH, errno.ENODEV)):
            self._change_route("del", route)

    def _change_route(self, verb: object, route: Route, metric: int = 0) -> None:
        optional: dict[str, object] = {"scope": RT_SCOPE_HOST} if route.kind == "local" else {}
        if metric:
            optional["priority"] = metric
        if route.gateway is not None:
            optional |= {"gateway": str(route.gateway), "flags": RTNH_F_ONLINK}
        if route.source is not None:
            optional["prefsrc"] = str(route.source)
        kind = {"family": AF[route.destination.family], "type": RTN_TYPES[route.kind], "proto": self._protocol}
        where = {"dst": str(route.destination), "oif": self.index_of(route.ifname), "table": route.table}
        self._netlink.route(verb, **kind, **where, **optional)

    def rules(self) -> frozenset[RoutingRule]:
        """Return our routing rules."""
        with self._map_errors("list routing rules"):
            return frozenset(
                _rule_of(message, family)
                for family in Family
                for message in self._netlink.get_rules(family=AF[family])
                if message.get_attr("FRA_PROTOCOL") == self._protocol
            )

    def add_rule(self, rule: RoutingRule) -> None:
        """Add a routing rule; no error if it is there."""
        with self._map_errors(f"add routing rule {rule.priority}", tolerated=(errno.EEXIST,)):
            self._change_rule("add", rule)

    def delete_rule(self, rule: RoutingRule) -> None:
        """Delete a routing rule; no error if it is gone."""
        with self._map_errors(f"delete routing rule {rule.priority}", tolerated=(errno.ENOENT,)):
            self._change_rule("del", rule)

    def _change_rule(self, verb: str, rule: RoutingRule) -> None:
        optional: dict[str, object] = {}
        if rule.source is not None:
            optional |= {"src": str(rule.source).partition("/")[0], "src_len": rule.source.length}
        if rule.mark:
            optional["fwmark"] = rule.mark
        if rule.bound_to:
            optional["oifname"] = rule.bound_to
        self._netlink.rule(
            verb,
            family=AF[rule.family],
            priority=rule.priority,
            table=rule.table,
            protocol=self._protocol,
            **optional,
        )

    @contextmanager
    def _map_errors(self, operation: str, tolerated: tuple[int, ...] = ()) -> Iterator[None]:
        """Turn netlink's errors into ours, except those that are `tolerated`: what was asked for is so already."""
        from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415  # Linux only, and slow to import

        try:
            yield
        except NetlinkError as error:
            if error.code not in tolerated:
                raise HostError(f"namespace {self.name}", f"{operation}: {error.args[-1]}") from error
        except OSError as error:
            raise HostError(f"namespace {self.name}", f"{operation}: {error.strerror or error}") from error


def create_marked(namespace: str, mark: str) -> None:
    """Make a namespace, and at once mark it as its maker's by the alias of its loopback."""
    netns.remove(namespace)  # a bare file may be left by a run that died between the two steps of create
    netns.create(namespace)
    with Links(namespace) as links:
        links.set_alias("lo", mark)
        links.set_up("lo")


def sync(current: Iterable[T], wanted: Iterable[T], add: Callable[[T], None], delete: Callable[[T], None]) -> int:
    """Delete what isn't wanted, then add what is missing, in a fixed order; return the number of changes."""
    surplus, missing = set(current) - set(wanted), set(wanted) - set(current)
    for entry in sorted(surplus, key=repr):
        delete(entry)
    for entry in sorted(missing, key=repr):
        add(entry)
    return len(surplus) + len(missing)


def _address_of(entry: Entry, names: dict[int, str]) -> InterfaceAddress:
    (family, length, _, _, index), found = entry
    value = found.get(LOCAL_ADDRESS) or found[ADDRESS]
    return InterfaceAddress(names.get(index, ""), Address(FAMILIES[family].bits, int.from_bytes(value, "big")), length)


def _route_of(message: NetlinkMessage, names: dict[int, str]) -> Route:
    family = Family.IPV4 if message["family"] == AF[Family.IPV4] else Family.IPV6
    destination = message.get_attr("RTA_DST") or ("0.0.0.0" if family is Family.IPV4 else "::")
    gateway, source = message.get_attr("RTA_GATEWAY"), message.get_attr("RTA_PREFSRC")
    return Route(
        ifname=names.get(message.get_attr("RTA_OIF"), ""),
        destination=Prefix.parse(f"{destination}/{message['dst_len']}"),
        gateway=Address.parse(gateway) if gateway else None,
        source=Address.parse(source) if source else None,
        table=message.get_attr("RTA_TABLE"),
        kind=next((kind for kind, number in RTN_TYPES.items() if number == message["type"]), ""),
    )


def _rule_of(message: NetlinkMessage, family: Family) -> RoutingRule:
    source = message.get_attr("FRA_SRC")
    return RoutingRule(
        family=family,
        priority=message.get_attr("FRA_PRIORITY"),
        table=message.get_attr("FRA_TABLE"),
        source=Prefix.parse(f"{source}/{message['src_len']}") if source else None,
        mark=message.get_attr("FRA_FWMARK") or 0,
        bound_to=message.get_attr("FRA_OIFNAME") or "",
    )

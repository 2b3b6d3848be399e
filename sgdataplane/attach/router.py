"""The router of a VPC on this host: a namespace of ours, where the host ends of attached ENIs' links are.

Owns what is in it besides rules. Is given ENIs and the names of their host ends. Must not know how ends got there.

    sgdp-<vpc>    169.254.1.1 and fe80::1, the gateway, on every host end; a route per address of its ENI, and its MAC
                  what the user put there, uplinks for example, and its addresses and routes, is left alone
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from sgdataplane.enforce import remove
from sgdataplane.errors import HostError
from sgdataplane.host import netns, sysctl
from sgdataplane.host.links import InterfaceAddress, Link, Links, Route, create_marked, sync
from sgdataplane.host.neighbours import Neighbour, introduce
from sgdataplane.host.routing import FORWARDING, ROUTER
from sgdataplane.model.options import GATEWAY_IPV4, GATEWAY_IPV6
from sgdataplane.model.state import Eni
from sgdataplane.net.values import Address, Family, Prefix, link_local

PREFIX = "sgdp-"
MARK = "sgdataplane router"  # the loopback's alias, where we made the namespace
GATEWAYS = ((GATEWAY_IPV4, 32), (GATEWAY_IPV6, 64))


def router_of(eni: Eni | None) -> str:
    """The name of the namespace; of an ENI that no state has, so that nobody knows its VPC, one that routes nothing."""
    return f"{PREFIX}{'+none' if eni is None else eni.vpc_id}"  # no id has a +


def make(router: str) -> None:
    """The namespace, if it isn't there; a new one forwards nothing yet. Settings come before interfaces, which take the
    defaults that they find; and each time, as an earlier run may have died before it."""
    if not netns.is_bound(router):
        create_marked(router, MARK)
    elif not _is_ours(router):
        raise HostError(f"namespace {router}", "it is there, but sgdp did not make it; rename or remove it")
    with netns.inside(router):
        sysctl.write_all(ROUTER)


def fill(router: str, enis: Mapping[str, Eni]) -> None:
    """Take these ENIs (by the names of their host ends) up, and forward: to be called when the policy is in force. An
    end that is a part of another interface, as a bridge's port is, would hand over frames before the policy sees them:
    none is any more."""
    with Links(router) as links:
        there = {link.ifname: link for link in links.links()}
        ends = {ifname: eni for ifname, eni in enis.items() if ifname in there}
        addresses = {InterfaceAddress(ifname, *gateway) for ifname in ends for gateway in GATEWAYS}
        sync(links.addresses() & addresses, addresses, links.add_address, links.delete_address)
        for ifname in ends:
            if there[ifname].master:
                links.release(ifname)
            if not there[ifname].is_up:
                links.set_up(ifname)
        introduce(router, [entry for ifname, eni in ends.items() for entry in _neighbours(ifname, eni)])
        wanted = [route for ifname, eni in ends.items() for route in _routes(ifname, eni)]
        sync(links.routes(), wanted, links.add_route, links.delete_route)
    with netns.inside(router):
        sysctl.write_all(FORWARDING)


def _routes(ifname: str, eni: Eni) -> Iterator[Route]:
    """Addresses are on the link; delegated prefixes are behind the interface."""
    for address in eni.addresses:
        yield Route(ifname, Prefix.of(address))
    for prefix in eni.delegated_prefixes:
        yield Route(ifname, prefix, _next_hop(eni, prefix.family))


def _neighbours(ifname: str, eni: Eni) -> Iterator[Neighbour]:
    """The fence lets nothing of another MAC in, so nobody has to be asked: what others do to the machine's tables of
    neighbours changes nothing here, and these entries have no part in them."""
    for address in (*eni.addresses, link_local(eni.mac_address)):
        yield Neighbour(ifname, address, eni.mac_address)


def _next_hop(eni: Eni, family: Family) -> Address:
    """An address of which the router knows the MAC, so that it asks for none of a delegated prefix."""
    return next((a for a in eni.addresses if a.family is family), link_local(eni.mac_address))


def veths(router: str) -> frozenset[str]:
    """The names of those in a router of ours; of others none are ours."""
    if not netns.is_bound(router):
        return frozenset()
    with Links(router) as links:
        found = links.links()
    is_ours = any(_is_marked(link) for link in found)
    return frozenset(link.ifname for link in found if is_ours and link.kind == "veth")


def take_down(router: str, ends: Collection[str]) -> None:
    """Those of these that are there. One may go meanwhile."""
    for ifname in sorted(veths(router).intersection(ends)):
        try:
            with Links(router) as links:
                links.set_down(ifname)
        except HostError:
            if ifname in veths(router):
                raise


def leave(router: str, ends: Collection[str]) -> str:
    """Of no binding any more: remove the namespace, or, if it has interfaces, our rules. What keeps it, or "". `ends`:
    names of host ends that may be left there; without rules they are down."""
    if not netns.is_bound(router) or not _is_ours(router):
        return ""
    take_down(router, ends)
    with Links(router) as links:
        kept = [link.ifname for link in links.links() if link.ifname != "lo" and (link.is_up or link.kind == "veth")]
    if kept:
        remove(router)
        return f"namespace {router} stays, since these interfaces are in it: {', '.join(sorted(kept))}"
    netns.remove(router)
    return ""


def _is_ours(router: str) -> bool:
    with Links(router) as links:
        return any(_is_marked(link) for link in links.links())


def _is_marked(link: Link) -> bool:
    return link.ifname == "lo" and link.alias == MARK

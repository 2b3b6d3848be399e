"""The router of a VPC on this host, and the host ends of workloads' links that move into it and home again.

Owns the router's namespace except for rules, the search for host ends, and the moves. Its input is ENIs and bindings.
Must not know what a policy says.

    sgdp-<vpc>    169.254.1.1 and fe80::1, the gateway, on every host end; a route per address of its ENI, and its MAC
                  What the user put there (uplinks, their addresses and routes) stays as it is.

Links are moved, and never made anew. Root of a workload may rename its interface, delete it, or move it away, and a
process that reaches the router may do the same to the host end. So a host end that we have moved is known by its
numbers (attach/ends.py). Only if no link with these is in the router, its peer is asked for inside the workload.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from sgdataplane.attach.ends import DOWN, MARK, TAKEN, find_end, is_marked
from sgdataplane.attach.registry import Binding, HostEnd
from sgdataplane.enforce import is_enforced, remove
from sgdataplane.errors import HostError
from sgdataplane.host import netns, sysctl
from sgdataplane.host.identity import find_namespace, hold_namespace, identity_of
from sgdataplane.host.linkentry import Link
from sgdataplane.host.links import InterfaceAddress, Links, Route, create_marked, sync
from sgdataplane.host.neighbours import Neighbour, introduce
from sgdataplane.host.routing import FORWARDING, ROUTER, router_ifname
from sgdataplane.model.options import GATEWAY_IPV4, GATEWAY_IPV6
from sgdataplane.model.state import Eni
from sgdataplane.net.values import Address, Family, Prefix, link_local

PREFIX = "sgdp-"
GATEWAYS = ((GATEWAY_IPV4, 32), (GATEWAY_IPV6, 64))


def router_of(eni: Eni | None) -> str:
    """Return the name of an ENI's router.

    Without an ENI, that is the name of a router that routes nothing: no state has the ENI, so its VPC isn't known.
    """
    return f"{PREFIX}{'+none' if eni is None else eni.vpc_id}"  # no id contains a +


def make(router: str) -> None:
    """Make the namespace if it isn't there; a new one forwards nothing yet.

    The settings come before interfaces, which inherit the defaults. They are written each time, as an earlier run may
    have died before it wrote them.

    Raises:
        HostError: There is a namespace of that name that we didn't make.
    """
    if not netns.is_bound(router):
        create_marked(router, MARK)
    elif not _is_ours(router):
        raise HostError(f"namespace {router}", "it exists, but sgdp did not make it; rename or remove it")
    with netns.inside(router):
        sysctl.write_all(ROUTER)


Ends = Mapping[str, Eni]  # the name of a host end -> its ENI


def configure_ends(
    router: str, enis: Ends, previous: Ends | None = None, pinned: Mapping[str, int] | None = None
) -> list[tuple[str, str]]:
    """Configure these host ends, set them up, and forward. Call it once the policy is in force.

    Return the host ends that were down or part of another interface, each with words for it. New ones are down, so they
    are among them; the caller tells them apart. A host end that is part of another interface, such as a bridge's port,
    would pass frames on before the policy sees them; so it is released.

    Args:
        router: Its name.
        enis: The host ends.
        previous: The ends that are known to be as an earlier call left them; only others are looked at.
        pinned: The ends' indices, so that a link that has taken one of their names meanwhile isn't touched.
    """
    with Links(router, pinned=pinned) as links:
        there = _there(links, enis, previous, pinned or {})
        ends = {ifname: enis[ifname] for ifname in there}
        older = None if previous is None else {ifname: previous[ifname] for ifname in ends if ifname in previous}
        addresses = _addresses(ends)
        held = links.addresses() & addresses if older is None else _addresses(older)
        sync(held, addresses, links.add_address, links.delete_address)
        changed = list[tuple[str, str]]()
        for ifname, link in there.items():
            if link.master:
                links.release(ifname)
                changed.append((ifname, TAKEN))
            if not link.is_up:
                links.set_up(ifname)
                changed.append((ifname, DOWN))
        introduce(router, _neighbours(ends), None if older is None else _neighbours(older), pinned)
        routes = links.routes() if older is None else _routes(older)
        sync(routes, _routes(ends), partial(links.add_route, is_first=True), links.delete_route)
    with netns.inside(router):
        sysctl.write_all(FORWARDING)
    return changed


def _there(links: Links, enis: Ends, previous: Ends | None, pinned: Mapping[str, int]) -> Mapping[str, Link]:
    """Return the links of those host ends that are there, and are new or changed."""
    if previous is None:
        seen = links.links()
        by_index, by_name = {link.index: link for link in seen}, {link.ifname: link for link in seen}
        every = {ifname: by_index.get(pinned[ifname]) if ifname in pinned else by_name.get(ifname) for ifname in enis}
        return {ifname: link for ifname, link in every.items() if link is not None}
    found = {ifname: links.link(ifname) for ifname, eni in enis.items() if previous.get(ifname) != eni}
    return {ifname: link for ifname, link in found.items() if link is not None}


def _addresses(ends: Ends) -> set[InterfaceAddress]:
    return {InterfaceAddress(ifname, *gateway) for ifname in ends for gateway in GATEWAYS}


def _routes(ends: Ends) -> list[Route]:
    return [route for ifname, eni in ends.items() for route in _routes_of(ifname, eni)]


def _routes_of(ifname: str, eni: Eni) -> Iterator[Route]:
    """Yield routes to the ENI's addresses, on the link, and to its delegated prefixes, behind it."""
    for address in eni.addresses:
        yield Route(ifname, Prefix.of(address))
    for prefix in eni.delegated_prefixes:
        yield Route(ifname, prefix, _next_hop(eni, prefix.family))


def _neighbours(ends: Ends) -> list[Neighbour]:
    return [entry for ifname, eni in ends.items() for entry in _neighbours_of(ifname, eni)]


def _neighbours_of(ifname: str, eni: Eni) -> Iterator[Neighbour]:
    """Yield the neighbour entries of an ENI. Its MAC is known without asking, because the fence drops every other one.

    Permanent entries don't count towards the limit of the machine's neighbour tables, so nobody can push them out.
    """
    for address in (*eni.addresses, link_local(eni.mac_address)):
        yield Neighbour(ifname, address, eni.mac_address)


def _next_hop(eni: Eni, family: Family) -> Address:
    """Return an address whose MAC the router knows, so that it needs no neighbour entry for a delegated prefix."""
    return next((a for a in eni.addresses if a.family is family), link_local(eni.mac_address))


def veths(router: str) -> frozenset[str]:
    """Return the names of the veths in a router of ours; none for any other namespace."""
    if not netns.is_bound(router):
        return frozenset()
    with Links(router) as links:
        found = links.links()
    is_ours = any(is_marked(link) for link in found) or is_enforced(router, fence=False)
    return frozenset(link.ifname for link in found if is_ours and link.kind == "veth")


def take_down(router: str, ends: Collection[str]) -> None:
    """Take these host ends down if they are there. One may vanish meanwhile."""
    if not ends:
        return
    for ifname in sorted(veths(router).intersection(ends)):
        try:
            with Links(router) as links:
                links.set_down(ifname)
        except HostError:
            if ifname in veths(router):
                raise


def leave(router: str, ends: Collection[str]) -> str:
    """Remove a router that has no bindings any more.

    If it has veths, or other interfaces that are up, only our rules are removed, and a text that names them is
    returned; else "", also if the namespace isn't ours. `ends` are host ends that may still be there; they are set
    down, as there are no more rules.
    """
    if not netns.is_bound(router) or not _is_ours(router):
        return ""
    take_down(router, ends)
    with Links(router) as links:
        kept = [link.ifname for link in links.links() if link.ifname != "lo" and (link.is_up or link.kind == "veth")]
    if kept:
        remove(router)
        return f"namespace {router} stays, since it has these interfaces: {', '.join(sorted(kept))}"
    netns.remove(router)
    return ""


def _is_ours(router: str) -> bool:
    """Whether we made the router: its loopback's alias says so, or, if others have changed that, our table does."""
    with Links(router) as links:
        loopback = links.link("lo")
    return (loopback is not None and is_marked(loopback)) or is_enforced(router, fence=False)


Where = tuple[str, str]  # a namespace, and the name of the end in it


@dataclass(frozen=True, slots=True)
class Hosted:
    """A binding and its host end.

    `binding.host_end.router` is where the end is; before its first move, where it will be.
    """

    binding: Binding
    end: HostEnd
    where: Where  # the namespace where the end is now, and its name there
    wanted: str  # the router that it has to be in

    @property
    def is_there(self) -> bool:
        """Whether the end is where it has to be."""
        return self.where == (self.wanted, self.end.ifname)


Present = Mapping[str, Collection[str]]  # a router -> the names of the host ends that are there


def find_other_end(binding: Binding, place: str | None, there: Present | None = None) -> Where | None:
    """Return where the link's other end is, outside the workload.

    It is None if there is no such end, or it can't be found. `place` is a path to the workload; with None it isn't
    looked for there, as the workload has ended or needn't be asked. `there` is what has been read of the routers.
    """
    end = binding.host_end
    if end is not None and there is None and (link := find_end(end)) is not None:
        return end.router, link.ifname
    if end is not None and there is not None and end.ifname in there.get(end.router, ()):
        return end.router, end.ifname
    if place is None:
        return None
    with Links(place) as links:
        return links.other_end(binding.ifname, _places())


def make_hosted(binding: Binding, where: Where, wanted: str) -> Hosted:
    """Return the binding with the end that was found at `where`.

    Raises:
        HostError: Another interface has the end's name in the router.
    """
    end, (at, ifname) = binding.host_end, where
    if end is not None and _is_moved(end, where):
        end = replace(end, router=at, numbers=end.numbers if at == wanted == end.router else None)
    elif end is not None and end.numbers is not None:  # others have moved it out
        end = replace(end, router=wanted, numbers=None)
    else:
        with hold_namespace(str(netns.path_of(at))) as path:
            end = HostEnd(wanted, router_ifname(binding.eni_id), ifname, at, identity_of(path))
    entry = Hosted(replace(binding, host_end=end), end, where, wanted)
    if not entry.is_there:
        _require_free(entry)
    return entry


def _require_free(entry: Hosted) -> None:
    """Refuse a name that is taken in the router. The kernel would refuse it only after the move.

    Raises:
        HostError: It is taken.
    """
    if netns.is_bound(entry.wanted) and _has(entry.wanted, entry.end.ifname):
        detail = f"{entry.wanted} already has another interface {entry.end.ifname}; remove or rename it"
        raise HostError(str(entry.binding), detail)


def move_in(entry: Hosted) -> Hosted:
    """Move the host end into its router, if it isn't there; it is down afterwards."""
    if entry.is_there:
        return entry
    at, ifname = entry.where
    end = replace(entry.end, router=entry.wanted)
    with Links(at) as links:
        links.move(ifname, end.router, end.ifname)
    with Links(end.router) as links:
        links.without_own_link_local(end.ifname)
    return Hosted(replace(entry.binding, host_end=end), end, (end.router, end.ifname), entry.wanted)


def move_home(binding: Binding, place: str | None) -> str:
    """Move the host end back home. It is down afterwards.

    Return "" if that is done, or there was nothing to move. If its home has ended, or something else has its name
    there, it stays in the router, and its name and that router are returned.
    """
    end = binding.host_end
    where = find_other_end(binding, place if end is None or end.numbers is None else None)
    if end is None or where is None or not where[0].startswith(PREFIX):
        return ""
    at, ifname = where
    with find_namespace(end.home, end.home_path) as home:
        if home is not None and not _has(home, end.home_ifname):
            with Links(at) as links:
                links.move(ifname, home, end.home_ifname)
            return ""
    take_down(at, (ifname,))
    return f"{ifname} of {at}"


def _has(place: str, ifname: str) -> bool:
    with Links(place) as links:
        return links.link(ifname) is not None


def _is_moved(end: HostEnd, where: Where) -> bool:
    """Whether the end is in a router under our name for it, so that we have moved it."""
    at, ifname = where
    return ifname == end.ifname and at.startswith(PREFIX)


def _places() -> Iterator[str]:
    yield netns.OWN_NETNS
    yield from (name for name in netns.list_names() if netns.NAME.fullmatch(name) and netns.is_bound(name))

"""The other ends of workloads' links: found, moved into their VPC's router, and moved home again.

Owns the search and the moves. Must not know policy. Nothing is recreated: the link stays the one that it is.

Who is root in a workload renames its interface, deletes it or moves it away. So an end that we have moved is known by
its place and name in the router, which are ours; the workload is asked only where it isn't there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sgdataplane.attach import router
from sgdataplane.attach.registry import Binding, HostEnd
from sgdataplane.errors import HostError
from sgdataplane.host import netns
from sgdataplane.host.identity import found, held, identity_of
from sgdataplane.host.links import Links
from sgdataplane.host.routing import router_ifname

Where = tuple[str, str]  # a namespace, and the name of the end in it


@dataclass(frozen=True, slots=True)
class Hosted:
    """A binding and its host end: where that is now, and the router where it has to be. The binding has it in the
    router where it is, or, if it was not moved yet, in that one."""

    binding: Binding
    end: HostEnd
    where: Where
    wanted: str

    @property
    def is_there(self) -> bool:
        return self.where == (self.wanted, self.end.ifname)


def where_is(binding: Binding, place: str | None) -> Where | None:
    """Where the end is that its link has outside of the workload (which is at `place`, None: gone); None if it has
    none, or none that can be found."""
    end = binding.host_end
    if end is not None and end.ifname in router.veths(end.router):
        return end.router, end.ifname
    if place is None:
        return None
    with Links(place) as links:
        return links.other_end(binding.ifname, _places())


def hosted(binding: Binding, where: Where, wanted: str) -> Hosted:
    """The binding with the end that was found there. HostError if something else has its name in the router."""
    end, (at, ifname) = binding.host_end, where
    if end is not None and _is_moved(end, where):
        end = replace(end, router=at)
    else:
        with held(str(netns.path_of(at))) as path:
            end = HostEnd(wanted, router_ifname(binding.eni_id), ifname, at, identity_of(path))
    entry = Hosted(replace(binding, host_end=end), end, where, wanted)
    if not entry.is_there:
        _require_free(entry)
    return entry


def _require_free(entry: Hosted) -> None:
    """The kernel would move it, and only then refuse the name."""
    if entry.end.ifname in router.veths(entry.wanted):
        detail = f"{entry.wanted} has an interface {entry.end.ifname}, which is another's; remove or rename it"
        raise HostError(str(entry.binding), detail)


def move_in(entry: Hosted) -> Hosted:
    """Move the host end into its router, if it isn't there; it is down then."""
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
    """Move the host end back to where it was. If that is gone, or something else has its name there, it stays in the
    router; where, or "". It is down then."""
    end, where = binding.host_end, where_is(binding, place)
    if end is None or where is None or not _is_moved(end, where):
        return ""
    at, ifname = where
    with found(end.home, end.home_path) as home:
        if home is not None and not _has(home, end.home_ifname):
            with Links(at) as links:
                links.move(ifname, home, end.home_ifname)
            return ""
    router.take_down(at, (ifname,))
    return f"{ifname} of {at}"


def _has(place: str, ifname: str) -> bool:
    with Links(place) as links:
        return any(link.ifname == ifname for link in links.links())


def _is_moved(end: HostEnd, where: Where) -> bool:
    """Whether we moved it; into another router, perhaps, than the one where it has to be next."""
    at, ifname = where
    return ifname == end.ifname and at.startswith(router.PREFIX)


def _places() -> Iterator[str]:
    yield netns.OWN_NETNS
    yield from (name for name in netns.list_names() if netns.NAME.fullmatch(name) and netns.is_bound(name))

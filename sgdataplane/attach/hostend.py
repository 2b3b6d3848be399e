"""The other ends of workloads' links: found, moved into their VPC's router, and moved home again.

Owns the search and the moves. Must not know policy. Nothing is recreated: the link stays the one that it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sgdataplane.attach import router
from sgdataplane.attach.registry import Binding, HostEnd
from sgdataplane.errors import HostError
from sgdataplane.host import netns
from sgdataplane.host.identity import found, held, identity_of
from sgdataplane.host.links import Links
from sgdataplane.host.routing import router_ifname

Where = tuple[str, str]  # a namespace, and the name of the end in it


def with_host_end(binding: Binding, place: str, wanted: str) -> Binding:
    """The binding, with the end that its link has outside of the workload (which is at `place`) and the router where
    that has to be. HostError if it has none, or none that can be found."""
    where = _other_end(binding, place)
    if where is None:
        detail = "host placement needs a veth link whose other end is in our own namespace or one under /run/netns"
        raise HostError(str(binding), detail)
    if binding.host_end is not None and _is_moved(binding.host_end, where):
        return replace(binding, host_end=replace(binding.host_end, router=wanted))
    at, ifname = where
    with held(str(netns.path_of(at))) as path:
        home = identity_of(path)
    return replace(binding, host_end=HostEnd(wanted, router_ifname(binding.eni_id), ifname, at, home))


def move_in(binding: Binding, place: str) -> None:
    """Move the host end into its router, if it isn't there; it is down then."""
    end, where = binding.host_end, _other_end(binding, place)
    if end is None or where in (None, (end.router, end.ifname)):
        return
    at, ifname = where
    with Links(at) as links:
        links.move(ifname, end.router, end.ifname)
    with Links(end.router) as links:
        links.without_own_link_local(end.ifname)


def move_home(binding: Binding, place: str) -> None:
    """Move the host end back to where it was, or leave it in the router, if that is gone. It is down then."""
    end, where = binding.host_end, _other_end(binding, place)
    if end is None or where is None or not _is_moved(end, where):
        return
    at, ifname = where
    with found(end.home, end.home_path) as home, Links(at) as links:
        if home is None:
            links.set_down(ifname)
        else:
            links.move(ifname, home, end.home_ifname)


def _other_end(binding: Binding, place: str) -> Where | None:
    with Links(place) as links:
        return links.other_end(binding.ifname, _places(binding))


def _is_moved(end: HostEnd, where: Where) -> bool:
    """Whether we moved it; into another router, perhaps, than the one where it has to be next."""
    at, ifname = where
    return ifname == end.ifname and at.startswith(router.PREFIX)


def _places(binding: Binding) -> Iterator[str]:
    """Where the end usually is, the likeliest first."""
    if binding.host_end is not None and netns.is_bound(binding.host_end.router):
        yield binding.host_end.router
    yield netns.OWN_NETNS
    yield from (name for name in netns.list_names() if netns.NAME.fullmatch(name) and netns.is_bound(name))

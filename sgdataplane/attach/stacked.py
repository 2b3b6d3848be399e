"""Links of other namespaces that are on top of a router's: they would get what comes in there.

Owns the search for them, which of them are removed, and the words for it. Its input is bindings, and where to look.
Must not know policy, or who did it.

A process that reaches a router by number reaches every namespace that a link there leads to, and so on, and may put a
link over the router's in any of them. So the search goes the same way. The kernel numbers the namespace of the lower
link, seen from ours:

    in a workload, on top of any link of a router       removed: no user makes these
    anywhere else, on top of a host end                 removed, for the same reason
    anywhere else, on top of another link of a router   left alone: it may be the user's

Where there was an event of a link on top, it alone is asked for, however many there are. A search lists no namespace
with more than MAX_LINKS links; if that is a workload, this is reported.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from sgdataplane.attach.ends import Tampering, describe_link
from sgdataplane.attach.registry import Binding, HostEnd
from sgdataplane.errors import HostError, SgDataplaneError
from sgdataplane.host.events import number_of
from sgdataplane.host.identity import find_namespace
from sgdataplane.host.linkentry import NO_NSID, Link, LinkChanges, link_of
from sgdataplane.host.rtnetlink import MAX_LINKS, Rtnetlink

MAX_FURTHER = 1000  # namespaces that no link of a router leads to, but one of a namespace behind such a link


Place = int | None  # the number of a namespace; None: ours


def remove_stacked(
    bindings: Collection[Binding], around: Collection[str], heard: Iterable[tuple[Place, int]] = ()
) -> list[Tampering]:
    """Remove links that are on top of a router's, and report which.

    `around` are the routers from which to search. `heard` has places and indices of more links that may be on top.
    """
    heard = sorted(heard, key=str)
    if not around and not heard:
        return []
    ends = [(binding.eni_id, end) for binding in bindings if (end := binding.host_end) is not None]
    routers = dict(_numbers({end.router for _, end in ends}))
    remover = _Remover(routers, ends, bindings)
    found = [told for place, index in heard for told in remover.remove(place, _link_at(place, index))]
    for place, links in _read_around({number for number, router in routers.items() if router in around}):
        found += remover.note_crowd(place) if links is None else remover.remove(place, links)
    return found


def _numbers(routers: Iterable[str]) -> Iterator[tuple[int, str]]:
    for router in sorted(routers):
        with suppress(HostError):  # it isn't there
            yield number_of(router), router


def _read_around(routers: Collection[int]) -> Iterator[tuple[int, list[Link] | None]]:
    """Yield the namespaces that links lead to, from these routers on, with their links; the nearest ones first."""
    level, known, left = set(routers), set(routers), None
    while level:
        read = {number: _links_at(number, None if number in routers else MAX_LINKS) for number in sorted(level)}
        yield from read.items()
        further = {link.lower_nsid for links in read.values() for link in links or ()} - known - {NO_NSID}
        level = set(sorted(further)[:left])
        left = MAX_FURTHER if left is None else left - len(level)
        known |= level


def _links_at(number: int, most: int | None) -> list[Link] | None:
    """Return a namespace's links. It is empty if that has ended; None if it has more links than `most`."""
    try:
        with Rtnetlink() as netlink:
            return [link_of(entry) for entry in netlink.links(number, most)]
    except OSError as error:
        return None if error.errno == errno.EMFILE else []


def _link_at(place: Place, index: int) -> list[Link]:
    """Return the link of this index, in a list; an empty one if it has gone."""
    with suppress(OSError), Rtnetlink() as netlink:
        entry = netlink.link(index, place)
        return [] if entry is None else [link_of(entry)]
    return []


@dataclass(frozen=True)
class _Remover:
    """Removes links on top of routers'."""

    routers: Mapping[int, str]  # their names by number
    ends: Collection[tuple[str, HostEnd]]  # the host ends, with their ENIs
    bindings: Collection[Binding]

    def note_crowd(self, place: int) -> Iterator[Tampering]:
        workload = self._workloads.get(place)
        if workload is not None and workload.host_end is not None:
            what = (
                f"{workload.named} has more than {MAX_LINKS} interfaces, so those on top of routers' links aren't found"
            )
            yield Tampering(workload.host_end.router, what, (workload.eni_id,))

    def remove(self, place: Place, links: Iterable[Link]) -> Iterator[Tampering]:
        for link in links:
            router = self.routers.get(link.lower_nsid) if link.is_on_top_elsewhere else None
            if router is not None:
                yield from self._remove_one(link, place, router)

    def _remove_one(self, link: Link, place: Place, router: str) -> Iterator[Tampering]:
        enis = tuple(eni_id for eni_id, end in self.ends if end.router == router and _index(end) == link.lower)
        if not enis and place not in self._workloads:
            return
        what = f"{describe_link(link)} on top of {self._lower(link)}; {_remove(link, place)}"
        workload = self._workloads.get(place)
        who = "somebody in another namespace" if workload is None else workload.named
        yield Tampering(router, f"{who} put {what}", enis)

    @cached_property
    def _workloads(self) -> Mapping[Place, Binding]:
        """The bindings by the numbers of their namespaces. They are read only when something was found."""
        known = dict[Place, Binding]()
        for binding in self.bindings:
            with suppress(SgDataplaneError, OSError), find_namespace(binding.identity, binding.path) as path:
                if path is not None:
                    known[number_of(path)] = binding
        return known

    def _lower(self, link: Link) -> str:
        below = _link_at(link.lower_nsid, link.lower)
        return below[0].ifname if below else f"interface {link.lower}"


def _index(end: HostEnd) -> int:
    return 0 if end.numbers is None else end.numbers.index


def _remove(link: Link, place: Place) -> str:
    try:
        with Rtnetlink() as netlink:
            LinkChanges(netlink).delete(link.index, place)
    except OSError as error:
        return f"it could not be removed: {error.strerror or error}"
    return "removed"

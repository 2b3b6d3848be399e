"""The links in a router by the kernel's numbers: its host ends, uplinks, and links that somebody else put there.

Owns which link is which, what is closed, removed or repaired, and the words for it. Its input is a router, and the
bindings whose host ends are there. Must not know policy, or who did it.

A process with CAP_NET_ADMIN in the machine's initial user namespace reaches a router by the number that its own
interface shows. It can't change rules, addresses or routes there, but make, rename, move and delete links. So a name
says nothing:

    its index, its other end's index and namespace are as recorded      a host end: what else differs is set right
    a veth with a host end's index, whose other end is elsewhere        set down: it leads to somebody else
    named as an uplink, seen first or with the index as noted           an uplink, which is the user's
    named as an uplink that had another index                           set down, until the user asks to read all again
    named as a host end; on top of one; a bridge or bond that took one;
        a veth that leads to a workload of this router                  removed: no user makes these
    in a workload, on top of a link of the router                       removed there, for the same reason
    anything else that is up                                            set down: it may be the user's
    anything else that is down                                          left alone: it passes nothing

After `look_after`, no link but the host end itself has a host end's name; so others may go by names until the next
event.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from sgdataplane.attach.registry import Binding, EndNumbers, HostEnd
from sgdataplane.errors import HostError
from sgdataplane.host import netns
from sgdataplane.host.identity import find_namespace
from sgdataplane.host.linkentry import NO_NSID, STACKED, Link, LinkChanges
from sgdataplane.host.links import Links

MARK = "sgdataplane router"  # the loopback's alias, where we made the namespace
MASTERS = frozenset({"bridge", "bond", "team", "vrf", "hsr", "openvswitch"})
TAKEN, DOWN = "was put into another interface; set back", "was set down; set up again"
LOOPBACK = 1  # its index, in each namespace
MAX_TAMPERING = 20  # of one look; what is more is as bad


@dataclass(frozen=True, slots=True)
class Tampering:
    """A change that somebody else made to a link in (or over) a router, and what we did about it."""

    router: str
    what: str  # the change and our answer to it, in words
    enis: tuple[str, ...] = ()  # those whose host ends it concerns; () if it concerns the whole router, a little

    def __str__(self) -> str:
        return f"{self.router}: {self.what}"


@dataclass(frozen=True, slots=True)
class Look:
    """How to look at a router."""

    uplinks: Collection[str] = ()  # names or patterns
    noted: Mapping[str, int] = field(default_factory=dict)  # the uplinks that were seen before, with their indices
    only: Collection[str] | None = None  # the names of host ends with events; None: all links may have changed
    up: Collection[str] = ()  # the ENIs whose host ends we have taken up


@dataclass(frozen=True, slots=True)
class Looked:
    """The result of a look at a router."""

    there: frozenset[str] = frozenset()  # the host ends that are in the router for certain, by name
    uplinks: Mapping[str, int] = field(default_factory=dict)  # as `Look.noted`, for the next look
    tampering: tuple[Tampering, ...] = ()


def is_at(end: HostEnd, link: Link) -> bool:
    """Whether that link of its router is the host end, whatever its name is."""
    numbers = end.numbers
    if numbers is None:  # it wasn't seen in its router yet: then its name has to do
        return link.ifname == end.ifname and link.kind == "veth"
    seen = link.index, link.lower, link.lower_nsid
    return link.kind == "veth" and seen == (numbers.index, numbers.peer, numbers.peer_nsid)


def find_end(end: HostEnd) -> Link | None:
    """Return the link in its router that is the host end; None if it isn't there."""
    if not netns.is_bound(end.router):
        return None
    with Links(end.router) as links:
        link = links.link(end.ifname) if end.numbers is None else links.link_at(end.numbers.index)
    return link if link is not None and is_at(end, link) else None


def read_numbers(end: HostEnd, workload: str) -> EndNumbers:
    """Return the numbers of the link that has the end's name in its router. `workload` is a path to the workload.

    Raises:
        HostError: The link's other end isn't in the workload.
    """
    with Links(end.router) as links:
        link = links.link(end.ifname)
        if link is None or link.kind != "veth" or link.lower_nsid != links.number_of(workload):
            raise HostError(f"{end.ifname} of {end.router}", "its other end isn't in the workload that is attached")
    return EndNumbers(link.index, link.lower, link.lower_nsid, link.mac, link.alias)


def number_end(binding: Binding) -> Binding:
    """Return the binding with the numbers of its host end, which is in its router.

    Raises:
        HostError: The host end isn't the workload's, or the workload has ended.
    """
    end = binding.host_end
    if end is None or end.numbers is not None:
        return binding
    with find_namespace(binding.identity, binding.path) as workload:
        if workload is None:
            raise HostError(str(binding), "its namespace has ended")
        return replace(binding, host_end=replace(end, numbers=read_numbers(end, workload)))


def look_after(router: str, bindings: Collection[Binding], look: Look = Look()) -> Looked:
    """Set right what others changed at the router's host ends, and close what they put there.

    Nothing is done in a namespace that isn't ours.
    """
    if not netns.is_bound(router):
        return Looked(uplinks=look.noted)
    with Links(router) as links:
        return _Router(router, bindings, look, links).look()


def is_marked(link: Link) -> bool:
    """Whether a link is a loopback with our alias, which we give to the routers that we make."""
    return link.ifname == "lo" and link.alias == MARK


class _Router:
    """One look at one router."""

    def __init__(self, name: str, bindings: Collection[Binding], look: Look, links: Links) -> None:
        self.name, self._look, self._changes = name, look, links.by_number
        self._bindings = [binding for binding in bindings if binding.host_end is not None]
        self._ends = {binding.eni_id: binding.host_end for binding in self._bindings if binding.host_end is not None}
        self._names = {end.ifname: eni_id for eni_id, end in self._ends.items()}
        self._seen = {link.index: link for link in self._read(links)}
        self._owners = dict(self._find_ends())
        self._tampering: list[Tampering] = []

    def look(self) -> Looked:
        if self._look.only is None and not self._is_ours():
            return Looked(uplinks=self._look.noted)
        uplinks, named = dict(self._look.noted), set(self._names)
        for link in [link for link in self._seen.values() if link.index not in {*self._owners, LOOPBACK}]:
            if link.ifname not in named and _is_named(link.ifname, self._look.uplinks):
                self._check_uplink(link, uplinks)
            else:
                self._close(link)
        self._repair()
        there = frozenset(self._ends[eni_id].ifname for eni_id in self._owners.values())
        return Looked(there, uplinks, tuple(self._tampering[:MAX_TAMPERING]))

    def _read(self, links: Links) -> Iterator[Link]:
        """Yield all links; or those that are host ends with events, or have the names of such."""
        if self._look.only is None:
            yield from links.links()
            return
        for end in (end for end in self._ends.values() if end.ifname in self._look.only):
            found = (links.link(end.ifname), None if end.numbers is None else links.link_at(end.numbers.index))
            for link in (link for link in found if link is not None):
                yield link
                master = links.link_at(link.master) if link.master else None
                if master is not None:
                    yield master

    def _find_ends(self) -> Iterator[tuple[int, str]]:
        """Yield the index of each link that is a host end, with its ENI."""
        by_name = {link.ifname: link for link in self._seen.values()}
        for eni_id, end in self._ends.items():
            link = by_name.get(end.ifname) if end.numbers is None else self._seen.get(end.numbers.index)
            if link is not None and is_at(end, link):
                yield link.index, eni_id

    def _is_ours(self) -> bool:
        """Whether we made the namespace.

        If others have changed its loopback's alias or name, our host ends prove it.
        """
        loopback = self._seen[LOOPBACK]
        if is_marked(loopback):
            return True
        if not any(self._ends[eni_id].numbers is not None for eni_id in self._owners.values()):
            return False
        if loopback.ifname != "lo":
            self._do(f"lo was renamed {loopback.ifname}", LOOPBACK, is_up=False, name="lo")
            self._do_quietly(LOOPBACK, is_up=True)
        if loopback.alias != MARK:
            self._do(f"the alias of lo was changed to {loopback.alias!r}", LOOPBACK, alias=MARK)
        return True

    def _check_uplink(self, link: Link, noted: dict[str, int]) -> None:
        if noted.setdefault(link.ifname, link.index) == link.index:
            return
        if link.is_up:
            what = (
                f"uplink {link.ifname} was replaced by another interface of its name; if you did that, reload the "
                "agent and set it up again"
            )
            self._do(what, link.index, is_up=False)

    def _close(self, link: Link) -> None:
        """Close a link that neither we nor the user put there."""
        enis = self._find_concerned(link)
        what = f"somebody put {describe_link(link)} there"
        if link.kind == "veth" and any(end.numbers and end.numbers.index == link.index for end in self._ends.values()):
            if link.is_up and link.lower_nsid != NO_NSID:  # else its workload is just ending
                self._do(f"the other end of {link.ifname} is elsewhere now", link.index, enis, is_up=False)
            elif link.is_up:
                self._do_quietly(link.index, is_up=False)
        elif link.kind and (enis or self._leads_to_workload(link)):
            self._do(what, link.index, enis, is_removed=True)
        elif link.is_up or enis:
            self._do(what, link.index, enis, is_up=False, name=f"x{link.index}" if link.ifname in self._names else "")

    def _find_concerned(self, link: Link) -> tuple[str, ...]:
        """Return the ENIs that a link of others imitates, covers or has taken; none if it may be the user's."""
        found = {self._names[link.ifname]} if link.ifname in self._names else set[str]()
        for index, eni_id in self._owners.items():
            is_on_top = link.kind in STACKED and (link.lower, link.lower_nsid) == (index, NO_NSID)
            has_taken = link.kind in MASTERS and self._seen[index].master == link.index
            if is_on_top or has_taken:
                found.add(eni_id)
        for eni_id, end in self._ends.items():
            if link.index == getattr(end.numbers, "index", 0):
                found.add(eni_id)
        return tuple(sorted(found))

    def _leads_to_workload(self, link: Link) -> bool:
        known = {end.numbers.peer_nsid for end in self._ends.values() if end.numbers is not None}
        return link.kind == "veth" and link.lower_nsid in known

    def _repair(self) -> None:
        """Set right what differs at the host ends.

        All wrong names are taken away before the right ones are given, as two may have been exchanged.
        """
        wrong = []
        for index, eni_id in sorted(self._owners.items()):
            link, end = self._seen[index], self._ends[eni_id]
            if link.ifname != end.ifname:
                wrong.append((link, end, eni_id))
                self._do_quietly(index, is_up=False, name=f"x{index}")
            self._repair_one(link, end, eni_id)
        for link, end, eni_id in wrong:
            self._do(f"{end.ifname} was renamed {link.ifname}", link.index, (eni_id,), name=end.ifname)

    def _repair_one(self, link: Link, end: HostEnd, eni_id: str) -> None:
        numbers, enis = end.numbers, (eni_id,)
        if link.master:
            self._do(f"{end.ifname} {TAKEN.partition(';')[0]}", link.index, enis, is_released=True)
        if link.has_xdp:
            self._do(f"{end.ifname} was given an XDP program", link.index, enis, has_xdp=False)
        if numbers is not None and link.mac != numbers.mac:
            self._do(f"the MAC of {end.ifname} was changed to {link.mac}", link.index, enis, mac=numbers.mac)
        if numbers is not None and link.alias != numbers.alias:
            self._do(f"the alias of {end.ifname} was changed to {link.alias!r}", link.index, enis, alias=numbers.alias)
        if not link.is_up and eni_id in self._look.up:
            self._tell(f"{end.ifname} {DOWN}", enis)  # by router.configure_ends(), with its routes

    def _do(self, what: str, index: int, enis: tuple[str, ...] = (), **change: object) -> None:
        """Make these changes to a link, and report them."""
        refusal = self._do_quietly(index, **change)
        done = "removed" if "is_removed" in change else "set down" if change.get("is_up") is False else "set back"
        self._tell(f"{what}; {done if not refusal else f'it could not be {done}: {refusal}'}", enis)

    def _do_quietly(self, index: int, **change: object) -> str:
        try:
            _change(self._changes, index, change)
        except OSError as error:
            with suppress(OSError):
                self._changes.set_up(index, is_up=False)
            return error.strerror or str(error)
        return ""

    def _tell(self, what: str, enis: tuple[str, ...] = ()) -> None:
        self._tampering.append(Tampering(self.name, what, enis))


def _change(changes: LinkChanges, index: int, wanted: Mapping[str, object]) -> None:
    if "is_removed" in wanted:
        changes.delete(index)
    if "is_up" in wanted:
        changes.set_up(index, is_up=bool(wanted["is_up"]))
    if "is_released" in wanted:
        changes.release(index)
    if "has_xdp" in wanted:
        changes.remove_xdp(index)
    if "mac" in wanted:
        changes.set_mac(index, str(wanted["mac"]))
    if "alias" in wanted:
        changes.set_alias(index, str(wanted["alias"]))
    if wanted.get("name"):
        changes.rename(index, str(wanted["name"]))


def describe_link(link: Link) -> str:
    """Return a link's name and kind, for people."""
    return f"{link.ifname} ({link.kind or 'an interface'})"


def _is_named(ifname: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(ifname, pattern) for pattern in patterns)

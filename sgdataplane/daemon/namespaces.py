"""Events in the namespaces that concern the agent.

Where we enforce, these are links that come, go or change, namespaces that end, and drift, which is what others change
in our tables. In namespaces where we only look for interfaces to bind, they are links, and the end. A workload in host
placement has its policy in a router, so only the end of its namespace counts.

Owns which namespaces are listened to, which of them had no event, and which commits are our own. Its input is reports.
Must not know what is done about events.
"""

from __future__ import annotations

import select
import time
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass

from sgdataplane.attach.reconcile import is_as_reported
from sgdataplane.attach.report import EniOutcome, HostReport, Key, NamespaceReport, contain_error
from sgdataplane.contract.tables import TABLE
from sgdataplane.errors import SgDataplaneError
from sgdataplane.host import modules
from sgdataplane.host.events import (
    ADDRESS_GROUPS,
    LINK_GROUP,
    NSID_GROUP,
    ROUTE,
    Message,
    Subscription,
    find_stacked,
    is_about_address,
    link_of,
    number_of,
    number_of_ended,
)
from sgdataplane.host.identity import Identity, find_namespace
from sgdataplane.host.nfsocket import NETLINK_NETFILTER
from sgdataplane.nft.commits import EVENT_GROUP, NEW_FLOWTABLE, Commit, CommitReader, own_process

MAX_REREADING_S = 0.5  # with others who commit without end; their events are read later, as usual


@dataclass(frozen=True, slots=True)
class Drift:
    """One commit of another program to our tables."""

    key: Key
    namespace: str  # in words
    by: str  # the program and its process, in words
    changes: str  # what it changed, in words
    process: int = 0  # its number, by which it may turn out to be one of ours (attach/owncommits.py)
    generation: int = 0  # the commit's, for the same reason


class NamespaceWatch:
    """A watch with two descriptors for a selector, `links` and `rules`.

    If one is readable, call the method whose name begins with it.
    """

    def __init__(self) -> None:
        """Begin to listen.

        Raises:
            UnsupportedError: The kernel has no nftables, whose commits are listened to.
        """
        modules.require(modules.NFTABLES)
        self.links = Subscription(ROUTE, (LINK_GROUP, *ADDRESS_GROUPS, NSID_GROUP))
        self.rules = Subscription(NETLINK_NETFILTER, (EVENT_GROUP,))
        self._own = {own_process()}
        self._commits = CommitReader(TABLE, self._own)
        self._numbers: dict[Key, int] = {}
        self._named: dict[int, str] = {}
        self._workloads: dict[Identity, int] = {}  # in host placement
        self._stacked: set[tuple[int | None, int]] = set()  # links on top of a router's that were heard
        self._looked_at: frozenset[int] = frozenset()
        self._loud_numbers: set[int | None] = set()  # of those looked at
        self._gone: frozenset[Key] = frozenset()
        self._misaddressed: frozenset[Identity] = frozenset()  # namespaces of workloads, whose addresses count
        self._loud: set[Key] = set()
        self._links: dict[Key, dict[int, list[str]]] = {}  # of routers: index -> names, of links that were heard
        self._deaf_to: AbstractSet[int | None] = frozenset()

    def close(self) -> None:
        """End listening."""
        self.links.close()
        self.rules.close()

    @property
    def heard(self) -> AbstractSet[Key]:
        """The namespaces with events."""
        return (self._loud | self._links.keys()) & self._numbers.keys()

    def take_quiet(self) -> AbstractSet[Key]:
        """Return the namespaces that were listened to since the last call, and had no event.

        Events are a changed link and a commit of others to our tables. It is for a cycle that begins now; later events
        are for the next one.
        """
        quiet = (self._numbers.keys() | self._workloads.keys() | self._gone) - self._loud - self._links.keys()
        self._links = {key: names for key, names in self._links.items() if key not in self._loud}
        self._loud.clear()
        return quiet

    def take_links(self) -> Mapping[Key, Collection[Sequence[str]]]:
        """Return for each router that isn't quiet only because of links the names of each of them, the last one last.

        Call `take_quiet` first.
        """
        links, self._links = self._links, {}
        return {key: tuple(names.values()) for key, names in links.items()}

    def take_stacked(self) -> AbstractSet[tuple[int | None, int]]:
        """Return the links that came or changed and are on top of one of a router.

        Each is the number of its namespace (None: ours) and its index.
        """
        found, self._stacked = self._stacked, set[tuple[int | None, int]]()
        return found

    def take_quiet_numbers(self) -> AbstractSet[int]:
        """Return the numbers of the namespaces that were only searched for interfaces, and had no event."""
        quiet = self._looked_at - self._loud_numbers
        self._loud_numbers.clear()
        return quiet

    def leave(self, keys: AbstractSet[Key]) -> None:
        """Note that these namespaces weren't looked at yet.

        Until they are, more events of theirs change nothing, and are ignored.
        """
        self._loud.update(keys)
        self._deaf_to = {number for key, number in self._numbers.items() if key in keys}

    def doubt(self) -> None:
        """Note that any namespace may have changed: events were lost, or a cycle did not look."""
        self._loud.update(self._numbers, self._workloads, self._gone)
        self._loud_numbers.update(self._looked_at)

    def follow(self, report: HostReport) -> bool:
        """Listen to the namespaces of that report, and no others.

        Return whether events of a new one may have been missed: then it isn't as the report says.
        """
        there = {entry.key: entry for entry in report.namespaces if not entry.is_gone}
        self._gone = frozenset(entry.key for entry in report.namespaces if entry.is_gone)  # they never return
        self._misaddressed = frozenset(
            eni.binding.identity for eni in report.enis if eni.outcome is EniOutcome.MISADDRESSED
        )
        kept = {key: number for key, number in self._numbers.items() if key in there}
        new = {key: number for key in there.keys() - kept.keys() if (number := _number(there[key])) is not None}
        self._commits.forget(tuple(self._named.keys() - kept.values()))
        self._numbers = kept | new
        self._named = {number: there[key].named for key, number in self._numbers.items()}
        self._follow_workloads(there.values())
        if not kept:  # at a start, our own commits fill the buffer; the comparison also sees what others have changed
            self.rules.drop()
        doubtful = [key for key in new if not is_as_reported(there[key])]
        self._loud.update(doubtful)
        return bool(doubtful)

    def _follow_workloads(self, reports: Iterable[NamespaceReport]) -> None:
        """Listen to the ends of workloads in host placement.

        A workload that has ended before it gets a number isn't quiet, and the next cycle looks at it.
        """
        hosted = [eni.binding for report in reports if isinstance(report.key, str) for eni in report.enis]
        there = {binding.identity: binding.path for binding in hosted}
        kept = {key: number for key, number in self._workloads.items() if key in there}
        new = {key: _number_at(key, there[key]) for key in there.keys() - kept.keys()}
        self._workloads = kept | {key: number for key, number in new.items() if number is not None}

    def look_at(self, numbers: frozenset[int]) -> None:
        """Listen to the links of these, too.

        They had their numbers before they were looked at, so nothing was missed.
        """
        self._looked_at = numbers

    def links_changed(self) -> bool:
        """Whether a link in one of these namespaces changed, or one of them has ended."""
        messages, is_lossy = self.links.read(self._deaf_to)
        if is_lossy:
            self.doubt()
        is_readdressed = self._did_addresses_change([message for message in messages if is_about_address(message)])
        messages = [message for message in messages if not is_about_address(message)]
        self._note_links(messages)
        self._note_stacked(messages)
        ended = {number for message in messages if (number := number_of_ended(message)) is not None}
        told = {message.number for message in messages} | ended
        is_heard = self._hear(told, but=self._links) or not told.isdisjoint(self._looked_at)
        self._loud_numbers.update(told & self._looked_at)
        self._looked_at -= ended
        for key in [key for key, number in self._numbers.items() if number in ended]:
            self._named.pop(self._numbers.pop(key), None)  # another namespace may get the number next
            self._loud.add(key)  # or has had it before this one: so nothing that was heard says all about it
        lost = [key for key, number in self._workloads.items() if number in ended]
        for key in lost:
            del self._workloads[key]
        return is_lossy or is_heard or is_readdressed or bool(lost or self._stacked)

    def _did_addresses_change(self, messages: Sequence[Message]) -> bool:
        """Whether an address has changed where that may put something right.

        Elsewhere an address causes only warnings.
        """
        told = {message.number for message in messages}
        heard = {key for key in self._misaddressed if self._numbers.get(key, self._workloads.get(key)) in told}
        self._loud.update(heard)
        return bool(heard)

    def _hear(self, numbers: AbstractSet[int | None], but: Container[Key] = ()) -> bool:
        """Note events, and return whether they concern a namespace where we enforce.

        Those in `but` are noted already, if nothing else happened there.
        """
        heard = [key for key, number in self._numbers.items() if number in numbers]
        self._loud.update(key for key in heard if key not in but)
        return bool(heard)

    def _note_links(self, messages: Iterable[Message]) -> None:
        """Note which links of routers the messages are about."""
        routers = {number: key for key, number in self._numbers.items() if isinstance(key, str)}
        for message in messages:
            found = link_of(message) if message.number in routers else None
            if message.number is not None and found is not None:
                index, name = found
                self._links.setdefault(routers[message.number], {}).setdefault(index, []).append(name)

    def _note_stacked(self, messages: Iterable[Message]) -> None:
        """Note where links are on top of one of a router.

        No other event of workloads and of namespaces that aren't ours counts, so that their roots can't keep us busy.
        """
        routers = {number for key, number in self._numbers.items() if isinstance(key, str)}
        for message in messages:
            found = find_stacked(message)
            if found is not None and found[1] in routers:
                self._stacked.add((message.number, found[0]))

    def rules_changed(self) -> tuple[list[Drift], bool]:
        """Return what others have changed in our tables, and whether another look is needed.

        It is needed if events were lost, or somebody has made a flowtable.
        """
        messages, is_lossy = self.rules.read(self._deaf_to)
        if is_lossy:
            self._commits.forget()
            self.doubt()
        drifts, keys = [], {number: key for key, number in self._numbers.items()}
        changed, carrying = set[int | None](), set[int | None]()
        for message in messages:
            if message.number not in self._named or message.number is None:
                continue
            if message.kind == NEW_FLOWTABLE:
                carrying.add(message.number)
            for commit in self._read(message.number, message):
                by = f"{commit.program}[{commit.process}]"
                where = keys[message.number], self._named[message.number]
                drifts.append(Drift(*where, by, commit.summary, commit.process, commit.generation))
                changed.add(message.number)
        self._hear(changed | carrying)
        return drifts, is_lossy or bool(carrying)

    def own(self, process: int) -> None:
        """Take commits of that process for ours from now on. Call `rules_changed_beside` when it has ended."""
        self._own.add(process)

    def rules_changed_beside(self, process: int) -> tuple[list[Drift], bool]:
        """Return what `rules_changed` does, for everything up to now, where commits of that process count as ours.

        The process has ended, and no other one has its number yet.
        """
        drifts, is_needed, until = list[Drift](), False, time.monotonic() + MAX_REREADING_S
        self._own.add(process)
        try:
            # before the first report nothing is followed, and what was told is dropped then
            while self._numbers and select.select([self.rules], [], [], 0)[0] and time.monotonic() < until:
                some, is_lossy = self.rules_changed()
                drifts, is_needed = drifts + some, is_needed or is_lossy
        finally:
            self._own.discard(process)
        return drifts, is_needed

    def _read(self, number: int, message: Message) -> list[Commit]:
        """Return the commits of others that end with this message. If it can't be read, the namespace is looked at."""
        try:
            return list(self._commits.read(number, message.kind, message.payload))
        except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this namespace only
            contain_error(error)
            return [Commit(number, 0, "somebody", (("what can't be read", 1),))]


def _number(report: NamespaceReport) -> int | None:
    if not isinstance(report.key, str):
        return _number_at(report.key, report.enis[0].binding.path)
    with suppress(SgDataplaneError, OSError):  # it was never made; the next cycle tries again
        return number_of(report.key)
    return None


def _number_at(identity: Identity, path: str) -> int | None:
    with suppress(SgDataplaneError, OSError), find_namespace(identity, path) as place:
        return None if place is None else number_of(place)
    return None  # it has ended; the next cycle tries again

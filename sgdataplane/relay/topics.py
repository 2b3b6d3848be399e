"""The ways from a document to the hosts that need it, kept up to date revision by revision.

Owns which host each ENI is bound to, the members of groups, and what groups name. Its input is facts. Must not know
what a host gets of a document, nor how it gets there.

A topic is a group, the members of a group, a list, a VPC or an instance. `Topics` returns the hosts that follow one.
What grows with the number of groups is in memory; what grows with the number of ENIs is in rows on disk.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from sys import intern

from sgdataplane.relay.rows import FactRow, FactRows
from sgdataplane.relay.spill import SpillFile
from sgdataplane.store.closure import GroupFacts, peer_groups_of
from sgdataplane.store.documents import (
    ResourceKind,
    kind_of,
    name_of,
    path_of,
    state_in,
    texts,
)
from sgdataplane.store.interface import Body, Path
from sgdataplane.store.objects import is_member, is_primary

NONE = frozenset({""})
NOBODY: frozenset[str] = frozenset()
JOINED = 5_000  # members at most that are remembered, some 0.2 KB each


class FactKind(enum.StrEnum):
    """What a row leads from. The comments say to what: the fields of a row."""

    HOST = "host"  # an ENI, its instance or "", one of its groups or ""
    MEMBERS = "members"  # of a group; an ENI
    INSTANCE = "instance"  # an ENI


def _row(kind: FactKind, name: str, *fields: str) -> FactRow:
    """Return the row that leads from a name to these fields."""
    return FactRow(f"{kind}/{name}", fields)


@dataclass(frozen=True, slots=True)
class EniFacts:
    """The facts of an ENI that decide which hosts need what."""

    host: str | None  # None if it is bound to none
    groups: tuple[str, ...]
    is_member: bool  # whether its addresses are members of its groups
    instance: str  # "" if it has none
    is_primary: bool  # whether it is its instance's primary ENI

    @staticmethod
    def of(body: Body, host: str | None) -> EniFacts:
        """Return the facts of an ENI's document. `host` is the host that it is bound to."""
        state = state_in(body)
        groups = tuple(texts(state, "security_group_ids"))
        return EniFacts(host, groups, is_member(state), str(state.get("instance_id", "")), is_primary(state))


def _make_rows(eni: str, facts: EniFacts | None) -> Iterator[FactRow]:
    if facts is None:
        return
    if facts.host is not None:
        for group in facts.groups or [""]:
            yield _row(FactKind.HOST, facts.host, eni, facts.instance, group)
    for group in facts.groups if facts.is_member else ():
        yield _row(FactKind.MEMBERS, group, eni)
    if facts.instance:
        yield _row(FactKind.INSTANCE, facts.instance, eni)


class Topics:
    """All topics at one revision. Names are ids; paths are those of documents."""

    def __init__(self, rows: FactRows) -> None:
        self._rows = rows
        self.groups: dict[str, GroupFacts] = {}
        self._namers: dict[Path, list[str]] = {}  # group or list -> the groups whose rules name it
        self._hosts: dict[str, list[str]] = {}  # group -> the hosts that have ENIs in it
        self._joined: tuple[frozenset[str], dict[str, tuple[str, ...]]] | None = None  # groups -> `members_of_all`

    @staticmethod
    def of(groups: Iterable[tuple[str, GroupFacts]], enis: Iterable[tuple[str, EniFacts]], file: SpillFile) -> Topics:
        """Return the topics of groups and ENIs. What grows with the number of ENIs lies in this file."""
        topics = Topics(FactRows.of((row for eni, facts in enis for row in _make_rows(eni, facts)), file))
        for group, of_group in groups:
            topics.put_group(group, of_group)
        for name, fields in topics._rows.items():
            kind, _, host = name.partition("/")
            if kind == FactKind.HOST:
                topics._bind(host, {*fields[2::3]} - NONE)
        return topics

    # what is asked

    def hosts(self) -> frozenset[str]:
        """Return the hosts that ENIs are bound to. It reads all rows."""
        found = (name.partition("/") for name, _ in self._rows.items())
        return frozenset(host for kind, _, host in found if kind == FactKind.HOST)

    def enis_of_host(self, host: str) -> Collection[str]:
        """Return the ENIs that are bound to a host."""
        return dict.fromkeys(self._fields(FactKind.HOST, host)[::3])

    def own_groups(self, host: str) -> frozenset[str]:
        """Return the groups of a host's ENIs."""
        return frozenset(self._fields(FactKind.HOST, host)[2::3]) - NONE

    def members(self, group: str) -> Collection[str]:
        """Return the ENIs that are members of a group."""
        return self._fields(FactKind.MEMBERS, group)

    def members_of_all(self, groups: frozenset[str]) -> Mapping[str, tuple[str, ...]]:
        """Return the members of any of these groups, each with those that it is in, in order.

        It remembers the last answer until an ENI changes, as the hosts of a VPC ask for the same one after the other.
        """
        if self._joined and self._joined[0] == groups:
            return self._joined[1]
        found: dict[str, list[str]] = {}
        for group in sorted(groups):
            for eni in self.members(group):
                found.setdefault(eni, []).append(group)
        joined = {eni: tuple(some) for eni, some in found.items()}
        self._joined = (groups, joined) if len(joined) <= JOINED else None
        return joined

    def instances_of(self, host: str) -> Mapping[str, set[str]]:
        """Return the instances of a host's ENIs, each with these of its ENIs."""
        found, fields = defaultdict[str, set[str]](set), self._fields(FactKind.HOST, host)
        for eni, instance in zip(fields[::3], fields[1::3], strict=True):
            found[instance].add(eni)
        found.pop("", None)
        return dict(found)

    def enis_of_instance(self, instance: str) -> Collection[str]:
        """Return the ENIs of an instance."""
        return self._fields(FactKind.INSTANCE, instance)

    def hosts_in(self, group: str) -> Collection[str]:
        """Return the hosts that have ENIs in a group."""
        return self._hosts.get(group, ())

    def hosts_getting(self, path: Path) -> set[str]:
        """Return the hosts that get a group, whole or without its rules, or a list."""
        found = set(self.hosts_in(name_of(path))) if kind_of(path) is ResourceKind.GROUP else set()
        return found.union(*map(self.hosts_in, self._namers.get(path, ())))

    def hosts_getting_members(self, groups: Iterable[str]) -> set[str]:
        """Return the hosts that get the members of any of these groups."""
        asking = {other for group in groups for other in self._find_groups_that_get_members(group)}
        return set().union(*map(self.hosts_in, asking))

    def _find_groups_that_get_members(self, group: str) -> Iterator[str]:
        yield group
        for other in self._namers.get(path_of(ResourceKind.GROUP, group), ()):
            if group in peer_groups_of(other, self.groups.get):
                yield other

    def hosts_getting_vpc(self, vpc: str) -> set[str]:
        """Return the hosts that get a VPC. It looks at all groups, because VPCs hardly ever change."""
        groups = (group for group, facts in self.groups.items() if facts.vpc_id == vpc)
        return {host for group in groups for host in self.hosts_getting(path_of(ResourceKind.GROUP, group))}

    def _fields(self, kind: FactKind, name: str) -> tuple[str, ...]:
        """Return the fields of all rows that lead from a name, one row after the other."""
        return self._rows.fields(f"{kind}/{name}")

    # what changes

    def put_group(self, group: str, facts: GroupFacts | None) -> None:
        """Set the facts of a group; None if it is gone."""
        group, before = intern(group), self.groups.pop(group, None)
        if facts is not None:
            facts = GroupFacts(intern(facts.vpc_id), frozenset(map(intern, facts.names)))
            self.groups[group] = facts
        old, new = (one.names if one else NOBODY for one in (before, facts))
        for path in old - new:
            _drop(self._namers, path, group)
        for path in new - old:
            self._namers.setdefault(path, []).append(group)

    def put_eni(self, eni: str, before: EniFacts | None, after: EniFacts | None) -> None:
        """Replace the facts of an ENI. `before` is what was put last. Each is None where the ENI isn't there."""
        if before == after:
            return
        self._joined = None
        hosts = {facts.host for facts in (before, after) if facts and facts.host is not None}
        own = {host: self.own_groups(host) for host in hosts}
        self._rows.replace({*_make_rows(eni, before)}, {*_make_rows(eni, after)})
        for host, groups in own.items():
            now = self.own_groups(host)
            for group in groups - now:
                _drop(self._hosts, group, host)
            self._bind(host, now - groups)

    def _bind(self, host: str, groups: Iterable[str]) -> None:
        for group in groups:
            self._hosts.setdefault(intern(group), []).append(intern(host))


def _drop(lists: dict[str, list[str]], key: str, value: str) -> None:
    found = lists[key]
    found.remove(value)
    if not found:
        del lists[key]

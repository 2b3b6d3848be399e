"""The ways from a document to the hosts that need it, kept up to date revision by revision.

Owns which host each ENI is bound to, the members of groups, and what groups name. Its input is facts. Must not know
what a host gets of a document, nor how it gets there.

A topic is a group, the members of a group, a list, a VPC or an instance. `Topics` returns the hosts that follow one.
Its facts are rows of a table. A change removes the rows of before, and adds those of now.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, compress
from typing import NamedTuple

from sgdataplane.relay.spill import SpillFile
from sgdataplane.relay.table import Lines, LinesLoader, make_row, read_fields, without_row
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

MEMBER = "m"
NOBODY = frozenset({""})


class FactKind(enum.StrEnum):
    """What a row leads from. The comments say to what: the fields of a row."""

    HOST = "host"  # an ENI, one of its groups or ""
    GROUP = "group"  # an ENI, its host or "", `MEMBER` if its addresses are members of the group
    INSTANCE = "instance"  # an ENI
    FACTS = "facts"  # of a group; its VPC, and the paths of what its rules name
    NAMED = "named"  # the path of a group or list; a group whose rules name it
    VPC = "vpc"  # a group


class FactRow(NamedTuple):
    """A row of the table."""

    key: str
    fields: tuple[str, ...]

    @staticmethod
    def of(kind: FactKind, name: str, *fields: str) -> FactRow:
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


def _make_eni_rows(eni: str, facts: EniFacts | None) -> Iterator[FactRow]:
    if facts is None:
        return
    groups = dict.fromkeys(facts.groups)
    if facts.host is not None:
        for group in groups or [""]:
            yield FactRow.of(FactKind.HOST, facts.host, eni, group)
    for group in groups:
        yield FactRow.of(FactKind.GROUP, group, eni, facts.host or "", MEMBER if facts.is_member else "")
    if facts.instance:
        yield FactRow.of(FactKind.INSTANCE, facts.instance, eni)


def _make_group_rows(group: str, facts: GroupFacts | None) -> Iterator[FactRow]:
    if facts is None:
        return
    yield FactRow.of(FactKind.FACTS, group, facts.vpc_id, *sorted(facts.names))
    yield FactRow.of(FactKind.VPC, facts.vpc_id, group)
    for path in facts.names:
        yield FactRow.of(FactKind.NAMED, path, group)


class Topics:
    """All topics at one revision. Names are ids; paths are those of documents."""

    def __init__(self, table: Lines) -> None:
        self._table = table

    @staticmethod
    def of(groups: Iterable[tuple[str, GroupFacts]], enis: Iterable[tuple[str, EniFacts]], file: SpillFile) -> Topics:
        """Return the topics of groups and ENIs, in a table in this file."""
        loader = LinesLoader(file)
        of_groups = (_make_group_rows(group, facts) for group, facts in groups)
        of_enis = (_make_eni_rows(eni, facts) for eni, facts in enis)
        for row in chain.from_iterable(chain(of_groups, of_enis)):
            loader.add(row.key, make_row(*row.fields))
        return Topics(loader.build())

    # what is asked

    def hosts(self) -> frozenset[str]:
        """Return the hosts that ENIs are bound to. It reads all rows."""
        found = (key.partition("/") for key in self._table)
        return frozenset(host for kind, _, host in found if kind == FactKind.HOST)

    def enis_of_host(self, host: str) -> Collection[str]:
        """Return the ENIs that are bound to a host."""
        return dict.fromkeys(self._fields(FactKind.HOST, host)[::2])

    def own_groups(self, host: str) -> frozenset[str]:
        """Return the groups of a host's ENIs."""
        return frozenset(self._fields(FactKind.HOST, host)[1::2]) - NOBODY

    def members(self, group: str) -> Collection[str]:
        """Return the ENIs that are members of a group."""
        fields = self._fields(FactKind.GROUP, group)
        return [*compress(fields[::3], fields[2::3])]

    def enis_of_instance(self, instance: str) -> Collection[str]:
        """Return the ENIs of an instance."""
        return self._fields(FactKind.INSTANCE, instance)

    def facts(self, group: str) -> GroupFacts | None:
        """Return the facts of a group; None if it isn't there."""
        fields = self._fields(FactKind.FACTS, group)
        return GroupFacts(fields[0], frozenset(fields[1:])) if fields else None

    def hosts_in(self, group: str) -> frozenset[str]:
        """Return the hosts that have ENIs in a group."""
        return frozenset(self._fields(FactKind.GROUP, group)[1::3]) - NOBODY

    def followers(self, path: Path) -> set[str]:
        """Return the hosts that get a group, whole or without its rules, or a list."""
        groups = self._fields(FactKind.NAMED, path)
        if kind_of(path) is ResourceKind.GROUP:
            groups.append(name_of(path))
        return set().union(*map(self.hosts_in, groups))

    def listeners(self, group: str) -> set[str]:
        """Return the hosts that get the members of a group."""
        namers = self._fields(FactKind.NAMED, path_of(ResourceKind.GROUP, group))
        groups = [other for other in namers if group in peer_groups_of(other, self.facts)]
        return set().union(*map(self.hosts_in, [group, *groups]))

    def audience_of_vpc(self, vpc: str) -> set[str]:
        """Return the hosts that get a VPC."""
        groups = self._fields(FactKind.VPC, vpc)
        return set().union(*(self.followers(path_of(ResourceKind.GROUP, group)) for group in groups))

    def _fields(self, kind: FactKind, name: str) -> list[str]:
        """Return the fields of all rows that lead from a name, one row after the other."""
        return read_fields(self._table.get(f"{kind}/{name}") or b"")

    # what changes

    def put_group(self, group: str, before: GroupFacts | None, after: GroupFacts | None) -> None:
        """Replace the facts of a group. `before` is what was put last. Each is None where the group isn't there."""
        self._replace({*_make_group_rows(group, before)}, {*_make_group_rows(group, after)})

    def put_eni(self, eni: str, before: EniFacts | None, after: EniFacts | None) -> None:
        """Replace the facts of an ENI. `before` is what was put last. Each is None where the ENI isn't there."""
        self._replace({*_make_eni_rows(eni, before)}, {*_make_eni_rows(eni, after)})

    def _replace(self, before: set[FactRow], after: set[FactRow]) -> None:
        for key, fields in before - after:
            left = without_row(self._table.get(key) or b"", make_row(*fields))
            if left:
                self._table.put(key, left)
            else:
                self._table.pop(key)
        for key, fields in after - before:
            self._table.put(key, (self._table.get(key) or b"") + make_row(*fields))

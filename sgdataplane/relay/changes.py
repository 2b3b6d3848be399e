"""What a revision changes for hosts: objects that differ, and ENIs whose host differs.

An object is the `state` of a document, without `about`. Owns the comparison of two revisions. Its input is documents
before and after. Must not know which host gets which object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from sgdataplane.relay.topics import EniFacts, Topics
from sgdataplane.store.closure import GroupFacts
from sgdataplane.store.documents import Documents, ResourceKind, kind_of, name_of, state_in
from sgdataplane.store.interface import Body, Path, Revision
from sgdataplane.store.objects import far_end, stub

HostOf: TypeAlias = Callable[[Documents, Body], str | None]
# The kinds that hosts get whole.
OTHERS = (ResourceKind.VPC, ResourceKind.PREFIX_LIST, ResourceKind.PORT_LIST, ResourceKind.INSTANCE)


@dataclass(frozen=True, slots=True)
class ChangedGroup:
    """A group whose object differs."""

    name: str
    before: GroupFacts | None  # None if it wasn't there
    after: GroupFacts | None  # None if it is gone
    is_stub_changed: bool  # whether the group without its rules differs, too

    @property
    def is_moved(self) -> bool:
        """Whether the group's VPC differs; so it does for one that was made, or is gone."""
        return (self.before and self.before.vpc_id) != (self.after and self.after.vpc_id)


@dataclass(frozen=True, slots=True)
class ChangedEni:
    """An ENI whose object or host differs."""

    name: str
    before: EniFacts | None  # None if it wasn't there
    after: EniFacts | None  # None if it is gone
    is_far_changed: bool  # whether what other hosts get of it differs, too

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts that it is or was bound to."""
        return frozenset(facts.host for facts in (self.before, self.after) if facts and facts.host is not None)

    @property
    def groups(self) -> frozenset[str]:
        """The groups that it is or was in."""
        return frozenset(group for facts in (self.before, self.after) if facts for group in facts.groups)

    @property
    def reshaped(self) -> frozenset[str]:
        """The hosts whose closure may differ because of it, since its host or its groups differ."""
        before, after = (facts and (facts.host, facts.groups) for facts in (self.before, self.after))
        return self.hosts if before != after else frozenset()

    @property
    def instances(self) -> frozenset[str]:
        """The instances that its hosts may get or lose because of it, since its host, instance or type differs."""
        before, after = (
            facts and (facts.host, facts.instance, facts.is_primary) for facts in (self.before, self.after)
        )
        found = {facts.instance for facts in (self.before, self.after) if facts and facts.instance}
        return frozenset(found) if before != after else frozenset()


@dataclass(frozen=True, slots=True)
class HostChanges:
    """All that a revision changed for hosts."""

    groups: tuple[ChangedGroup, ...]
    enis: tuple[ChangedEni, ...]
    others: tuple[Path, ...]  # the paths of lists, VPCs and instances

    @property
    def lead_elsewhere(self) -> bool:
        """Whether other hosts follow a topic than before, or an ENI's host differs."""
        changed: tuple[ChangedGroup | ChangedEni, ...] = (*self.groups, *self.enis)
        return any(one.before != one.after for one in changed)

    @staticmethod
    def of(before: Documents, after: Documents, change: Revision, topics: Topics, host_of: HostOf) -> HostChanges:
        """Compare the documents before and after a revision. `topics` are of the documents before."""
        paths: dict[ResourceKind, list[Path]] = {}
        for path in (*change.puts, *change.deletes):
            paths.setdefault(kind_of(path), []).append(path)
        both = _Both(before, after)
        enis = dict.fromkeys((*map(name_of, paths.get(ResourceKind.ENI, ())), *_find_rebound(both, paths, topics)))
        return HostChanges(
            tuple(_find_changed_groups(both, paths.get(ResourceKind.GROUP, ()), topics)),
            tuple(_find_changed_enis(both, enis, host_of)),
            tuple(path for kind in OTHERS for path in paths.get(kind, ()) if both.is_changed(path)),
        )


@dataclass(frozen=True, slots=True)
class _Both:
    """The documents before and after a revision."""

    before: Documents
    after: Documents

    def of(self, kind: ResourceKind, name: str) -> tuple[Body | None, Body | None]:
        return self.before.of_kind[kind].get(name), self.after.of_kind[kind].get(name)

    def is_changed(self, path: Path) -> bool:
        """Whether the object differs, or is there in only one of the two."""
        before, after = self.of(kind_of(path), name_of(path))
        return _differ(before, after)


def _differ(before: Body | None, after: Body | None) -> bool:
    if before is None or after is None:
        return before is not after
    return state_in(before) != state_in(after)


def _find_changed_groups(both: _Both, paths: Iterable[Path], topics: Topics) -> Iterator[ChangedGroup]:
    for name in map(name_of, paths):
        before, after = both.of(ResourceKind.GROUP, name)
        if _differ(before, after):
            is_stub_changed = (before and stub(before)) != (after and stub(after))
            yield ChangedGroup(name, topics.groups.get(name), GroupFacts.of(after) if after else None, is_stub_changed)


def _find_changed_enis(both: _Both, names: Iterable[str], host_of: HostOf) -> Iterator[ChangedEni]:
    for name in names:
        before, after = both.of(ResourceKind.ENI, name)
        old = EniFacts.of(before, host_of(both.before, before)) if before else None
        new = EniFacts.of(after, host_of(both.after, after)) if after else None
        if _differ(before, after) or old != new:
            is_far_changed = (before and far_end(before)) != (after and far_end(after))
            yield ChangedEni(name, old, new, is_far_changed)


def _find_rebound(both: _Both, paths: Mapping[ResourceKind, list[Path]], topics: Topics) -> Iterator[str]:
    """Yield the ENIs that may be bound to another host, though their own documents aren't changed.

    A tag of their instance may name a host. And as long as there is exactly one host, it has each ENI that names none:
    so it counts if there was or is at most one, and the hosts are others now.
    """
    for path in paths.get(ResourceKind.INSTANCE, ()):
        yield from topics.enis_of_instance(name_of(path))
    if ResourceKind.HOST in paths:
        before, after = (one.of_kind[ResourceKind.HOST] for one in (both.before, both.after))
        if min(len(before), len(after)) <= 1 and before.keys() != after.keys():
            yield from both.after.of_kind[ResourceKind.ENI]

"""The ways from a document to the hosts that need it, kept up to date revision by revision.

Owns which host each ENI is bound to, the members of groups, and what groups name. Its input is facts. Must not know
what a host gets of a document, nor how it gets there.

A topic is a group, the members of a group, a list, a VPC or an instance. `Topics` returns the hosts that follow one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from sys import intern

from sgdataplane.relay.table import Lines, add_name, list_names, pack_names, without
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

NOBODY: frozenset[str] = frozenset()


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


class Topics:
    """All topics at one revision. Names are ids; paths are those of documents.

    `instances` is about how many instances there are.
    """

    def __init__(self, instances: int = 0) -> None:
        self.groups: dict[str, GroupFacts] = {}
        self._members: dict[str, bytes] = {}  # group -> its ENIs that are members (`list_names`)
        self._namers: dict[Path, list[str]] = {}  # group or list -> the groups whose rules name it
        self._of_instance = Lines(instances)  # instance -> ENIs (`list_names`)
        self._enis: dict[str, bytes] = {}  # host -> ENIs (`list_names`)
        self._own: dict[str, dict[str, int]] = {}  # host -> group -> how many of its ENIs are in it
        self._hosts: dict[str, list[str]] = {}  # group -> the hosts that have ENIs in it

    # what is asked

    def hosts(self) -> frozenset[str]:
        """Return the hosts that ENIs are bound to."""
        return frozenset(self._enis)

    def enis_of_host(self, host: str) -> list[str]:
        """Return the ENIs that are bound to a host."""
        return list_names(self._enis.get(host, b""))

    def own_groups(self, host: str) -> frozenset[str]:
        """Return the groups of a host's ENIs."""
        return frozenset(self._own.get(host, ()))

    def members(self, group: str) -> Collection[str]:
        """Return the ENIs that are members of a group."""
        return list_names(self._members.get(group, b""))

    def enis_of_instance(self, instance: str) -> list[str]:
        """Return the ENIs of an instance."""
        return list_names(self._of_instance.get(instance) or b"")

    def peer_groups_of(self, group: str) -> Iterator[str]:
        """Return the groups whose members a group's policy depends on.

        These are the group itself, and those of its VPC that its rules name.
        """
        return peer_groups_of(group, self.groups.get)

    def hosts_in(self, group: str) -> Collection[str]:
        """Return the hosts that have ENIs in a group."""
        return self._hosts.get(group, ())

    def followers(self, path: Path) -> set[str]:
        """Return the hosts that get a group, whole or without its rules, or a list."""
        found = set(self.hosts_in(name_of(path))) if kind_of(path) is ResourceKind.GROUP else set()
        for group in self._namers.get(path, ()):
            found.update(self.hosts_in(group))
        return found

    def listeners(self, group: str) -> set[str]:
        """Return the hosts that get the members of a group."""
        found = set(self.hosts_in(group))
        for other in self._namers.get(path_of(ResourceKind.GROUP, group), ()):
            if group in self.peer_groups_of(other):
                found.update(self.hosts_in(other))
        return found

    def audience_of_vpc(self, vpc: str) -> set[str]:
        """Return the hosts that get a VPC. It looks at all groups, because VPCs hardly ever change."""
        groups = (group for group, facts in self.groups.items() if facts.vpc_id == vpc)
        return {host for group in groups for host in self.followers(path_of(ResourceKind.GROUP, group))}

    # what changes

    def pack(self) -> None:
        """Compress the lists of names, once all documents are read."""
        self._members = {group: pack_names(names) for group, names in self._members.items()}
        self._enis = {host: pack_names(names) for host, names in self._enis.items()}

    def put_group(self, group: str, facts: GroupFacts | None) -> None:
        """Set the facts of a group; None if it is gone."""
        before = self.groups.pop(group, None)
        if facts is not None:
            self.groups[group] = facts
        old, new = (one.names if one else NOBODY for one in (before, facts))
        for path in old - new:
            _drop(self._namers, path, group)
        for path in new - old:
            self._namers.setdefault(path, []).append(group)

    def put_eni(self, eni: str, before: EniFacts | None, after: EniFacts | None) -> None:
        """Replace the facts of an ENI.

        `before` is what was put last. Each is None where the ENI wasn't there, or isn't any more.
        """
        if before is not None:
            self._remove(eni, before)
        if after is not None:
            self._add(eni, after)

    def _add(self, eni: str, facts: EniFacts) -> None:
        groups = [*map(intern, facts.groups)]
        for group in groups if facts.is_member else ():
            self._members[group] = add_name(self._members.get(group, b""), eni)
        if facts.instance:
            self._of_instance.put(facts.instance, add_name(self._of_instance.get(facts.instance) or b"", eni))
        if facts.host is not None:
            self._bind(eni, intern(facts.host), groups)

    def _bind(self, eni: str, host: str, groups: Iterable[str]) -> None:
        self._enis[host] = add_name(self._enis.get(host, b""), eni)
        own = self._own.setdefault(host, {})
        for group in groups:
            if group not in own:
                self._hosts.setdefault(group, []).append(host)
            own[group] = own.get(group, 0) + 1

    def _remove(self, eni: str, facts: EniFacts) -> None:
        for group in facts.groups if facts.is_member else ():
            _take_out(self._members, group, eni)
        if facts.instance and (left := without(self._of_instance.pop(facts.instance) or b"", eni)):
            self._of_instance.put(facts.instance, left)
        if facts.host is not None:
            _take_out(self._enis, facts.host, eni)
            self._unbind(facts.host, facts.groups)

    def _unbind(self, host: str, groups: Iterable[str]) -> None:
        own = self._own[host]
        for group in groups:
            own[group] -= 1
            if not own[group]:
                del own[group]
                _drop(self._hosts, group, host)
        if not own:
            del self._own[host]


def _take_out(many: dict[str, bytes], key: str, name: str) -> None:
    if left := without(many.pop(key), name):
        many[key] = left


def _drop(lists: dict[str, list[str]], key: str, value: str) -> None:
    found = lists[key]
    found.remove(value)
    if not found:
        del lists[key]

"""The closure of some ENIs: the documents that determine their policies, and nothing else.

Owns which these are, and how much of each. Must not know who needs the closure: a relay sends that of a host's ENIs,
and the API explains packets and changes by that of a few.

The closure has, as objects of the native format:
- the ENIs, and each instance whose primary ENI is among them (on the classic network, any ENI); ENIs of other instances
  come without `instance_id`;
- the groups of these ENIs, whole, and the lists that their rules name;
- the groups that these rules name, without rules; and the VPCs of all these groups;
- the members of its own groups, and of named groups of the same VPC, as far ends: id, VPC, addresses, and those of
  their groups that are needed.

So `decide()` gives each packet at the ENIs the verdict that it gives with all documents (tests/relay/test_closure.py,
tests/control/test_parts.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from sgdataplane.model.state import NetworkType
from sgdataplane.store.documents import (
    Fields,
    ResourceKind,
    find_named,
    kind_of,
    name_of,
    path_of,
    rules_in,
    state_in,
    trial_rules_in,
)
from sgdataplane.store.interface import Body, Path
from sgdataplane.store.objects import far_end, is_primary, stub


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """The facts of a group that decide what belongs to a closure."""

    vpc_id: str
    names: frozenset[Path] = frozenset()  # the groups and lists that its rules name, or those that are on trial

    @staticmethod
    def of(body: Body) -> GroupFacts:
        """Return the facts of a group's document."""
        return GroupFacts(str(state_in(body).get("vpc_id", "")), frozenset(find_named(_all_rules_in(body))))


def _all_rules_in(body: Body) -> list[Fields]:
    return [*rules_in(body), *trial_rules_in(body)]


FactsOf = Callable[[str], GroupFacts | None]


def peer_groups_of(group: str, facts_of: FactsOf, *, anywhere: bool = False) -> Iterator[str]:
    """Yield the groups whose members a group's policy depends on.

    These are the group itself, and those of its VPC that its rules name; with `anywhere`, those of other VPCs, too.
    """
    facts = facts_of(group)
    if facts is None:
        return
    yield group
    for path in facts.names:
        if kind_of(path) is ResourceKind.GROUP:
            other = facts_of(name_of(path))
            if other is not None and (anywhere or other.vpc_id == facts.vpc_id):
                yield name_of(path)


@dataclass(frozen=True, slots=True)
class ClosureIds:
    """What a closure has, by ids and paths, without the objects themselves."""

    enis: frozenset[str] = frozenset()  # its own
    own: frozenset[str] = frozenset()  # the groups of its ENIs, which it has whole
    named: frozenset[str] = frozenset()  # groups that it has without their rules
    peer_groups: frozenset[str] = frozenset()  # the groups whose members it has
    lists: frozenset[Path] = frozenset()  # the paths of prefix lists and port lists
    vpcs: frozenset[Path] = frozenset()  # the paths of VPCs
    is_told: bool = False  # whether people are told of it, so that it also has ENIs that are counted and no members

    @staticmethod
    def of(enis: Iterable[str], own: frozenset[str], facts_of: FactsOf, *, is_told: bool = False) -> ClosureIds:
        """Return what the closure of some ENIs has, which are in these groups.

        With `is_told` it has what no verdict follows from but words do: who is in groups of other VPCs.
        """
        paths = {path for group in own if (facts := facts_of(group)) for path in facts.names}
        groups = {name_of(path) for path in paths if kind_of(path) is ResourceKind.GROUP}
        vpcs = {facts.vpc_id for group in own | groups if (facts := facts_of(group))}
        return ClosureIds(
            frozenset(enis),
            own,
            frozenset(groups - own),
            frozenset(peer for group in own for peer in peer_groups_of(group, facts_of, anywhere=is_told)),
            frozenset(path for path in paths if kind_of(path) is not ResourceKind.GROUP),
            frozenset(path_of(ResourceKind.VPC, vpc) for vpc in vpcs),
            is_told,
        )


class ClosureLinks(Protocol):
    """Finds the objects of a closure."""

    def body(self, kind: ResourceKind, name: str, /) -> Body | None:
        """Return a document; None if it isn't there."""

    def members(self, group: str, /) -> Collection[str]:
        """Return the ENIs in a group."""

    def enis_of_instance(self, instance: str, /) -> Collection[str]:
        """Return the ENIs of an instance."""


@dataclass(frozen=True, slots=True)
class Closure:
    """The objects of a closure."""

    ids: ClosureIds
    links: ClosureLinks

    def objects(self) -> dict[Path, Fields]:
        """Return all native objects by path, in order. Callers must not change them."""
        ids = self.ids
        paths = [*ids.vpcs, *ids.lists, *(path_of(ResourceKind.INSTANCE, name) for name in self.instances())]
        paths += [path_of(ResourceKind.GROUP, name) for name in ids.own | ids.named]
        far = (self.links.members(group) for group in ids.peer_groups)
        paths += [path_of(ResourceKind.ENI, name) for name in ids.enis.union(*far)]
        found = {path: self.object_at(path) for path in sorted(paths)}
        return {path: fields for path, fields in found.items() if fields is not None}

    def instances(self) -> set[str]:
        """Return the instances of its own ENIs."""
        return {str(self._state(ResourceKind.ENI, eni).get("instance_id", "")) for eni in self.ids.enis} - {""}

    def object_at(self, path: Path) -> Fields | None:
        """Return as much of a document as belongs to the closure; None if nothing does."""
        kind, name, ids = kind_of(path), name_of(path), self.ids
        body = self.links.body(kind, name)
        if body is None:
            return None
        match kind:
            case ResourceKind.VPC | ResourceKind.PREFIX_LIST | ResourceKind.PORT_LIST:
                return state_in(body) if path in ids.vpcs or path in ids.lists else None
            case ResourceKind.GROUP:
                return state_in(body) if name in ids.own else stub(body) if name in ids.named else None
            case ResourceKind.INSTANCE:
                return state_in(body) if self._has_instance(name) else None
            case ResourceKind.ENI if name in ids.enis:
                return self._own_eni(state_in(body))
            case ResourceKind.ENI:
                return far_end(body, ids.peer_groups, is_told=ids.is_told)
        return None

    def _state(self, kind: ResourceKind, name: str) -> Fields:
        body = self.links.body(kind, name)
        return state_in(body) if body else {}

    def _own_eni(self, state: Fields) -> Fields:
        instance = str(state.get("instance_id", ""))
        if not instance or self._has_instance(instance):
            return state
        return {name: value for name, value in state.items() if name != "instance_id"}

    def _has_instance(self, instance: str) -> bool:
        """Whether the primary ENI of an instance is among its own.

        An instance without one would be no valid state, except on the classic network.
        """
        own = self.ids.enis.intersection(self.links.enis_of_instance(instance))
        return any(self._is_enough(self._state(ResourceKind.ENI, eni)) for eni in own)

    def _is_enough(self, state: Fields) -> bool:
        if is_primary(state):
            return True
        vpc = self._state(ResourceKind.VPC, str(state.get("vpc_id", "")))
        return vpc.get("network_type") == NetworkType.CLASSIC.value

"""The part of all documents that a heavy answer follows from: the closure of the ENIs concerned.

Owns which ENIs a call concerns. Must not know who computes the answer. Nothing is refused here: a call that can't be
read concerns nothing, and is refused where its answer is computed.

The answer is the one that all documents give (tests/control/test_parts.py), and takes as long as the part is large:

- SgdpExplain concerns its ENI, and the one of the same VPC that has the remote address;
- SgdpDiff concerns the group's members. What it proposes may name other groups and lists than the group does now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from sgdataplane.control.actions.engine import random_id
from sgdataplane.control.actions.rules import native_rule
from sgdataplane.control.actions.scope import Scope
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.net.values import Address, Direction, Prefix
from sgdataplane.store.call import Call
from sgdataplane.store.closure import Closure, ClosureIds, GroupFacts
from sgdataplane.store.documents import (
    Documents,
    ResourceKind,
    Workspace,
    about,
    find_named,
    kind_of,
    name_of,
    path_of,
    texts,
)
from sgdataplane.store.interface import Body, Path, Revision

PROPOSED = {"Permissions": Direction.INGRESS, "EgressPermissions": Direction.EGRESS}
MEMBER_ONLY = {"member_only": True}


def part_for(documents: Documents, call: Call) -> Documents:
    """Return the documents that the answer to SgdpDiff or SgdpExplain follows from."""
    scope = Scope(Workspace(documents), call, random_id)
    if call.action == "SgdpExplain":
        return _part(scope.workspace, {*_ends(scope)})
    group_id = scope.text("SecurityGroupId")
    if scope.groups.get(group_id) is None:
        return _part(scope.workspace, ())
    return _part(scope.workspace, scope.workspace.members(group_id), {group_id: frozenset(_find_proposed(scope))})


def _ends(scope: Scope) -> Iterator[str]:
    """Yield the ENIs at both ends of the packet that is asked about."""
    eni = scope.enis.get(scope.text("NetworkInterfaceId"))
    if eni is None:
        return
    yield eni.id
    with suppress(ValueError):
        is_in = Direction(scope.text("Direction", "ingress").lower()) is Direction.INGRESS
        far = Address.parse(scope.text("SourceIp" if is_in else "DestIp"))
        yield from map(name_of, scope.workspace.documents.taken.others(str(eni.state["vpc_id"]), Prefix.of(far)))


def _find_proposed(scope: Scope) -> Iterator[Path]:
    """Yield the groups and lists that proposed rules name."""
    for name, direction in PROPOSED.items():
        for asked in scope.objects(name):
            with suppress(ApiError):
                yield from find_named([native_rule(asked, direction)])


def _part(workspace: Workspace, enis: Collection[str], more: Mapping[str, frozenset[Path]] | None = None) -> Documents:
    """Return the closure of ENIs and of further groups; of these it is said what else they will name."""
    links = _Links(workspace, more or {})
    own = {group for eni in enis for group in texts(workspace.state(ResourceKind.ENI, eni), "security_group_ids")}
    ids = ClosureIds.of(enis, frozenset(own.union(links.more)), links.facts, is_told=True)
    puts: dict[Path, Body] = {}
    for path, fields in Closure(ids, links).objects().items():
        kind, name = kind_of(path), name_of(path)
        is_far = kind is ResourceKind.ENI and name not in ids.enis
        whole = workspace.get(kind, name) if name in ids.own else None
        puts[path] = {"state": {**fields, **MEMBER_ONLY} if is_far else fields, "about": about(whole) if whole else {}}
    return Documents().after(Revision(workspace.documents.revision, puts, frozenset(), frozenset()))


@dataclass(frozen=True, slots=True)
class _Links:
    """Finds the objects of a closure by the documents' indexes."""

    workspace: Workspace
    more: Mapping[str, frozenset[Path]]
    """What groups will name, besides what they name now."""
    _facts: dict[str, GroupFacts | None] = field(default_factory=dict)

    def facts(self, group: str) -> GroupFacts | None:
        if group not in self._facts:
            body = self.body(ResourceKind.GROUP, group)
            found = GroupFacts.of(body) if body else None
            if found and group in self.more:
                found = GroupFacts(found.vpc_id, found.names | self.more[group])
            self._facts[group] = found
        return self._facts[group]

    def body(self, kind: ResourceKind, name: str, /) -> Body | None:
        return self.workspace.documents.get(path_of(kind, name))

    def members(self, group: str, /) -> Collection[str]:
        return self.workspace.members(group)

    def enis_of_instance(self, instance: str, /) -> Collection[str]:
        return [name_of(path) for path in self.workspace.users(ResourceKind.INSTANCE, instance, ResourceKind.ENI)]

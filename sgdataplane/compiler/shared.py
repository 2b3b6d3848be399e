"""Know what all profiles of a policy share: the order of permissions on groups, and the addresses of what rules name.

Owns the question whether any of it differs from an earlier policy: if nothing does, it is the same object. It must not
know chains or maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sgdataplane.compiler.ranks import Ranks, begins_inner, inner_level, ranks_of
from sgdataplane.model.decision import Decision
from sgdataplane.model.state import GroupRef, Remote
from sgdataplane.net.ranges import Ranges, unite
from sgdataplane.net.values import Direction, Family
from sgdataplane.policy.resolve import HostPolicy, Permission, Profile

Addresses = Mapping[Remote, Mapping[Family, Ranges]]


@dataclass(frozen=True, eq=False)
class Order:
    """The ranks of all permissions on groups, and of other refusals. Two of them are compared by identity."""

    on_groups: Mapping[Direction, tuple[tuple[Permission, ...], ...]]
    """The permissions on groups, of each profile."""
    refusals: Mapping[Direction, tuple[tuple[Decision, ...], ...]]
    """The decisions of other permissions that refuse, of each profile."""
    is_inner_first: Mapping[Direction, tuple[bool, ...]]
    """Whether each profile begins with inner accept."""
    inner: Mapping[Direction, int]
    """The level of inner accept."""
    ranks: Ranks
    """The ranks."""
    named_groups: frozenset[str]
    """The groups that permissions name."""

    @classmethod
    def of(cls, profiles: Sequence[Profile], previous: Order | None) -> Order:
        """Order the permissions of these profiles. If nothing differs, the result is `previous`."""
        on_groups = {side: tuple([profile.on_groups[side] for profile in profiles]) for side in Direction}
        refusals = {side: tuple([profile.refusals[side] for profile in profiles]) for side in Direction}
        is_first = {side: tuple([begins_inner(p.permissions(side)) for p in profiles]) for side in Direction}
        asked = (on_groups, refusals, is_first)
        if previous is not None and (previous.on_groups, previous.refusals, previous.is_inner_first) == asked:
            return previous
        inner = {side: inner_level(on_groups[side], is_first[side]) for side in Direction}
        every = [permission for of_side in on_groups.values() for some in of_side for permission in some]
        others = [decision for of_side in refusals.values() for some in of_side for decision in some]
        ranks = ranks_of([*(permission.decision for permission in every), *others], inner)
        named_groups = frozenset(p.remote.security_group_id for p in every if isinstance(p.remote, GroupRef))
        return cls(on_groups, refusals, is_first, inner, ranks, named_groups)


@dataclass(frozen=True, eq=False)
class RemoteBlocks:
    """The address ranges of all groups and prefix lists that profiles name. Two of them are compared by identity.

    The ranges of a group are the prefixes that are delegated to its members.
    """

    references: Sequence[Mapping[Direction, tuple[Remote, ...]]] = ()
    """The groups and prefix lists that each profile names."""
    ranges: Addresses = field(default_factory=dict)

    @classmethod
    def of(cls, policy: HostPolicy, previous: RemoteBlocks) -> RemoteBlocks:
        """Read the ranges of a policy. The result is `previous`, of a similar policy, if nothing has changed."""
        references = [profile.references for profile in policy.profiles]
        if references == previous.references:
            named = iter(previous.ranges)
        else:
            named = iter(dict.fromkeys(r for of_profile in references for some in of_profile.values() for r in some))
        ranges = {remote: _ranges(policy, remote) for remote in named}
        return previous if ranges == previous.ranges else cls(references, ranges)


def _ranges(policy: HostPolicy, remote: Remote) -> Mapping[Family, Ranges]:
    if isinstance(remote, GroupRef):
        return {family: unite(policy.members.list_delegated(remote.security_group_id, family)) for family in Family}
    return {family: unite(policy.remotes[remote][family].ranges) for family in Family}

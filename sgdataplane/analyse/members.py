"""What a change would accept from hypothetical members of groups.

These are ENIs that aren't there or have no address yet, and members of groups that a state lacks, of whom nothing is
known.

Owns which sets of groups such a far end may be in, and which of its traffic real members show already. Is given two
states and the comparison of their policies. Must not know which ENIs are compared.

Only the groups that a policy names matter for it. A hypothetical member is in one of them, or in those of them that
some ENI is in, and in no other. Its address may be any address.

A member of a group that a state lacks may be in any other group that the policy names, too. Two groups are enough to
see what opens: that of the rule that accepts, and that of the rule that dropped before. A group that only one of the
states lacks may have other members there than in the other one, so its members are in it in that state only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from itertools import product
from typing import NamedTuple

from sgdataplane.analyse.change import ChangedTraffic, Key, Pairs, Policies, list_changed_traffic
from sgdataplane.analyse.order import MemberAddresses, PermissionOrder
from sgdataplane.analyse.regions import Block, Region, without
from sgdataplane.model.decision import Decision
from sgdataplane.model.pending import PendingEni
from sgdataplane.model.state import CloudState, Eni, GroupRef
from sgdataplane.net.ranges import Ranges, meet, unite
from sgdataplane.net.values import Direction, Family, Verdict
from sgdataplane.policy.resolve import Permission, members

Keys = tuple[Key | None, Key | None]
Groups = frozenset[str]
NONE: Groups = frozenset()
MAX_COMPARED = 100_000  # pairs of blocks; if there are more, what opens anyway is reported again for members
MAX_TOGETHER = 200  # pairs of groups; if there are more, one member stands for all, in each group that lets it in


class FarMember(NamedTuple):
    """A far end that may be any address, and the groups that it is in before and after."""

    before: Groups
    """The groups that it is in before the change."""
    after: Groups
    """The groups that it is in after the change."""
    name: str = ""
    """The name of an interface that a plan makes, which is in no group before."""
    unknown: Groups = NONE
    """Those of its groups that a state lacks."""

    @property
    def groups(self) -> tuple[str, ...]:
        """All groups that it is in, before or after, sorted."""
        return tuple(sorted(self.before | self.after))


MemberParts = tuple[FarMember, list[ChangedTraffic]]


class MemberOpenings:
    """What policies would accept from hypothetical members after a change and not before it."""

    def __init__(self, before: CloudState, after: CloudState, pairs: Pairs, pending: Iterable[PendingEni] = ()) -> None:
        self._states, self._pairs, self._pending = (before, after), pairs, tuple(pending)
        self._changed = cache(self._make_changed)

    @cached_property
    def _together(self) -> dict[str, set[Groups]]:
        """The sets of groups that one ENI is in, by each of these groups."""
        found: dict[str, set[Groups]] = {}
        for groups in {eni.security_group_ids for state in self._states for eni in state.network_interfaces}:
            for group_id in groups:
                found.setdefault(group_id, set()).add(frozenset(groups))
        return found

    def of(self, keys: Keys, direction: Direction, family: Family) -> Iterator[MemberParts]:
        """Yield each kind of member from which something opens, with what opens."""
        named = self._list_named(keys, direction)
        for member in self._members(keys, named):
            found = self._find_opened(keys, member, direction, family)
            shown = self._find_unchanged_addresses(member, named, family) if found and not member.name else ()
            left = [part for part in found if not meet(part.block.far, shown)]
            if left:
                yield member, left
        yield from self.of_unknown(keys, direction, family)

    def of_unknown(self, keys: Keys, direction: Direction, family: Family) -> Iterator[MemberParts]:
        """Yield the same for members of groups that a state lacks.

        What opens for one group isn't repeated for two.
        """
        told: dict[tuple[Block, Decision], list[set[str]]] = {}
        for member in self._unknown_members(keys, direction):
            groups = set(member.groups)
            left = []
            for part in self._find_opened(keys, member, direction, family):
                before = told.setdefault((part.block, part.after), [])
                if not any(some <= groups for some in before):
                    before.append(groups)
                    left.append(part)
            if left:
                yield member, left

    def _list_named(self, keys: Keys, direction: Direction) -> Groups:
        """Return the groups that a policy names, before or after."""
        permissions = (permission for at in (0, 1) for permission in self._permissions(keys, at, direction))
        return _groups_of(permissions)

    def _permissions(self, keys: Keys, at: int, direction: Direction) -> Sequence[Permission]:
        """Return the permissions of the policy before (0) or after (1)."""
        side, key = self._sides(keys)[at]
        return () if key is None else side.profile(key).permissions(direction)

    def _members(self, keys: Keys, named: Groups) -> list[FarMember]:
        vpc_id = next(key[0] for key in keys if key is not None)
        before, after = self._states
        together = {some & named for group_id in named for some in self._together.get(group_id, ())}
        alone = {frozenset((group_id,)) for group_id in named if group_id in before.group or group_id in after.group}
        found = {
            FarMember(_groups_of_vpc(before, vpc_id, some), _groups_of_vpc(after, vpc_id, some))
            for some in together | alone
        }
        for eni in self._pending:
            groups = _groups_of_vpc(after, vpc_id, named & set(eni.security_group_ids))
            found |= {FarMember(NONE, groups, eni.name)} if eni.vpc_id == vpc_id and groups else set()
        return sorted(found, key=lambda member: (member.name, member.groups, sorted(member.before)))

    def _unknown_members(self, keys: Keys, direction: Direction) -> list[FarMember]:
        """Return members of groups that a state lacks.

        They are in each such group alone, and in each two groups of which one lets in what the other one dropped.
        """
        dropping = _groups_of(p for p in self._permissions(keys, 0, direction) if p.decision.verdict is Verdict.DROP)
        accepting = _groups_of(p for p in self._permissions(keys, 1, direction) if p.decision.verdict is Verdict.ACCEPT)
        unknown = (dropping | accepting) & (self._states[0].unknown_groups | self._states[1].unknown_groups)
        if not unknown:
            return []
        vpc_id = next(key[0] for key in keys if key is not None)
        found = {self._unknown_member(vpc_id, frozenset((group_id,))) for group_id in unknown}
        if len(dropping) * len(accepting) > MAX_TOGETHER:
            found.add(FarMember(dropping, accepting, unknown=unknown))
        else:
            pairs = (frozenset(pair) for pair in product(dropping, accepting) if not unknown.isdisjoint(pair))
            found |= {self._unknown_member(vpc_id, pair) for pair in pairs}
        return sorted(found, key=lambda member: (len(member.groups), member.groups))

    def _unknown_member(self, vpc_id: str, some: Groups) -> FarMember:
        before, after = (state.unknown_groups & some for state in self._states)
        known_before, known_after = (_groups_of_vpc(state, vpc_id, some) for state in self._states)
        return FarMember(before | (known_before - after), after | (known_after - before), unknown=before | after)

    def _find_opened(self, keys: Keys, member: FarMember, direction: Direction, family: Family) -> list[ChangedTraffic]:
        """Return what opens from such a member, without what opens from anybody at the same addresses.

        Parts of which only some does stay whole, so that they are easy to describe.
        """
        found = self._changed(keys, (member.before, member.after), direction, family)
        anyway = self._changed(keys, (NONE, NONE), direction, family)
        if not found or len(found) * len(anyway) > MAX_COMPARED:
            return list(found)
        region: Region = tuple(part.block for part in anyway)
        return [part for part in found if without((part.block,), region)]

    def _make_changed(
        self, keys: Keys, groups: tuple[Groups, Groups], direction: Direction, family: Family
    ) -> tuple[ChangedTraffic, ...]:
        orders = [
            self._order(side, key, some, direction, family)
            for (side, key), some in zip(self._sides(keys), groups, strict=True)
        ]
        changed = list_changed_traffic(orders[0], orders[1], self._pairs.options)
        return tuple(part for part in changed if part.after.verdict is Verdict.ACCEPT)

    def _order(
        self, side: Policies, key: Key | None, groups: Groups, direction: Direction, family: Family
    ) -> PermissionOrder:
        if key is None:
            return side.order(key, direction, family)
        far = MemberAddresses(side.far, groups)
        return PermissionOrder.of(side.profile(key).permissions(direction), family, far)

    def _sides(self, keys: Keys) -> tuple[tuple[Policies, Key | None], tuple[Policies, Key | None]]:
        return (self._pairs.before, keys[0]), (self._pairs.after, keys[1])

    def _find_unchanged_addresses(self, member: FarMember, named: Groups, family: Family) -> Ranges:
        """Return the addresses of real ENIs that are in the same groups before and after."""
        before, after = self._states
        some = next(iter(member.after), None)
        enis = after.enis_of_group[some] if some is not None else ()

        def is_alike(eni: Eni) -> bool:
            was = before.eni.get(eni.network_interface_id)
            groups = NONE if was is None else named & set(was.security_group_ids)
            return named & set(eni.security_group_ids) == member.after and groups == member.before

        found = members(filter(is_alike, enis), family)
        return unite((*((single, single) for single in found.singles), *found.ranges))


def _groups_of(permissions: Iterable[Permission]) -> Groups:
    """Return the groups that permissions have as remotes."""
    return frozenset(p.remote.security_group_id for p in permissions if isinstance(p.remote, GroupRef))


def _groups_of_vpc(state: CloudState, vpc_id: str, groups: Groups) -> Groups:
    """Return the groups that the state has in this VPC."""
    return frozenset(g for g in groups if g in state.group and state.group[g].vpc_id == vpc_id)

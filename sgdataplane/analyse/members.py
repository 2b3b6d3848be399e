"""What a change would accept from hypothetical members of groups: from ENIs that aren't there, or have no address yet.

Owns which sets of groups such a far end may be in, and which of its traffic real members show already. Is given two
states and the comparison of their policies. Must not know which ENIs are looked at.

Only the groups that a policy names matter for it. A hypothetical member is in one of them, or in those of them that
some ENI is in, and in no other. Its address may be any address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from typing import NamedTuple

from sgdataplane.analyse.change import ChangedTraffic, Key, Pairs, Policies, changed_traffic
from sgdataplane.analyse.order import MemberAddresses, PermissionOrder
from sgdataplane.analyse.regions import Region, without
from sgdataplane.model.pending import PendingEni
from sgdataplane.model.state import CloudState, Eni, GroupRef
from sgdataplane.net.ranges import Ranges, meet, united
from sgdataplane.net.values import Direction, Family, Verdict
from sgdataplane.policy.resolve import members

Keys = tuple[Key | None, Key | None]
Groups = frozenset[str]
NONE: Groups = frozenset()
MAX_COMPARED = 100_000  # pairs of blocks; beyond, what opens anyway is told once more for members


class FarMember(NamedTuple):
    """A far end that may be any address, and the groups that it is in before and after. `name`: of an interface that
    a plan makes, which is in none before."""

    before: Groups
    after: Groups
    name: str = ""

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(sorted(self.before | self.after))


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

    def of(self, keys: Keys, direction: Direction, family: Family) -> Iterator[tuple[FarMember, list[ChangedTraffic]]]:
        """Each kind of member from which something opens, with what does."""
        named = self._named(keys, direction)
        for member in self._members(keys, named):
            found = self._opened(keys, member, direction, family)
            shown = self._shown(member, named, family) if found and not member.name else ()
            left = [part for part in found if not meet(part.block.far, shown)]
            if left:
                yield member, left

    def _named(self, keys: Keys, direction: Direction) -> Groups:
        """The groups that a policy names, before or after."""
        profiles = (side.profile(key) for side, key in self._sides(keys) if key is not None)
        remotes = (remote for profile in profiles for remote in profile.references[direction])
        return frozenset(remote.security_group_id for remote in remotes if isinstance(remote, GroupRef))

    def _members(self, keys: Keys, named: Groups) -> list[FarMember]:
        vpc_id = next(key[0] for key in keys if key is not None)
        together = {some & named for group_id in named for some in self._together.get(group_id, ())}
        alone = {frozenset((group_id,)) for group_id in named}
        before, after = self._states
        found = {FarMember(_known(before, vpc_id, some), _known(after, vpc_id, some)) for some in together | alone}
        for eni in self._pending:
            groups = _known(after, vpc_id, named & set(eni.security_group_ids))
            found |= {FarMember(NONE, groups, eni.name)} if eni.vpc_id == vpc_id and groups else set()
        return sorted(found, key=lambda member: (member.name, member.groups, sorted(member.before)))

    def _opened(self, keys: Keys, member: FarMember, direction: Direction, family: Family) -> list[ChangedTraffic]:
        """What opens from such a member, without what opens from anybody at the same addresses. (Parts of which only
        some does stay whole, so that they are easy to say.)"""
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
        changed = changed_traffic(orders[0], orders[1], self._pairs.options)
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

    def _shown(self, member: FarMember, named: Groups, family: Family) -> Ranges:
        """The addresses of real ENIs that are in the same groups before and after."""
        before, after = self._states
        some = next(iter(member.after), None)
        enis = after.enis_of_group[some] if some is not None else ()

        def is_alike(eni: Eni) -> bool:
            was = before.eni.get(eni.network_interface_id)
            groups = NONE if was is None else named & set(was.security_group_ids)
            return named & set(eni.security_group_ids) == member.after and groups == member.before

        found = members(filter(is_alike, enis), family)
        return united((*((single, single) for single in found.singles), *found.ranges))


def _known(state: CloudState, vpc_id: str, groups: Groups) -> Groups:
    """Those of the groups that the state has in this VPC."""
    return frozenset(g for g in groups if g in state.group and state.group[g].vpc_id == vpc_id)

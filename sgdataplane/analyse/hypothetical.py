"""What a change would accept at ENIs that aren't there.

Such an ENI may be in a group without ENIs, may have an address that no ENI has, or may be an interface of a plan that
has no address yet. What it would accept from such ENIs as members of groups counts, too, even from groups that a state
lacks.

Owns which hypothetical ENIs are judged, and which of their traffic real ENIs show already. Is given two states and the
comparison of their policies. Must not know files, nor how anything is printed.

A hypothetical ENI is in one group alone, or in a combination of groups that some ENI has. It may have any address. It
is judged only where the change touches one of its groups. Before the change, it was in those of its groups that
existed; if none did, nothing passed. Only what opens is reported.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from sgdataplane.analyse.arrangement import LOCAL_AT
from sgdataplane.analyse.change import ChangedTraffic, Pairs
from sgdataplane.analyse.members import FarMember, Keys, MemberOpenings
from sgdataplane.analyse.regions import Block, addresses, common, ranges_of
from sgdataplane.analyse.rows import JudgedTraffic, judge_traffic
from sgdataplane.analyse.view import Exposure, Frame, VerdictChange
from sgdataplane.model.options import Options
from sgdataplane.model.pending import PendingEni
from sgdataplane.model.state import CloudState, Eni, GroupRef, NetworkType, NicType
from sgdataplane.net.ranges import Ranges, meet, minus
from sgdataplane.net.values import Direction, Family, Verdict
from sgdataplane.policy.reach import Reach

LOCAL = LOCAL_AT + 1  # its place in a block, which begins with the far address


class EniPlace(NamedTuple):
    """The groups and network that an ENI may be in."""

    vpc_id: str
    security_group_ids: tuple[str, ...]
    nic_type: NicType = NicType.INTRANET
    name: str = ""
    """The name of an interface that a plan makes, or of a real ENI that joins; else empty."""


class Occupancy(enum.Enum):
    """Who is in the groups of a hypothetical ENI after the change.

    Where other ENIs are there, each of them shows all the rest that opens.
    """

    EMPTY = "no ENI yet"
    APART = "no ENI is in these groups only"
    FURTHER = "any further ENI"
    PLANNED = "its address isn't known yet"
    JOINING = "new in it"


@dataclass(frozen=True, slots=True)
class WouldOpen:
    """What opens at a hypothetical ENI, in one direction and family."""

    place: EniPlace
    """Where the ENI is."""
    occupancy: Occupancy
    """Who else is there."""
    remote: FarMember | None
    """The hypothetical member at the far end; None for anybody."""
    changes: tuple[VerdictChange, ...]
    """The traffic that would pass after the change and didn't before."""
    exposures: tuple[Exposure, ...] = ()
    """The part of it that opens to the internet."""

    @property
    def is_there(self) -> bool:
        """Whether the ENI is in the second state, and only the far end is hypothetical."""
        return self.occupancy is Occupancy.JOINING


class HypotheticalDiff:
    """Hypothetical ENIs before and after a change."""

    def __init__(
        self, before: CloudState, after: CloudState, pairs: Pairs, reach: Reach, pending: Iterable[PendingEni] = ()
    ) -> None:
        self._before, self._after, self._pairs, self._reach = before, after, pairs, reach
        self._pending = tuple(pending)
        self._members = MemberOpenings(before, after, pairs, self._pending)
        self._known: dict[str, bool] = {}

    def places(self) -> list[EniPlace]:
        """Return the hypothetical ENIs that the change concerns, sorted."""
        states = (self._before, self._after)
        shown = {_place_of(eni) for state in states for eni in state.judged_enis}
        alone = {place for state in states for place in _alone(state)}
        planned = {EniPlace(eni.vpc_id, tuple(sorted(eni.security_group_ids))) for eni in self._pending}
        found = {place for place in shown | alone | planned if any(map(self._concerns, place.security_group_ids))}
        named = {EniPlace(eni.vpc_id, tuple(sorted(eni.security_group_ids)), name=eni.name) for eni in self._pending}
        found |= named | self._joining.keys()
        return sorted(found, key=lambda place: (place.name, place[:2], place.nic_type.value))

    def at(self, place: EniPlace) -> Iterator[WouldOpen]:
        """Yield what would open at such an ENI, or from such members of groups to it."""
        keys = self._keys(place)
        if keys != (None, None):
            look = self._from_unknown if place in self._joining else self._at
            for direction in Direction:
                for family in Family:
                    yield from look(_DirectionView(self._pairs.options, direction, family), place, keys)

    def _at(self, side: _DirectionView, place: EniPlace, keys: Keys) -> Iterator[WouldOpen]:
        """Yield what opens from anybody that no real ENI shows; then from hypothetical members, group by group."""
        shown = side.openings_of([eni for eni in self._alike.get(place, []) if not self._is_audited(eni)])
        changed = self._pairs.changed(*keys, side.direction, side.family)
        found = side.list_openings(changed, shown)
        if found:
            opened = self._pairs.opened(*keys, side.family) if side.direction is Direction.INGRESS else ()
            exposures = tuple(side.exposures(opened, shown))
            yield WouldOpen(place, self._occupancy(place), None, found, exposures)
        if any(map(self._is_about_members, place.security_group_ids)):
            for member, parts in self._members.of(keys, side.direction, side.family):
                found = side.list_openings(parts)
                if found:
                    yield WouldOpen(place, self._occupancy(place), member, found)

    def _from_unknown(self, side: _DirectionView, place: EniPlace, keys: Keys) -> Iterator[WouldOpen]:
        """Yield what opens from members of groups that a state lacks.

        The ENI itself is there, and its own rows show the rest.
        """
        for member, parts in self._members.of_unknown(keys, side.direction, side.family):
            found = side.list_openings(parts)
            if found:
                yield WouldOpen(place, Occupancy.JOINING, member, found)

    @cached_property
    def _joining(self) -> dict[EniPlace, Eni | None]:
        """The ENIs that come into groups whose rules name one that the state lacks, and what each was before.

        There is one new or moved ENI for each way in which ENIs come into such groups.
        """
        found: dict[tuple[EniPlace | None, EniPlace], tuple[EniPlace, Eni | None]] = {}
        for eni in self._after.judged_enis if self._after.unknown_groups else ():
            was, place = self._before.eni.get(eni.network_interface_id), _place_of(eni)
            before = None if was is None else _place_of(was)
            if before != place and any(
                self._list_named(g) & self._after.unknown_groups for g in place.security_group_ids
            ):
                found.setdefault((before, place), (place._replace(name=eni.network_interface_id), was))
        return dict(found.values())

    def _occupancy(self, place: EniPlace) -> Occupancy:
        if place.name:
            return Occupancy.PLANNED
        if self._alike.get(place):
            return Occupancy.FURTHER
        is_empty = not any(self._after.enis_of_group.get(group_id) for group_id in place.security_group_ids)
        return Occupancy.EMPTY if is_empty else Occupancy.APART

    def _keys(self, place: EniPlace) -> Keys:
        """Return the keys of the policies before and after the change.

        An interface that a plan makes isn't there before; an ENI that joins was where it was.
        """
        was = self._joining.get(place)
        before = () if place.name else self._before_groups(place)
        after = _groups_in(self._after, place.vpc_id, place.security_group_ids)
        old = _eni(place, before) if before else was
        return (
            self._pairs.before.key(old) if old else None,
            self._pairs.after.key(_eni(place, after)) if after else None,
        )

    def _before_groups(self, place: EniPlace) -> tuple[str, ...]:
        return _groups_in(self._before, place.vpc_id, place.security_group_ids)

    def _is_audited(self, eni: Eni) -> bool:
        """Return whether a real ENI is in audit mode before or after, so that it shows changes of its own."""
        was = self._before.eni.get(eni.network_interface_id)
        return eni.is_audited or (was is not None and was.is_audited)

    @cached_property
    def _alike(self) -> dict[EniPlace, list[Eni]]:
        """The ENIs at a place that show what changes there: they were there before as well, or not at all."""
        found: dict[EniPlace, list[Eni]] = {}
        for eni in self._after.judged_enis:
            place, was = _place_of(eni), self._before.eni.get(eni.network_interface_id)
            if was is None or _place_of(was) == place._replace(security_group_ids=self._before_groups(place)):
                found.setdefault(place, []).append(eni)
        return found

    def _concerns(self, group_id: str) -> bool:
        if group_id not in self._known:
            self._known[group_id] = self._reach.touches_group(group_id) or self._names_pending(group_id)
        return self._known[group_id]

    def _is_about_members(self, group_id: str) -> bool:
        is_changed = self._reach.changes_rules(group_id) or bool(self._list_named(group_id) & self._in_view_of_one)
        return is_changed or self._names_pending(group_id)

    @cached_property
    def _in_view_of_one(self) -> frozenset[str]:
        """The groups that rules name and that one of the states lacks."""
        return self._before.unknown_groups ^ self._after.unknown_groups

    def _list_named(self, group_id: str) -> frozenset[str]:
        """Return the groups that this one's rules name after the change."""
        rules = self._after.group[group_id].rules if group_id in self._after.group else ()
        return frozenset(rule.remote.security_group_id for rule in rules if isinstance(rule.remote, GroupRef))

    @cached_property
    def _pending_groups(self) -> frozenset[str]:
        return frozenset(group_id for eni in self._pending for group_id in eni.security_group_ids)

    def _names_pending(self, group_id: str) -> bool:
        """Return whether the group has a member without an address, or names a group that has one."""
        if not self._pending or group_id not in self._after.group:
            return False
        return not self._pending_groups.isdisjoint({group_id, *self._list_named(group_id)})


@dataclass(frozen=True)
class _DirectionView:
    """One direction and family at hypothetical ENIs."""

    options: Options
    direction: Direction
    family: Family

    @cached_property
    def far(self) -> Ranges:
        """The far addresses whose traffic rules judge."""
        is_egress = self.direction is Direction.EGRESS
        return minus(addresses(self.family), ranges_of(self.options.metadata if is_egress else (), self.family))

    @cached_property
    def frame(self) -> Frame:
        """How this traffic is reported."""
        return Frame(self.direction, self.family, self.far, addresses(self.family), self.options)

    def list_openings(self, parts: Iterable[ChangedTraffic], shown: _Shown | None = None) -> tuple[VerdictChange, ...]:
        """Return what opens there that rules judge, without what is shown already."""
        region = JudgedTraffic(self.far, addresses(self.family)).region(self.family)
        opening = (part for part in parts if part.after.verdict is Verdict.ACCEPT)
        judged = (ChangedTraffic(b, *part[1:]) for part in opening for b in common((part.block,), region))
        left = (part if shown is None else shown.without(part) for part in judged)
        return tuple(self.frame.changes("", [part for part in left if part is not None]))

    def exposures(self, opened: Iterable[Block], shown: _Shown) -> list[Exposure]:
        """Return what opens to the internet, without what is shown already."""
        left = map(shown.at_other_addresses, opened)
        return self.frame.exposures("", [block for block in left if block is not None])

    def openings_of(self, enis: Iterable[Eni]) -> _Shown:
        """Return what these ENIs show. Which traffic of an ENI is judged is worked out when it is needed."""
        options, known = self.options, dict[str, JudgedTraffic]()

        def scope_of(eni: Eni) -> JudgedTraffic:
            eni_id = eni.network_interface_id
            if eni_id not in known:
                known[eni_id] = judge_traffic(eni, self.direction, self.family, options)
            return known[eni_id]

        return _Shown(tuple(enis), scope_of)


@dataclass(frozen=True, slots=True)
class _Shown:
    """The traffic of real ENIs. A range of local addresses is shown by an ENI that has one of them."""

    enis: tuple[Eni, ...]
    scope_of: Callable[[Eni], JudgedTraffic]
    """Returns the traffic of an ENI that rules judge."""

    def without(self, part: ChangedTraffic) -> ChangedTraffic | None:
        """Return the part at local addresses where no ENI shows any of it; None if there are none."""
        left = self._find_left(part.block, (scope for scope in self._scopes() if meet(scope.far, part.block.far)))
        return None if left is None else ChangedTraffic(left, part.before, part.after)

    def at_other_addresses(self, block: Block) -> Block | None:
        """Return the same for a block, whatever the far address."""
        return self._find_left(block, self._scopes())

    def _scopes(self) -> Iterator[JudgedTraffic]:
        return (scope for eni in self.enis if (scope := self.scope_of(eni)).far)

    def _find_left(self, block: Block, scopes: Iterable[JudgedTraffic]) -> Block | None:
        left = block[LOCAL]
        for scope in scopes:
            left = tuple(interval for interval in left if not meet((interval,), scope.local))
            if not left:
                return None
        return Block((*block[:LOCAL], left, *block[LOCAL + 1 :]))


def _place_of(eni: Eni) -> EniPlace:
    return EniPlace(eni.vpc_id, tuple(sorted(eni.security_group_ids)), eni.nic_type)


def _alone(state: CloudState) -> Iterator[EniPlace]:
    """Yield an ENI that is in one group only, for each group; in the classic network, one of each NIC type."""
    for group in state.security_groups:
        is_classic = state.vpc[group.vpc_id].network_type is NetworkType.CLASSIC
        for nic_type in NicType if is_classic else (NicType.INTRANET,):
            yield EniPlace(group.vpc_id, (group.security_group_id,), nic_type)


def _groups_in(state: CloudState, vpc_id: str, group_ids: Iterable[str]) -> tuple[str, ...]:
    """Return the groups that the state has in this VPC."""
    return tuple(g for g in group_ids if g in state.group and state.group[g].vpc_id == vpc_id)


def _eni(place: EniPlace, groups: tuple[str, ...]) -> Eni:
    return Eni("", place.vpc_id, "", (), groups, nic_type=place.nic_type)

"""From one order of permissions to another: the traffic whose verdict changes, and what decides it before and after.

Owns that comparison, and that it is made once for all ENIs with the same groups. Is given two states. Must not know an
ENI's addresses.

Permissions are compared by what they do, not by their names: those of equal strength and shape are one candidate, whose
far addresses are those of all of them. Where the same candidates hold before and after, nothing can have changed. That
is true for all far addresses except those that a candidate has gained or lost, so only these are examined.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from sgdataplane.analyse.arrangement import Arrangement, Mask, Shape, bits, either, mask_of, overlay
from sgdataplane.analyse.internet import find_opened
from sgdataplane.analyse.order import FarAddresses, PermissionOrder
from sgdataplane.analyse.regions import Block, Region, common, merge, without
from sgdataplane.model.decision import ABSENT, INNER_ACCEPT, RULE, Decision
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState, Eni, NicType
from sgdataplane.net.ranges import Ranges, meet, symmetric_difference, unite
from sgdataplane.net.values import Direction, Family, Verdict
from sgdataplane.policy.modes import of_mode
from sgdataplane.policy.resolve import Permission, Profile, resolve_profile

# VPC, groups, NIC type, and whether the ENI is in audit mode: in one state, a policy follows from these.
Key = tuple[str, tuple[str, ...], NicType, bool]
# Stage, priority, and whether it accepts: the smallest decides. Then whether the packet passes, which differs from
# that only in audit mode.
Strength = tuple[int, int, bool, bool]
Candidate = tuple[Strength, Shape]


class ChangedTraffic(NamedTuple):
    """Traffic that one decision decides before and one after, whose verdicts differ."""

    block: Block
    before: Decision
    after: Decision


class Policies:
    """The policies of one state, each made once.

    They include rules whose remote is a group that the state lacks. Such rules match nobody, unless an address is
    assumed to be a member of the group (`MemberAddresses`).
    """

    def __init__(self, state: CloudState, options: Options) -> None:
        self._state, self._options = state, options
        self.far = FarAddresses(state)
        self._examples: dict[Key, Eni] = {}
        self.profile = cache(self._make_profile)
        self.order = cache(self._make_order)

    def key(self, eni: Eni) -> Key:
        """Return the key under which the ENI's order can be looked up from now on."""
        key = eni.vpc_id, tuple(sorted(eni.security_group_ids)), eni.nic_type, eni.is_audited
        self._examples.setdefault(key, eni)
        return key

    def _make_profile(self, key: Key) -> Profile:
        eni = self._examples[key]
        return of_mode(resolve_profile(self._state, eni, self._options, with_unknown=True), eni)

    def _make_order(self, key: Key | None, direction: Direction, family: Family) -> PermissionOrder:
        if key is None:
            return PermissionOrder.of((Permission(Decision(direction, Verdict.DROP, ABSENT)),), family, self.far)
        return PermissionOrder.of(self.profile(key).permissions(direction), family, self.far)


class Pairs:
    """The policies of two states compared, each pair of keys once.

    Key None stands for an ENI that isn't there, whose traffic never passes.
    """

    def __init__(self, before: CloudState, after: CloudState, options: Options) -> None:
        self.before, self.after = Policies(before, options), Policies(after, options)
        self.options = options
        self.changed = cache(self._compare)
        self.opened = cache(self._find_opened)

    def _compare(
        self, before: Key | None, after: Key | None, direction: Direction, family: Family
    ) -> tuple[ChangedTraffic, ...]:
        orders = self.before.order(before, direction, family), self.after.order(after, direction, family)
        return list_changed_traffic(*orders, self.options)

    def _find_opened(self, before: Key | None, after: Key | None, family: Family) -> Region:
        """Return what opens to the internet; what is accepted is what differs from nothing."""
        was = tuple(part.block for part in self.changed(before, None, Direction.INGRESS, family))
        now = tuple(part.block for part in self.changed(None, after, Direction.INGRESS, family))
        return find_opened(was, now, family)


def list_changed_traffic(
    before: PermissionOrder, after: PermissionOrder, options: Options
) -> tuple[ChangedTraffic, ...]:
    """Return all traffic whose verdict differs, in disjoint parts; both orders are of one direction and family."""
    sides = _Side.of(before, options), _Side.of(after, options)
    every = sorted({*sides[0].far, *sides[1].far})
    changed = unite(i for one in every for i in symmetric_difference(*(side.far.get(one, ()) for side in sides)))
    found: dict[tuple[Decision, Decision], list[Block]] = {}
    for part in _parts(sides, every, changed) if changed else ():
        found.setdefault((part.before, part.after), []).append(part.block)
    return tuple(ChangedTraffic(block, *causes) for causes, blocks in found.items() for block in merge(blocks))


def strength(decision: Decision, options: Options) -> Strength:
    """Return the key by which decisions are ordered, the strongest first; equal keys mean equal verdicts."""
    is_custom_first = options.inner_accept_egress == "custom_first" and decision.direction is Direction.EGRESS
    stages, enforced = {INNER_ACCEPT: 2 if is_custom_first else 0, RULE: 1}, decision.enforced
    accepts = [each.verdict is Verdict.ACCEPT for each in (enforced, decision)]
    return stages.get(enforced.cause, 3), enforced.priority, accepts[0], accepts[1]


@dataclass(frozen=True)
class _Side:
    """One of the two orders."""

    order: PermissionOrder
    candidates: tuple[Candidate, ...]
    """The candidate that each entry is."""
    far: dict[Candidate, Ranges]
    """The far addresses of each candidate."""

    @classmethod
    def of(cls, order: PermissionOrder, options: Options) -> _Side:
        candidates = tuple((strength(entry.permission.decision, options), entry.shape) for entry in order.entries)
        sets: dict[Candidate, list[Ranges]] = {}
        for candidate, entry in zip(candidates, order.entries, strict=True):
            sets.setdefault(candidate, []).append(entry.far)
        far = {one: some[0] if len(some) == 1 else unite(i for r in some for i in r) for one, some in sets.items()}
        return cls(order, candidates, far)

    def select_candidates(self, entries: Mask, number: dict[Candidate, Mask]) -> Mask:
        """Return which candidates some entries are."""
        return either(number[self.candidates[index]] for index in bits(entries))

    def decisions(self, holding: Mask, strongest: Strength, region: Region) -> Iterator[tuple[Block, Decision]]:
        """Yield what decides each part of a region where these entries hold and none is stronger than `strongest`.

        It is the first of the equally strong ones, as `decide()` names it.
        """
        for index in bits(holding):
            entry = self.order.entries[index]
            if self.candidates[index][0] == strongest:
                mine = (Block((region[0].far, *entry.shape)),)
                for block in common(region, mine):
                    yield block, entry.permission.decision
                region = without(region, mine)
                if not region:
                    return


def _parts(sides: tuple[_Side, _Side], every: list[Candidate], changed: Ranges) -> Iterator[ChangedTraffic]:
    """Yield what differs at the far addresses that candidates have gained or lost (`changed`)."""
    before, after = sides
    family, size = before.order.family, len(before.order.entries)
    accepting = mask_of(number for number, ((*_, passes), _) in enumerate(every) if passes)
    arrangement = Arrangement([shape for _, shape in every], accepting, family)
    number = {candidate: 1 << number for number, candidate in enumerate(every)}
    entries = (*before.order.entries, *after.order.entries)
    for holding, far in overlay(
        ((meet(e.far, changed), 1 << index) for index, e in enumerate(entries)), changed
    ).items():
        old, new = holding & ((1 << size) - 1), holding >> size
        for shape, winners in arrangement.list_differing(
            before.select_candidates(old, number), after.select_candidates(new, number)
        ):
            was, becomes = (every[winner][0] for winner in winners)
            for block, decision in before.decisions(old, was, (Block((far, *shape)),)):
                others = after.decisions(new, becomes, (block,))
                yield from (ChangedTraffic(part, decision, other) for part, other in others)

"""One direction of a profile in one family: permissions in order -> decision diagrams.

Owns what is decided per kinship, and what once for many. Is given permissions in order, and the blocks of remotes. Must
not know nftables.

    far      all permissions but those on members of groups; the far address is one dimension among others
    at       the same, for addresses that are in the blocks of these remotes and of no others
    of       one kinship: decides only where a permission on its groups is the strongest, and leaves everything else to
             one of the others (Leaf.decision is None)

That is right at every point: if the strongest permission of all isn't one on their groups, it is the strongest of the
others.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import accumulate
from operator import or_
from typing import NamedTuple

from sgdataplane.compiler import cuts
from sgdataplane.compiler.classes import AddressClasses, RemoteSet
from sgdataplane.compiler.diagram import BY_PROTOCOL, EVERYTHING, Boxes, Intervals, Leaf, Node, RuleBox, bits
from sgdataplane.compiler.memo import SpaceMemo
from sgdataplane.model.state import GroupRef, Remote
from sgdataplane.net.ranges import Ranges
from sgdataplane.net.values import Family, Prefix
from sgdataplane.policy.dimensions import CONDITIONS, conditions
from sgdataplane.policy.resolve import Permission

FAR_LOOK_UPS = 4  # on a path of `far`
KIN_LOOK_UPS = 1  # on a path of a kinship's own diagram
ELSEWHERE = RuleBox(None, EVERYTHING)
EVERYWHERE = -1  # stands for the bit of a remote that has all addresses
BY_CONDITIONS = range(len(CONDITIONS))


class Kinship(NamedTuple):
    """The groups of some members, the other remotes whose blocks hold all of them, and those that hold some: as sets of
    remotes."""

    groups: RemoteSet
    holding: RemoteSet
    touching: RemoteSet


class Judge:
    """The diagrams of all permissions of one direction and family."""

    def __init__(
        self,
        permissions: Sequence[Permission],
        family: Family,
        classes: AddressClasses,
        memo: SpaceMemo,
        protocol: int | None = None,
    ) -> None:
        """`protocol`: the one that all packets have, so that no rule asks for it."""
        self._family, self._classes, self._memo = family, classes, memo
        self._far: list[RuleBox] = []
        self._near, self._kin = _Numbered(), _Numbered()  # the boxes of `at`, and those of kinships
        self._at = _BoxesOf(self._near)
        self._own, self._certain, self._partly = (_BoxesOf(self._kin) for _ in range(3))
        for permission in permissions:
            box = memo.boxes.get((permission, (family, protocol)), partial(_box, permission, family, protocol))
            if box is not None:
                self._add(box, permission.remote)
        self._boxes = Boxes([*self._kin.boxes, ELSEWHERE], family)
        self._known: dict[int, Node] = {}

    def _add(self, box: RuleBox, remote: Remote | None) -> None:
        """A kinship has a permission on its groups with its decision, and any other one without: once as it is where
        the remote holds all members (`certain`), and once for the remote's blocks only (`partly`)."""
        if remote is None or remote == Prefix(self._family.bits, 0, 0):
            self._far.append(box)
            self._at.add(box, EVERYWHERE)
            self._certain.add(_silent(box, self._memo), EVERYWHERE)
            return
        place, blocks = self._classes.places[remote], self._classes.blocks[remote]
        if isinstance(remote, GroupRef):
            self._own.add(box, place)
        if blocks:
            located = self._memo.at.get((box, blocks), partial(_at, box, blocks))
            self._far.append(located)
            self._at.add(box, place)
            self._certain.add(_silent(box, self._memo), place)
            self._partly.add(_silent(located, self._memo), place)

    def far(self) -> Node:
        """The diagram of all permissions, but for members of groups."""
        return cuts.diagram(Boxes(self._far, self._family), (1 << len(self._far)) - 1, FAR_LOOK_UPS)

    def far_key(self) -> Hashable:
        """A key for that diagram: equal keys mean equal diagrams."""
        return tuple(self._far)

    def at(self, holding: RemoteSet) -> Node:
        """The diagram of these permissions for addresses that a set of remotes holds."""
        return cuts.diagram(Boxes(self._near.boxes, self._family), self._at.of(holding), FAR_LOOK_UPS)

    def at_key(self, holding: RemoteSet) -> Hashable:
        """A key for that diagram: equal keys mean equal diagrams."""
        return tuple([self._near.boxes[index] for index in bits(self._at.of(holding))])

    def subset(self, kinship: Kinship) -> int:
        """All boxes that can decide for a kinship before others do; 0 if there are none."""
        own = self._own.of(kinship.groups)
        if not own:
            return 0
        silent = self._certain.of(kinship.holding) | self._partly.of(kinship.touching & ~kinship.holding)
        return self._with_rivals(own, silent) | 1 << len(self._boxes.boxes) - 1

    def key(self, subset: int) -> Hashable:
        """A key for the subset's diagram: equal keys mean equal diagrams."""
        return tuple([self._boxes.boxes[index] for index in bits(subset)])

    def of(self, subset: int) -> Node:
        """The diagram of a subset that subset() has given."""
        if not subset:
            return Leaf(None)
        if subset not in self._known:
            self._known[subset] = cuts.diagram(self._boxes, subset, KIN_LOOK_UPS)
        return self._known[subset]

    @cached_property
    def _overlaps(self) -> list[_Overlaps]:
        return [_Overlaps(dim, self._boxes.boxes) for dim in BY_CONDITIONS]

    def _with_rivals(self, own: int, silent: int) -> int:
        """Adds the stronger boxes without a decision that overlap one of these."""
        found = own
        silent &= (1 << own.bit_length()) - 1
        for index in bits(own) if silent else ():
            rivals = silent & (1 << index) - 1
            for overlaps, dim in zip(self._overlaps, BY_CONDITIONS, strict=True):
                rivals &= overlaps.of(self._boxes.boxes[index].intervals[dim])
            found |= rivals
        return found


class _Overlaps:
    """Which boxes overlap an interval in one dimension."""

    def __init__(self, dim: int, boxes: Sequence[RuleBox]) -> None:
        edges: list[tuple[int, int, int]] = []
        self._always = 0
        for index, box in enumerate(boxes):
            covered = box.intervals[dim]
            if covered is None:
                self._always |= 1 << index
            else:
                edges.extend((first, last, 1 << index) for first, last in covered)
        self._starts = sorted(first for first, _, _ in edges)
        self._ends = sorted(last for _, last, _ in edges)
        self._begun = [0, *accumulate((bit for _, _, bit in sorted(edges)), or_)]
        by_end = sorted(edges, key=lambda edge: edge[1], reverse=True)
        self._to_end = [*reversed(list(accumulate((bit for _, _, bit in by_end), or_))), 0]

    def of(self, covered: Intervals | None) -> int:
        """The boxes that overlap one of the intervals. Some with several intervals may only lie around it."""
        if covered is None:
            return -1
        found = self._always
        for first, last in covered:
            found |= self._begun[bisect_right(self._starts, last)] & self._to_end[bisect_left(self._ends, first)]
        return found


@dataclass
class _Numbered:
    """Boxes in order of strength."""

    boxes: list[RuleBox] = field(default_factory=list)


class _BoxesOf:
    """Which of some boxes come from which remotes, by the remotes' bits."""

    def __init__(self, numbered: _Numbered) -> None:
        self._numbered = numbered
        self._by_place: dict[int, int] = {}

    def add(self, box: RuleBox, place: int) -> None:
        self._by_place[place] = self._by_place.get(place, 0) | 1 << len(self._numbered.boxes)
        self._numbered.boxes.append(box)

    def of(self, remotes: RemoteSet) -> int:
        """The boxes of a set of remotes, and those for everywhere."""
        found = self._by_place.get(EVERYWHERE, 0)
        for place in bits(remotes):
            found |= self._by_place.get(place, 0)
        return found


def _silent(box: RuleBox, memo: SpaceMemo) -> RuleBox:
    """The same region without a decision: others decide there."""
    return memo.silent.get(box, lambda: RuleBox(None, box.intervals))


def _at(box: RuleBox, blocks: Ranges) -> RuleBox:
    """The box for far addresses in some blocks."""
    return RuleBox(box.decision, (*box.intervals[:-1], blocks))


def _box(permission: Permission, family: Family, protocol: int | None) -> RuleBox | None:
    """The permission as a region, for any far address; None if it can't match any packet. `protocol`: the one that all
    packets have, so that no rule asks for it."""
    asked = conditions(permission, family)
    if () in asked:
        return None
    if protocol is not None:
        if asked[BY_PROTOCOL] not in (None, ((protocol, protocol),)):
            return None
        asked = (*asked[:BY_PROTOCOL], None, *asked[BY_PROTOCOL + 1 :])
    return RuleBox(permission.decision, (*asked, None))

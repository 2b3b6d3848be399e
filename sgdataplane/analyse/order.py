"""Permissions in the order in which they decide: which traffic each decides, and what would change without one.

Owns "the first that matches decides", turned into disjoint regions. Is given permissions and the addresses behind their
remotes. Must not know the kernel, nor how the compiler does the same.

Far addresses first: those that the same permissions hold for are one class. Then, for each class, one of CONDITIONS
(policy/dimensions.py) after the other, cut where a permission begins or ends. Sets of permissions are bit masks, the
strongest the lowest bit; what stands behind one that covers all that is left is taken off, and equal sets are asked
about once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from typing import NamedTuple

from sgdataplane.analyse.regions import WHOLE, Block, Region, addresses, merged
from sgdataplane.model.state import CloudState, Remote
from sgdataplane.net.ranges import Interval, Ranges, meet, united
from sgdataplane.net.values import Family, Verdict
from sgdataplane.policy.dimensions import CONDITIONS, LOCAL, PORT, PROTOCOL, conditions
from sgdataplane.policy.resolve import Permission, resolve_remote

Shape = tuple[Ranges, ...]  # in the order of CONDITIONS
PROTOCOL_AT, LOCAL_AT, PORT_AT = map(CONDITIONS.index, (PROTOCOL, LOCAL, PORT))  # their places in a shape
Mask = int
DIMS = len(CONDITIONS)


class Cell(NamedTuple):
    """A part of a class's traffic, and for each of the sets that were asked about what decides there."""

    shape: Shape
    winners: tuple[int, ...]


class FarAddresses:
    """The addresses behind remotes, in one state; each is asked for once."""

    def __init__(self, state: CloudState) -> None:
        self._state = state
        self._known: dict[tuple[Remote | None, Family], Ranges] = {}

    def of(self, remote: Remote | None, family: Family) -> Ranges:
        """None is everyone. A group is one that the state has, of the VPC of who names it (as `resolve` leaves it)."""
        key = remote, family
        if key not in self._known:
            self._known[key] = addresses(family) if remote is None else self._resolved(remote, family)
        return self._known[key]

    def _resolved(self, remote: Remote, family: Family) -> Ranges:
        found = resolve_remote(self._state, remote, family)
        return united((*((single, single) for single in found.singles), *found.ranges))


@dataclass(frozen=True, slots=True)
class Entry:
    """A permission and the traffic that its conditions hold for: `far` may be empty."""

    permission: Permission
    far: Ranges
    shape: Shape

    @property
    def region(self) -> Region:
        """Empty if it can match nothing."""
        block = Block((self.far, *self.shape))
        return (block,) if all(block) else ()


@dataclass(frozen=True)
class Order:
    """The permissions of one profile, direction and family, strongest first, of which the last holds for everything:
    `Order.of(profile.permissions(direction), family, FarAddresses(state))`. One entry each, in the same order."""

    entries: tuple[Entry, ...]
    family: Family

    @classmethod
    def of(cls, permissions: Iterable[Permission], family: Family, far: FarAddresses) -> Order:
        return cls(tuple(_entry(permission, family, far) for permission in permissions), family)

    def decided(self) -> tuple[Region, ...]:
        """For each entry the traffic that it decides: disjoint, and everything together."""
        found: list[list[Block]] = [[] for _ in self.entries]
        for holding, far in self.classes(addresses(self.family)).items():
            for shape, (winner,) in self.arrangement.decided(holding):
                found[winner].append(Block((far, *shape)))
        return tuple(merged(blocks) for blocks in found)

    def effect(self, index: int) -> Region:
        """The traffic whose verdict would be another if that entry were not there (not of the last one)."""
        found = []
        for holding, far in self.classes(self.entries[index].far).items():
            for shape, _ in self.arrangement.differing(holding, holding & ~(1 << index)):
                found.append(Block((far, *shape)))
        return merged(found)

    def classes(self, within: Ranges) -> dict[Mask, Ranges]:
        """Far addresses by the set of entries whose remote they are in."""
        return overlay(((meet(e.far, within), 1 << index) for index, e in enumerate(self.entries)), within)

    @cached_property
    def arrangement(self) -> Arrangement:
        accepting = sum(1 << i for i, e in enumerate(self.entries) if e.permission.decision.verdict is Verdict.ACCEPT)
        return Arrangement([entry.shape for entry in self.entries], accepting, self.family)


def _entry(permission: Permission, family: Family, far: FarAddresses) -> Entry:
    shape = shape_of(permission, family)
    return Entry(permission, far.of(permission.remote, family) if all(shape) else (), shape)


def shape_of(permission: Permission, family: Family) -> Shape:
    """Its conditions but the remote; one of them is empty if it can't match in that family."""
    pairs = zip(conditions(permission, family), WHOLE[family], strict=True)
    return tuple([whole if ranges is None else ranges for ranges, whole in pairs])


def overlay(sets: Iterable[tuple[Ranges, Mask]], within: Ranges) -> dict[Mask, Ranges]:
    """Numbers within some by which of these sets they are in, each set being known by bits of its own. (Large sets are
    best cut to size first.)"""
    turns: dict[int, Mask] = {}
    for ranges, mask in ((within, 1), *((ranges, mask << 1) for ranges, mask in sets)):
        for first, last in ranges:
            turns[first] = turns.get(first, 0) ^ mask
            turns[last + 1] = turns.get(last + 1, 0) ^ mask
    found: dict[Mask, list[Interval]] = {}
    holding, before = 0, 0
    for start in sorted(turns):
        if holding & 1:
            found.setdefault(holding >> 1, []).append((before, start - 1))
        holding, before = holding ^ turns[start], start
    return {mask: united(intervals) for mask, intervals in found.items()}


class Arrangement:
    """Shapes with verdicts, of which it takes any sets; each set has one that covers everything. `accepting`: those
    whose verdict is accept."""

    def __init__(self, shapes: Sequence[Shape], accepting: Mask, family: Family) -> None:
        self._all = WHOLE[family]
        self._shapes, self._accepting = shapes, accepting
        self._free = [0] * DIMS + [(1 << len(shapes)) - 1]  # per dimension those that cover all from there on
        for index, shape in enumerate(shapes):
            for dim in reversed(range(DIMS)):
                if shape[dim] != self._all[dim]:
                    break
                self._free[dim] |= 1 << index
        self._known: dict[tuple[int, tuple[Mask, ...]], tuple[Cell, ...]] = {}

    def decided(self, side: Mask) -> tuple[Cell, ...]:
        """What each shape of a set decides: disjoint cells of one winner, everything together."""
        return self._cells(0, (side,))

    def differing(self, before: Mask, after: Mask) -> tuple[Cell, ...]:
        """Where two sets lead to different verdicts: disjoint cells of two winners."""
        return self._cells(0, (before, after))

    def _cells(self, dim: int, sides: tuple[Mask, ...]) -> tuple[Cell, ...]:
        sides = tuple(self._relevant(dim, side) for side in sides)
        if len(sides) > 1 and self._is_same(sides):
            return ()
        if all(not side & (side - 1) for side in sides):
            return (Cell(self._all[dim:], tuple(side.bit_length() - 1 for side in sides)),)
        key = dim, sides
        if key not in self._known:
            found: dict[Cell, list[Interval]] = {}
            for ranges, parts in self._pieces(dim, sides):
                for cell in self._cells(dim + 1, parts):
                    found.setdefault(cell, []).extend(ranges)
            self._known[key] = tuple(
                Cell((united(intervals), *cell.shape), cell.winners) for cell, intervals in found.items()
            )
        return self._known[key]

    def _relevant(self, dim: int, side: Mask) -> Mask:
        """Without those behind one that covers all that is left."""
        certain = side & self._free[dim]
        return side & ((certain & -certain) * 2 - 1)

    def _is_same(self, sides: tuple[Mask, ...]) -> bool:
        """Whether one verdict follows from these sets, as far as can be seen at once."""
        every = _either(sides)
        return not every & self._accepting or not every & ~self._accepting or all(side == sides[0] for side in sides)

    def _pieces(self, dim: int, sides: tuple[Mask, ...]) -> Iterator[tuple[Ranges, tuple[Mask, ...]]]:
        """Cut a dimension where a shape begins or ends; with each piece those of each set that cover it."""
        sets = ((self._shapes[index][dim], 1 << index) for index in bits(_either(sides)))
        for holding, ranges in overlay(sets, self._all[dim]).items():
            yield ranges, tuple(side & holding for side in sides)


def _either(sides: Iterable[Mask]) -> Mask:
    return reduce(or_, sides)


def bits(mask: Mask) -> Iterator[int]:
    """The members of a set, the strongest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low

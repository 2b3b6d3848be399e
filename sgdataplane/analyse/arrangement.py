"""Ordered conditions that hold for the same far addresses: which traffic each decides, and what comes second.

Owns "the first that matches decides", turned into disjoint cells, and the budget of what may be examined. Is given
conditions and verdicts, the strongest first. Must not know rules, remotes or ENIs.

Traffic is cut along one of CONDITIONS (policy/dimensions.py) after the other, wherever a condition begins or ends. Sets
of entries are bit masks with the strongest entry in the lowest bit. Entries behind one that covers all that is left are
removed, and equal sets are examined once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import NamedTuple

from sgdataplane.analyse.regions import WHOLE
from sgdataplane.net.ranges import Interval, Ranges, unite
from sgdataplane.net.values import Family
from sgdataplane.policy.dimensions import CONDITIONS, LOCAL, PORT, PROTOCOL

Shape = tuple[Ranges, ...]  # the numbers that an entry matches, in the order of CONDITIONS
PROTOCOL_AT, LOCAL_AT, PORT_AT = map(CONDITIONS.index, (PROTOCOL, LOCAL, PORT))  # their places in a shape
Mask = int
DIMS = len(CONDITIONS)
MAX_OF_POLICY = 200_000  # pieces for one pool, direction and family: two seconds
MAX_PIECES = 1_000_000  # pieces for all of them


class TrafficCell(NamedTuple):
    """A part of the traffic, and the entry that decides there."""

    shape: Shape
    """The numbers of the part in each of CONDITIONS."""
    winners: tuple[int, ...]
    """The deciding entry of each set that the question was about."""


def either(masks: Iterable[Mask]) -> Mask:
    """Return the union of sets."""
    return reduce(or_, masks, 0)


def mask_of(entries: Iterable[int]) -> Mask:
    """Return the set of these entries."""
    return either(1 << entry for entry in entries)


def bits(mask: Mask) -> Iterator[int]:
    """Yield the members of a set, the strongest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def overlay(sets: Iterable[tuple[Ranges, Mask]], within: Ranges) -> dict[Mask, Ranges]:
    """Return the numbers in `within`, by which of the sets they are in.

    Each set comes with the bits that stand for it in the result. It is best to cut large sets to size first.
    """
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
    return {mask: unite(intervals) for mask, intervals in found.items()}


class Arrangement:
    """Shapes with verdicts, which answers questions about sets of them.

    Each set must have a shape that covers everything. `accepting` are the shapes whose verdict is accept.
    """

    def __init__(self, shapes: Sequence[Shape], accepting: Mask, family: Family) -> None:
        self._all = WHOLE[family]
        self._shapes, self._accepting = shapes, accepting
        self._free = [0] * DIMS + [(1 << len(shapes)) - 1]  # by dimension, the entries that cover all from there on
        for index, shape in enumerate(shapes):
            for dim in reversed(range(DIMS)):
                if shape[dim] != self._all[dim]:
                    break
                self._free[dim] |= 1 << index
        self._known: dict[tuple[int, tuple[Mask, ...]], tuple[TrafficCell, ...]] = {}

    def list_decided(self, side: Mask) -> tuple[TrafficCell, ...]:
        """Return what each shape of a set decides: disjoint cells with one winner, which together are everything."""
        return self._cells(0, (side,))

    def list_differing(self, before: Mask, after: Mask) -> tuple[TrafficCell, ...]:
        """Return where two sets lead to different verdicts: disjoint cells with two winners."""
        return self._cells(0, (before, after))

    def _cells(self, dim: int, sides: tuple[Mask, ...]) -> tuple[TrafficCell, ...]:
        sides = tuple(self._relevant(dim, side) for side in sides)
        if len(sides) > 1 and self._is_same(sides):
            return ()
        if all(not side & (side - 1) for side in sides):
            return (TrafficCell(self._all[dim:], tuple(side.bit_length() - 1 for side in sides)),)
        key = dim, sides
        if key not in self._known:
            found: dict[TrafficCell, list[Interval]] = {}
            for ranges, parts in self._pieces(dim, sides):
                for cell in self._cells(dim + 1, parts):
                    found.setdefault(cell, []).extend(ranges)
            self._known[key] = tuple(
                TrafficCell((unite(intervals), *cell.shape), cell.winners) for cell, intervals in found.items()
            )
        return self._known[key]

    def _relevant(self, dim: int, side: Mask) -> Mask:
        """Return the set without the entries behind one that covers all that is left."""
        certain = side & self._free[dim]
        return side & ((certain & -certain) * 2 - 1)

    def _is_same(self, sides: tuple[Mask, ...]) -> bool:
        """Return whether one verdict follows from these sets, as far as that shows at once."""
        every = either(sides)
        return not every & self._accepting or not every & ~self._accepting or all(side == sides[0] for side in sides)

    def _pieces(self, dim: int, sides: tuple[Mask, ...]) -> Iterator[tuple[Ranges, tuple[Mask, ...]]]:
        """Cut a dimension wherever a shape begins or ends; yield each piece with the members of each set there."""
        sets = ((self._shapes[index][dim], 1 << index) for index in bits(either(sides)))
        for holding, ranges in overlay(sets, self._all[dim]).items():
            yield ranges, tuple(side & holding for side in sides)


class BudgetSpentError(Exception):
    """There is more to examine than the budget allows (never leaves this package)."""


@dataclass
class Budget:
    """How many pieces traffic may be cut into; it changes with use."""

    most_of_policy: int = MAX_OF_POLICY
    """The limit for one policy."""
    left: int = MAX_PIECES
    """What is left for all policies."""
    _of_policy: int = 0

    def begin(self) -> None:
        """Begin another policy.

        Raises:
            BudgetSpentError: nothing is left for it.
        """
        self._of_policy = self.most_of_policy
        self.spend(0)

    def spend(self, pieces: int) -> None:
        """Take pieces from what is left.

        Raises:
            BudgetSpentError: this is too much, and nothing may be concluded from what was found so far.
        """
        self._of_policy -= pieces
        self.left -= pieces
        if min(self._of_policy, self.left) < 0:
            raise BudgetSpentError


class Stacks:
    """All stacks that were asked for.

    What a stack decides follows from its entries' conditions and verdicts, whatever their rules and remotes are. So all
    policies share the stacks, and each is worked out once.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._numbers: dict[tuple[Shape, int], int] = {}
        self._kinds: list[tuple[Shape, int]] = []
        self._known: dict[tuple[Family, tuple[int, ...]], Stack] = {}

    def kind(self, shape: Shape, is_accept: int) -> int:
        """Return a number that is the same for the same conditions and verdict (1 is accept)."""
        kind = shape, is_accept
        if kind not in self._numbers:
            self._numbers[kind] = len(self._kinds)
            self._kinds.append(kind)
        return self._numbers[kind]

    def of(self, kinds: tuple[int, ...], family: Family) -> Stack:
        """Return the stack of entries of these kinds, the strongest first; the last one must hold for everything."""
        found = self._known.get((family, kinds))
        if found is None:
            made = [self._kinds[kind] for kind in kinds]
            found = self._known[family, kinds] = Stack(made, family, self.budget)
        return found


class Stack(Arrangement):
    """An arrangement that spends a budget, and knows what comes second."""

    def __init__(self, kinds: Sequence[tuple[Shape, int]], family: Family, budget: Budget) -> None:
        accepting = sum(is_accept << place for place, (_, is_accept) in enumerate(kinds))
        super().__init__([shape for shape, _ in kinds], accepting, family)
        self.every: Mask = (1 << len(kinds)) - 1
        self._budget = budget
        self._pairs: dict[tuple[int, Mask], frozenset[tuple[int, int]]] = {}

    def follow(self) -> frozenset[tuple[int, int]]:
        """Return each entry that decides some traffic, with the entry that would decide it next.

        The last entry is followed by itself.
        """
        return self._follow(0, self.every)

    def _follow(self, dim: int, side: Mask) -> frozenset[tuple[int, int]]:
        first = self._relevant(dim, side)
        side = first | self._relevant(dim, side & ~(first & self._free[dim]))
        if not side & ~self._free[dim]:
            return frozenset([((side & -side).bit_length() - 1, side.bit_length() - 1)])
        key = dim, side
        if key not in self._pairs:
            found = (self._follow(dim + 1, part) for _, (part,) in self._pieces(dim, (side,)))
            self._pairs[key] = frozenset().union(*found)
        return self._pairs[key]

    def _pieces(self, dim: int, sides: tuple[Mask, ...]) -> Iterator[tuple[Ranges, tuple[Mask, ...]]]:
        for piece in super()._pieces(dim, sides):
            self._budget.spend(1)
            yield piece

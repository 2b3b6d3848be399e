"""Represent boxes (permissions as regions), and the decision diagrams that are made of them.

Owns these types, sets of boxes as bit masks, and where boxes cut a dimension. It is given boxes in order of strength.
It must not know where a diagram is cut (cuts.py), nor nftables.

A diagram tells which box is the strongest at each point. A dimension is one of ASKED, which is all that a rule can ask
for. Subsets are bit masks, bit i for box i, so the strongest box of a subset is its lowest bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress, count, product
from operator import xor
from typing import TypeAlias

from sgdataplane.model.decision import Decision
from sgdataplane.net.ranges import Interval
from sgdataplane.net.values import Family
from sgdataplane.nft.changes import same_ends
from sgdataplane.policy.dimensions import CONDITIONS, PROTOCOL, REMOTE

ASKED = (*CONDITIONS, REMOTE)
Dim: TypeAlias = int  # a dimension, by its place in ASKED
BY_PROTOCOL: Dim = ASKED.index(PROTOCOL)
DIMS = range(len(ASKED))
Intervals = tuple[Interval, ...]
DENSE = 64  # sets with more boxes are listed in one go


@dataclass(frozen=True, slots=True, eq=False)
class RuleBox:
    """A permission as a region. Two of them are compared by identity.

    Only TCP and UDP permissions have ports (state validation refuses others), so a path never asks another protocol for
    a port.
    """

    decision: Decision
    intervals: tuple[Intervals | None, ...]
    """For each dimension, the disjoint sorted intervals that it covers; None for all of it."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """The end of a path, where one permission decides."""

    decision: Decision


@dataclass(frozen=True, slots=True)
class BoxStep:
    """A permission that decides packets which meet all its conditions."""

    conditions: tuple[tuple[Dim, Interval], ...]
    """The interval that it asks for in each of some dimensions."""
    decision: Decision


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Steps in order: the first one whose conditions hold decides. The last one has no conditions."""

    steps: tuple[BoxStep, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A node that asks for one dimension."""

    dim: Dim
    segments: tuple[tuple[Interval, Node], ...]
    """The node for each interval.

    Intervals are disjoint and sorted, and cover the dimension. Neighbours lead to different nodes.
    """


Node = Leaf | Steps | Branch


def bits(mask: int) -> Iterator[int]:
    """Yield the indices of a subset, strongest first."""
    if mask.bit_count() > DENSE:  # in one go: each step below copies the mask three times
        yield from compress(count(), map("1".__eq__, reversed(f"{mask:b}")))
        return
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def up_to(subset: int, certain: int) -> int:
    """Return the boxes up to the strongest one that is certain to hold."""
    certain &= subset
    return subset & ((certain & -certain) * 2 - 1)


@dataclass(frozen=True, slots=True)
class Renumbering:
    """How boxes get other numbers, from one list to another one that differs from it in one place."""

    start: int
    """How many boxes are the same before that place."""
    gone: int
    """How many boxes the first list has there."""
    come: int
    """How many boxes the second list has there."""

    @classmethod
    def of(cls, one: Sequence[RuleBox], other: Sequence[RuleBox]) -> Renumbering:
        """Compare two lists of boxes by identity."""
        start, end = same_ends(one, other)
        return cls(start, len(one) - start - end, len(other) - start - end)

    def __call__(self, mask: int) -> int:
        """Return the same boxes by their numbers in the second list, without those that have gone."""
        return mask & self.mask_before | mask >> self.start + self.gone << self.start + self.come

    @property
    def mask_before(self) -> int:
        """The boxes before the place where the lists differ."""
        return (1 << self.start) - 1

    @property
    def mask_of_gone(self) -> int:
        """The boxes of the first list that aren't in the second one."""
        return ((1 << self.gone) - 1) << self.start


class Boxes:
    """Boxes in order of strength. The last one covers everything.

    Attributes:
        boxes: The boxes.
        family: The family of their addresses.
        whole: The whole interval of each dimension.
        leaves: The leaf of each decision.
        bounds: For each dimension, the boxes that don't cover all of it.
        scattered: The boxes with several intervals in some dimension.
    """

    def __init__(self, boxes: Sequence[RuleBox], family: Family, previous: Boxes | None = None) -> None:
        """Index the boxes. `previous` has other boxes, most of them the same objects."""
        self.boxes, self.family = boxes, family
        self.whole = tuple((0, each.domain.last(family)) for each in ASKED)
        self.leaves: dict[Decision, Leaf] = {} if previous is None else previous.leaves
        self._leaf: dict[int, Leaf] = {}
        self.bounds, self.scattered = [0] * len(DIMS), 0
        new = range(len(boxes))
        if previous is not None:
            move = Renumbering.of(previous.boxes, boxes)
            self.bounds, self.scattered = [move(mask) for mask in previous.bounds], move(previous.scattered)
            new = range(move.start, move.start + move.come)
        for index in new:
            self._add(1 << index, boxes[index])

    def _add(self, bit: int, box: RuleBox) -> None:
        for dim, covered in enumerate(box.intervals):
            if covered is not None:
                self.bounds[dim] |= bit
                if len(covered) > 1:
                    self.scattered |= bit

    def select_bounded(self, dim: Dim, subset: int) -> int:
        """Return the boxes of a subset that don't cover all of a dimension."""
        return subset & self.bounds[dim]

    def leaf(self, index: int) -> Leaf:
        """Return the leaf of one box. Boxes with the same decision share it."""
        if index not in self._leaf:
            decision = self.boxes[index].decision
            self._leaf[index] = self.leaves.setdefault(decision, Leaf(decision))
        return self._leaf[index]

    def steps(self, asked: Sequence[tuple[int, Sequence[tuple[Dim, Intervals]]]]) -> Node:
        """Return a node that asks boxes one by one, each for the conditions that aren't known to hold.

        The last box has none.
        """
        made: list[BoxStep] = []
        for index, conditions in asked:
            dims = [dim for dim, _ in conditions]
            decision = self.boxes[index].decision
            every = product(*(covered for _, covered in conditions))
            made.extend(BoxStep(tuple(zip(dims, chosen, strict=True)), decision) for chosen in every)
        while len(made) > 1 and made[-2].decision == made[-1].decision:
            del made[-2]
        return Steps(tuple(made)) if len(made) > 1 else self.leaf(asked[-1][0])

    def pieces(self, dim: Dim, subset: int, within: Interval) -> list[tuple[Interval, int]]:
        """Return the pieces of an interval, cut where a box begins or ends, each with the boxes that cover it."""
        first, last = within
        bounded = self.select_bounded(dim, subset)
        always, turns = subset & ~bounded, {first: 0}
        for index in bits(bounded):
            bit = 1 << index
            for begin, end in self.boxes[index].intervals[dim] or ():
                if begin <= last and end >= first:
                    start = begin if begin > first else first  # noqa: FURB136 - max() takes four times as long
                    turns[start] = turns.get(start, 0) ^ bit
                    if end < last:
                        turns[end + 1] = turns.get(end + 1, 0) ^ bit
        starts = sorted(turns)
        ends = [start - 1 for start in starts[1:]] + [last]
        covering = accumulate(map(turns.__getitem__, starts), xor, initial=always)
        next(covering)
        return list(zip(zip(starts, ends, strict=True), covering, strict=True))

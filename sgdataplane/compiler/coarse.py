"""Diagrams of bounded size for boxes whose exact diagram is too large: fewer cuts, and more boxes asked one by one.

Owns where to cut. Is given boxes. Must not know nftables.

1,000 rules with source ports, ports and narrowing of their own can have a million disjoint cells. So a dimension is
cut not wherever a box begins or ends, but so that few boxes are left in each piece; those are asked in order (`Steps`).
The number asked is the smallest, doubling, with which the diagram stays within its bounds: the price of a hostile
policy is a longer list at the end of the path, never more look-ups and never a refusal. (HiCuts, Gupta and McKeown
1999, cuts a rule set in this way; here each dimension at most once.)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from sgdataplane.compiler.diagram import (
    DIMS,
    MANY_PROTOCOLS,
    MAX_DEPTH,
    MAX_STEPS,
    Boxes,
    Dim,
    Intervals,
    Node,
    TooManyCellsError,
    bits,
)
from sgdataplane.policy.resolve import Interval


def diagram(boxes: Boxes, subset: int) -> Node:
    """The diagram of a subset of boxes: exact if it is small enough, else as fine as its bounds allow."""
    try:
        node = boxes.exact(subset)
        if node.depth <= MAX_DEPTH:
            return node
    except TooManyCellsError:
        pass
    at_once = max(MAX_STEPS, 1 << (subset.bit_count() // 4).bit_length())  # fewer would fail
    while True:
        try:
            return _Cutter(boxes, at_once).everything(subset)
        except TooManyCellsError:
            at_once *= 2


@dataclass(frozen=True, slots=True)
class _Region:
    """A part of the space: an interval in each dimension, the boxes that can decide there, and per dimension those
    that don't cover all of its interval."""

    intervals: tuple[Interval, ...]
    subset: int
    open: tuple[int, ...]

    @property
    def undecided(self) -> int:
        """The boxes that don't hold everywhere in it."""
        found = 0
        for some in self.open:
            found |= some
        return found

    def part(self, dim: Dim, interval: Interval, subset: int, covering: int) -> _Region:
        """What is left in an interval of one dimension, all of which `covering` cover."""
        intervals = (*self.intervals[:dim], interval, *self.intervals[dim + 1 :])
        still = self.open[dim] & ~covering
        return _Region(intervals, subset, (*self.open[:dim], still, *self.open[dim + 1 :]))


@dataclass
class _Cutter:
    """`at_once`: how many boxes are asked one by one, if enough cuts are left."""

    boxes: Boxes
    at_once: int
    cells: int = 0

    def everything(self, subset: int) -> Node:
        """TooManyCellsError if there are too many, and less of them with a larger `at_once`."""
        whole = tuple((0, last) for last in self.boxes.last)
        return self._node(_Region(whole, subset, tuple(self.boxes.bounded(dim, subset) for dim in DIMS)), MAX_DEPTH)

    def _node(self, region: _Region, look_ups: int) -> Node:
        subset = _up_to(region.subset, ~region.undecided)
        opens = [(some & subset).bit_count() for some in region.open]
        if opens[Dim.PROTOCOL]:
            return self._by_protocol(region, subset, look_ups)
        if subset.bit_count() <= self.at_once or not look_ups or not any(opens):
            self.cells += subset.bit_count()
            return self._steps(region, subset)
        if self.cells > self.boxes.max_cells:
            raise TooManyCellsError
        return self._cut(region, subset, max(DIMS, key=lambda dim: opens[dim]), look_ups)

    def _steps(self, region: _Region, subset: int) -> Node:
        asked = []
        for index in bits(subset):
            intervals = self.boxes.boxes[index].intervals
            dims = [dim for dim in DIMS if region.open[dim] >> index & 1]
            asked.append((index, [(dim, _inside(intervals[dim], region.intervals[dim])) for dim in dims]))
        return self.boxes.steps(asked)

    def _by_protocol(self, region: _Region, subset: int, look_ups: int) -> Node:
        """Protocols are few and are always told apart, so that no port is asked of one that has none."""
        pieces = self.boxes.pieces(Dim.PROTOCOL, subset)
        left = look_ups - (len(pieces) > MANY_PROTOCOLS)
        return self._parts(Dim.PROTOCOL, region, [(interval, some, some) for interval, some in pieces], left)

    def _cut(self, region: _Region, subset: int, dim: Dim, look_ups: int) -> Node:
        """Cut one dimension into pieces with few enough boxes; what later cuts can't take off has to go now."""
        most = self.at_once if look_ups == 1 else isqrt(self.at_once * subset.bit_count())
        elsewhere = ~region.part(dim, region.intervals[dim], subset, -1).undecided
        joined: list[tuple[Interval, int, int]] = []
        for (first, last), covering in self.boxes.pieces(dim, subset, region.intervals[dim]):
            if joined:
                (start, _), anywhere, everywhere = joined[-1]
                anywhere, everywhere = anywhere | covering, everywhere & covering
                if _up_to(anywhere, everywhere & elsewhere).bit_count() <= most:
                    joined[-1] = ((start, last), anywhere, everywhere)
                    continue
            joined.append(((first, last), covering, covering))
        return self._parts(dim, region, joined, look_ups - 1)

    def _parts(self, dim: Dim, region: _Region, pieces: list[tuple[Interval, int, int]], look_ups: int) -> Node:
        """`pieces`: intervals, with the boxes that are somewhere in it, and those that cover it."""
        segments = [
            (interval, self._node(region.part(dim, interval, anywhere, everywhere), look_ups))
            for interval, anywhere, everywhere in pieces
        ]
        return self.boxes.branch(dim, segments)


def _inside(covered: Intervals | None, whole: Interval) -> Intervals:
    return tuple(i for i in covered or () if i[0] <= whole[1] and i[1] >= whole[0])


def _up_to(subset: int, certain: int) -> int:
    """Up to the strongest of those that cover all."""
    certain &= subset
    return subset & ((certain & -certain) * 2 - 1)

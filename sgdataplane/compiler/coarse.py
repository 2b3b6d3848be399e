"""Diagrams of bounded size for boxes whose exact diagram is too large: fewer cuts, and more boxes asked one by one.

Owns where to cut. Is given boxes. Must not know nftables.

1,000 rules with source ports, ports and narrowing of their own can have a million disjoint cells. So this doesn't cut a
dimension wherever a box begins or ends, but so that few boxes are left in each piece; these are asked in order
(`Steps`). How many may be left doubles until the diagram stays within its bounds. So the price of a hostile policy is a
longer list at the end of the path, never more look-ups and never a refusal. (HiCuts, Gupta and McKeown 1999, cuts a
rule set in this way; here each dimension is cut at most once.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from math import isqrt, prod

from sgdataplane.compiler.diagram import (
    BY_PROTOCOL,
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
from sgdataplane.net.ranges import Interval


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
    """A part of the space: an interval in each dimension, the boxes that can decide there, and for each dimension the
    boxes that don't cover all of its interval."""

    intervals: tuple[Interval, ...]
    subset: int
    open: tuple[int, ...]

    @property
    def undecided(self) -> int:
        """The boxes that don't cover all of the region."""
        found = 0
        for some in self.open:
            found |= some
        return found

    def part(self, dim: Dim, interval: Interval, subset: int, covering: int) -> _Region:
        """The part of the region in an interval of one dimension; the boxes `covering` cover all of that interval."""
        intervals = (*self.intervals[:dim], interval, *self.intervals[dim + 1 :])
        still = self.open[dim] & ~covering
        return _Region(intervals, subset, (*self.open[:dim], still, *self.open[dim + 1 :]))


@dataclass
class _Cutter:
    """`at_once`: how many steps may be asked one by one while cuts are left. `cells`: of all nodes, each counted
    once."""

    boxes: Boxes
    at_once: int
    cells: int = 0
    _memo: dict[Hashable, Node] = field(default_factory=dict)

    def everything(self, subset: int) -> Node:
        """TooManyCellsError if there are too many cells; with a larger `at_once` there are fewer."""
        whole = tuple((0, last) for last in self.boxes.last)
        return self._node(_Region(whole, subset, tuple(self.boxes.bounded(dim, subset) for dim in DIMS)), MAX_DEPTH)

    def _node(self, region: _Region, look_ups: int) -> Node:
        """Regions share their node if they differ only in dimensions that no box asks for."""
        subset = _up_to(region.subset, ~region.undecided)
        opens = tuple(some & subset for some in region.open)
        asked = tuple(interval for interval, some in zip(region.intervals, opens, strict=True) if some)
        key = (subset, opens, asked, look_ups)
        if key not in self._memo:
            self._memo[key] = self._made(_Region(region.intervals, subset, opens), look_ups)
        return self._memo[key]

    def _made(self, region: _Region, look_ups: int) -> Node:
        if region.open[BY_PROTOCOL]:
            return self._by_protocol(region, look_ups)
        asked = [(index, self._conditions(region, index)) for index in bits(region.subset)]
        steps = sum(_product(conditions) for _, conditions in asked)
        if steps <= self.at_once or not look_ups or not any(region.open):
            self.cells += steps
            return self.boxes.steps(asked)
        if self.cells > self.boxes.max_cells:
            raise TooManyCellsError
        places: Counter[Dim] = Counter()
        for _, conditions in asked:
            places.update({dim: len(covered) for dim, covered in conditions})
        return self._cut(region, max(places, key=lambda dim: (places[dim], dim)), look_ups)

    def _conditions(self, region: _Region, index: int) -> list[tuple[Dim, Intervals]]:
        """The conditions of a box that aren't known to hold in the region."""
        intervals = self.boxes.boxes[index].intervals
        dims = [dim for dim in DIMS if region.open[dim] >> index & 1]
        return [(dim, _inside(intervals[dim], region.intervals[dim])) for dim in dims]

    def _by_protocol(self, region: _Region, look_ups: int) -> Node:
        """Protocols are few and always told apart, so that no rule asks for the port of a protocol without ports."""
        pieces = self.boxes.pieces(BY_PROTOCOL, region.subset)
        left = look_ups - (len(pieces) > MANY_PROTOCOLS)
        return self._parts(BY_PROTOCOL, region, [_Piece(interval, some, some) for interval, some in pieces], left)

    def _cut(self, region: _Region, dim: Dim, look_ups: int) -> Node:
        """Cut one dimension into pieces with few enough boxes. Steps that later cuts can't take off have to go now:
        each box that begins or ends in a piece, and each of its intervals, is a step there."""
        most = self.at_once if look_ups == 1 else isqrt(self.at_once * region.subset.bit_count())
        elsewhere = ~region.part(dim, region.intervals[dim], region.subset, -1).undecided
        joined: list[_Piece] = []
        for interval, covering in self.boxes.pieces(dim, region.subset, region.intervals[dim]):
            piece = _Piece(interval, covering, covering)
            if joined:
                both = joined[-1].and_next(piece)
                steps = max(_up_to(both.anywhere, both.everywhere & elsewhere).bit_count(), both.cuts // 2)
                if steps <= most:
                    joined[-1] = both
                    continue
            joined.append(piece)
        return self._parts(dim, region, joined, look_ups - 1)

    def _parts(self, dim: Dim, region: _Region, pieces: Sequence[_Piece], look_ups: int) -> Node:
        segments: list[tuple[Interval, Node]] = []
        for piece in pieces:
            part = region.part(dim, piece.interval, piece.anywhere, piece.everywhere)
            node = self._node(part, look_ups)
            if segments and segments[-1][1] is node:
                segments[-1] = ((segments[-1][0][0], piece.interval[1]), node)
            else:
                segments.append((piece.interval, node))
        return self.boxes.branch(dim, segments)


@dataclass(frozen=True, slots=True)
class _Piece:
    """An interval of one dimension, the boxes that are somewhere in it, those that cover it, and how often a box begins
    or ends inside."""

    interval: Interval
    anywhere: int
    everywhere: int
    cuts: int = 0

    def and_next(self, other: _Piece) -> _Piece:
        """Both pieces as one."""
        interval = (self.interval[0], other.interval[1])
        cuts = self.cuts + other.cuts + 1
        return _Piece(interval, self.anywhere | other.anywhere, self.everywhere & other.everywhere, cuts)


def _inside(covered: Intervals | None, whole: Interval) -> Intervals:
    return tuple(i for i in covered or () if i[0] <= whole[1] and i[1] >= whole[0])


def _product(conditions: Sequence[tuple[Dim, Intervals]]) -> int:
    return prod(len(covered) for _, covered in conditions)


def _up_to(subset: int, certain: int) -> int:
    """The boxes up to the strongest one that is certain to hold."""
    certain &= subset
    return subset & ((certain & -certain) * 2 - 1)

"""Cut boxes into a decision diagram of bounded size and depth.

Owns the choice of the next dimension and of its pieces. It is given boxes in order of strength. It must not know
nftables.

Each node asks for the dimension that leaves the fewest boxes in its pieces (HiCuts, Gupta and McKeown 1999). A cut may
make the boxes at most `growth` times as many, counted in all pieces together: else neighbours are joined. Where few
boxes are left, or no look-ups, they are asked in order (`Steps`). So the price of a hostile policy is a longer list at
the end of a path, never more look-ups and never a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod

from sgdataplane.compiler.diagram import (
    BY_PROTOCOL,
    DIMS,
    Boxes,
    Branch,
    Dim,
    Intervals,
    Node,
    Renumbering,
    RuleBox,
    bits,
    up_to,
)
from sgdataplane.net.ranges import Interval
from sgdataplane.net.values import Family

MAX_STEPS = 8  # so few boxes are asked one by one even if look-ups are left: a box takes 15 ns, a look-up 120 ns
MANY_PROTOCOLS = 8  # more protocols than this are looked up
GROWTHS = (4.0, 3.0, 2.0, 1.5, 1.0)  # each is tried if the diagram of the one before gets too large
NO_CUTS = 0.0
LONG, SPARSE = 1024, 4  # if more than LONG boxes were there, and at most one in SPARSE is left, they get new numbers
WORTHWHILE = 0.95  # a cut must leave at most this part of the boxes
ABOUT = 0.98  # a cut is about as good as the best one if the best one leaves more than this part of the cut's boxes


# A set of boxes, the interval of each dimension that they ask for, and how many look-ups are left.
_Key = tuple[int, tuple[Interval | None, ...], int]


class TooManyCellsError(Exception):
    """The diagram is larger than it may be (never leaves the compiler)."""


@dataclass(frozen=True, slots=True)
class Cutting:
    """A diagram, and what the next one takes over from it."""

    boxes: Boxes
    """The boxes that it was made of."""
    look_ups: int
    """How many look-ups there may be on a path."""
    node: Node
    """The node where each path begins."""
    nodes: dict[_Key, Node] = field(repr=False)
    """The node of each region, as in _Cutter."""
    branches: dict[Hashable, Branch] = field(repr=False)
    """Each branch by its segments, as in _Cutter."""
    taken: int
    """How many cells all these nodes have, also those to which no path leads any more."""
    growth: float
    """The largest growth that each cut was allowed."""


def build_cutting(boxes: Sequence[RuleBox], family: Family, look_ups: int, previous: Cutting | None) -> Cutting:
    """Return the diagram of all boxes, with at most `look_ups` look-ups on a path.

    It takes over nodes of an earlier diagram where the boxes are the same objects. The result is the same as without
    it.
    """
    if previous is None or previous.look_ups != look_ups:
        return _cut(Boxes(boxes, family), look_ups)
    move = Renumbering.of(previous.boxes.boxes, boxes)
    if not move.gone and not move.come:
        return previous
    return _recut(boxes, previous, move) or _cut(Boxes(boxes, family), look_ups)


def _cut(boxes: Boxes, look_ups: int) -> Cutting:
    """Cut boxes from nothing, with less and less growth until the diagram is small enough."""
    most = most_cells(len(boxes.boxes))
    for growth in GROWTHS:
        try:
            return _Cutter(boxes, growth, _Room(most)).make_diagram(look_ups)
        except TooManyCellsError:
            continue
    return _Cutter(boxes, NO_CUTS, _Room(0)).make_diagram(look_ups)


def _recut(boxes: Sequence[RuleBox], previous: Cutting, move: Renumbering) -> Cutting | None:
    """Make only nodes that are new.

    Return None if the result may not be what a diagram from nothing is: if this one could have too many cells, or if
    boxes get other numbers.
    """
    most = most_cells(len(boxes))
    if previous.growth != GROWTHS[0] or max(len(boxes), len(previous.boxes.boxes)) > LONG:
        return None
    cutter = _Cutter(Boxes(boxes, previous.boxes.family, previous.boxes), GROWTHS[0], _Room(most, previous.taken))
    cutter.take_over(previous, move)
    try:
        return cutter.make_diagram(previous.look_ups)
    except TooManyCellsError:
        return None


def most_cells(boxes: int) -> int:
    """Return how many steps and segments the diagram of so many boxes may have."""
    return 12 * boxes + (1 << 13)


@dataclass
class _Room:
    """How many steps and segments there may be, and are."""

    most: int
    """How many there may be."""
    taken: int = 0
    """How many there are."""

    def take(self, cells: int) -> None:
        """Count new cells.

        Raises:
            TooManyCellsError: There are more than there may be.
        """
        self.taken += cells
        if self.taken > self.most:
            raise TooManyCellsError


@dataclass(frozen=True, slots=True)
class _Region:
    """A part of the space."""

    intervals: tuple[Interval, ...]
    """Its interval in each dimension."""
    subset: int
    """The boxes that can decide there."""
    open: tuple[int, ...]
    """For each dimension, the boxes that don't cover all of its interval."""

    def select_undecided(self, but: Dim = -1) -> int:
        """Return the boxes that don't cover all of the region, in the other dimensions."""
        found = 0
        for dim, some in enumerate(self.open):
            if dim != but:
                found |= some
        return found


@dataclass(slots=True)
class _Piece:
    """An interval of one dimension, and the boxes there."""

    interval: Interval
    anywhere: int
    """The boxes that are somewhere in it."""
    everywhere: int
    """The boxes that cover it."""
    left: int
    """The boxes that can decide there."""
    cuts: int = 0
    """How often a box begins or ends inside."""

    @property
    def steps(self) -> int:
        """How many steps are left at least: one for each box, and one for each interval of a box."""
        return max(self.left.bit_count(), self.cuts // 2)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A way to cut a region in one dimension."""

    dim: Dim
    pieces: Callable[[], Sequence[_Piece]]
    """Makes the pieces; mostly, only those of the dimension that is chosen are needed."""
    steps: float
    """How many steps are left in a piece, halfway between the mean and the most."""

    @classmethod
    def of(cls, dim: Dim, pieces: Callable[[], Sequence[_Piece]], steps: Sequence[int]) -> _Cut:
        return cls(dim, pieces, (sum(steps) / len(steps) + max(steps)) / 2)


@dataclass
class _Cutter:
    """Makes one diagram."""

    boxes: Boxes
    growth: float
    """How many times as many boxes a cut may make, counted in all pieces together."""
    room: _Room
    """The room for steps and segments; those of shared nodes count once."""
    _memo: dict[_Key, Node] = field(default_factory=dict)
    _shared: dict[Hashable, Branch] = field(default_factory=dict)

    def take_over(self, previous: Cutting, move: Renumbering) -> None:
        """Start with the nodes of an earlier diagram that are about the same boxes."""
        self._shared = previous.branches
        low, behind, ahead, gone = move.mask_before, move.start + move.gone, move.start + move.come, move.mask_of_gone
        self._memo = {  # move(m), without a call for each
            ((m & low) | (m >> behind << ahead), asked, left): node
            for (m, asked, left), node in previous.nodes.items()
            if not m & gone
        }

    def make_diagram(self, look_ups: int) -> Cutting:
        """Make the diagram.

        Raises:
            TooManyCellsError: There are too many cells; with less growth there are fewer.
        """
        every = (1 << len(self.boxes.boxes)) - 1
        opens = tuple(self.boxes.select_bounded(dim, every) for dim in DIMS)
        subset = up_to(every, ~_Region(self.boxes.whole, every, opens).select_undecided())
        is_many = subset & (subset - 1)
        opens = tuple([some & subset for some in opens])
        node = self._node(self.boxes.whole, subset, opens, look_ups) if is_many else self._leaf(subset)
        return Cutting(self.boxes, look_ups, node, self._memo, self._shared, self.room.taken, self.growth)

    def _node(self, intervals: tuple[Interval, ...], subset: int, opens: Sequence[int], look_ups: int) -> Node:
        """Return the node of a region.

        Regions share their node if they differ only in dimensions that no box asks for. `subset` has the boxes that can
        decide there; `opens` is as in _Region.
        """
        asked = tuple([interval if some else None for interval, some in zip(intervals, opens, strict=True)])
        key = (subset, asked, look_ups)
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = self.make_node(_Region(intervals, subset, tuple(opens)), look_ups)
        return found

    def _part(self, region: _Region, dim: Dim, piece: _Piece, look_ups: int) -> Node:
        """Return the node of the part of a region that is in a piece of one dimension."""
        left = piece.left
        if not left & (left - 1):
            return self._leaf(left)
        intervals, opens = list(region.intervals), [some & left for some in region.open]
        intervals[dim], opens[dim] = piece.interval, opens[dim] & ~piece.everywhere
        return self._node(tuple(intervals), left, opens, look_ups)

    def _leaf(self, subset: int) -> Node:
        """Return the leaf of a single box."""
        return self.boxes.leaf(subset.bit_length() - 1)

    def make_node(self, region: _Region, look_ups: int) -> Node:
        """Make the node of a region."""
        if len(self.boxes.boxes) > max(LONG, SPARSE * region.subset.bit_count()):
            return self._apart(region, look_ups)
        if region.open[BY_PROTOCOL]:
            return self._by_protocol(region, look_ups)
        steps = self._steps_of(region)
        if look_ups > 0 and steps > MAX_STEPS:
            found = _choose_cut([self._cut(region, dim, self.growth * steps) for dim in DIMS if region.open[dim]])
            if found.steps <= WORTHWHILE * steps:
                return self._parts(region, found.dim, found.pieces(), look_ups - 1)
        self._take(steps)
        return self.boxes.steps([(index, self._conditions(region, index)) for index in bits(region.subset)])

    def _take(self, cells: int) -> None:
        if self.growth != NO_CUTS:
            self.room.take(cells)

    def _steps_of(self, region: _Region) -> int:
        """Return how many steps it takes to ask for all boxes of a region, one by one."""
        scattered = bits(region.subset & self.boxes.scattered)
        more = (prod(len(covered) for _, covered in self._conditions(region, index)) - 1 for index in scattered)
        return region.subset.bit_count() + sum(more)

    def _apart(self, region: _Region, look_ups: int) -> Node:
        """Make the node by itself, with new numbers for its boxes, since masks are as long as the largest number."""
        numbers = {index: number for number, index in enumerate(bits(region.subset))}
        boxes = Boxes([self.boxes.boxes[index] for index in numbers], self.boxes.family)
        opens = tuple([sum(1 << numbers[index] for index in bits(some)) for some in region.open])
        apart = _Region(region.intervals, (1 << len(numbers)) - 1, opens)
        return _Cutter(boxes, self.growth, self.room).make_node(apart, look_ups)

    def _conditions(self, region: _Region, index: int) -> list[tuple[Dim, Intervals]]:
        """Return the conditions of a box that aren't known to hold in the region."""
        intervals = self.boxes.boxes[index].intervals
        dims = [dim for dim in DIMS if region.open[dim] >> index & 1]
        return [(dim, _inside(intervals[dim], region.intervals[dim])) for dim in dims]

    def _by_protocol(self, region: _Region, look_ups: int) -> Node:
        """Make a node that asks for the protocol.

        Protocols are few and always told apart, so that no rule asks for the port of a protocol without ports.
        """
        pieces = self._pieces(region, BY_PROTOCOL)
        return self._parts(region, BY_PROTOCOL, pieces, look_ups - (len(pieces) > MANY_PROTOCOLS))

    def _pieces(self, region: _Region, dim: Dim) -> list[_Piece]:
        return _pieces(self.boxes.pieces(dim, region.subset, region.intervals[dim]), ~region.select_undecided(dim))

    def _cut(self, region: _Region, dim: Dim, limit: float) -> _Cut:
        """Return the finest cut of a dimension whose pieces, with the boxes in them, aren't more than `limit`."""
        found, elsewhere = self.boxes.pieces(dim, region.subset, region.intervals[dim]), ~region.select_undecided(dim)
        lefts = [up_to(some, some & elsewhere) for _, some in found]
        if len(lefts) == 1 or _size(lefts) <= limit:
            return _Cut.of(dim, partial(_pieces, found, elsewhere), list(map(int.bit_count, lefts)))
        pieces, most = _pieces(found, elsewhere), MAX_STEPS
        while len(pieces) > 1 and _size([piece.left for piece in pieces]) > limit:
            pieces = _join_neighbours(pieces, elsewhere, most)
            most *= 2
        return _Cut.of(dim, lambda: pieces, [piece.steps for piece in pieces])

    def _parts(self, region: _Region, dim: Dim, pieces: Sequence[_Piece], look_ups: int) -> Node:
        """Make the nodes of all pieces, and the branch that leads to them. Neighbours with the same node are joined."""
        segments: list[tuple[Interval, Node]] = []
        for piece in pieces:
            node = self._part(region, dim, piece, look_ups)
            if segments and segments[-1][1] is node:
                segments[-1] = ((segments[-1][0][0], piece.interval[1]), node)
            else:
                segments.append((piece.interval, node))
        self._take(len(segments))
        return self._branch(dim, segments)

    def _branch(self, dim: Dim, segments: Sequence[tuple[Interval, Node]]) -> Node:
        """Return the branch with these segments, always the same object for the same segments."""
        if len(segments) == 1:
            return segments[0][1]
        key = (dim, tuple([(interval, id(node)) for interval, node in segments]))
        if key not in self._shared:
            self._shared[key] = Branch(dim, tuple(segments))
        return self._shared[key]


def _choose_cut(cuts: Sequence[_Cut]) -> _Cut:
    """Return the first cut that is about as good as the best.

    Several dimensions may tell rules apart equally well. If a hair decided among them, one rule more would change the
    whole diagram.
    """
    best = min(cut.steps for cut in cuts)
    return next(cut for cut in cuts if cut.steps * ABOUT <= best)


def _pieces(found: Iterable[tuple[Interval, int]], elsewhere: int) -> list[_Piece]:
    """Make pieces of intervals, each with the boxes that cover it.

    `elsewhere` has the boxes that cover all of the region in all other dimensions.
    """
    return [_Piece(interval, some, some, up_to(some, some & elsewhere)) for interval, some in found]


def _size(lefts: Sequence[int]) -> int:
    """Return how many boxes are in different pieces, plus how many pieces there are.

    `lefts` has the boxes of each piece.
    """
    return len(lefts) + sum(map(int.bit_count, set(lefts)))


def _join_neighbours(pieces: Sequence[_Piece], elsewhere: int, most: int) -> list[_Piece]:
    """Join neighbours wherever the joined piece has at most `most` steps.

    `elsewhere` has the boxes that cover all of the region in all other dimensions.
    """
    found: list[_Piece] = []
    for piece in pieces:
        both = _both(found[-1], piece, elsewhere) if found else None
        if both is not None and both.steps <= most:
            found[-1] = both
        else:
            found.append(piece)
    return found


def _both(one: _Piece, other: _Piece, elsewhere: int) -> _Piece:
    """Return two neighbours as one piece."""
    anywhere, everywhere = one.anywhere | other.anywhere, one.everywhere & other.everywhere
    left = up_to(anywhere, everywhere & elsewhere)
    return _Piece((one.interval[0], other.interval[1]), anywhere, everywhere, left, one.cuts + other.cuts + 1)


def _inside(covered: Intervals | None, whole: Interval) -> Intervals:
    return tuple([i for i in covered or () if i[0] <= whole[1] and i[1] >= whole[0]])

"""The heart: permissions in order -> a decision diagram over CONDITIONS (policy/dimensions.py).

Owns the order "first match wins" and turns it into disjoint cells. Where few boxes are left, they are asked one by one
in that order (`Steps`), which costs less than a look-up. Is given boxes (permissions without their remote), and makes
diagrams of any subset. Must not know nftables.

A path through a diagram asks about each dimension at most once, whatever the number of boxes. Where that takes more
than MAX_DEPTH look-ups, or too many cells, coarse.py makes another diagram: that bounds what one packet costs. Equal
branches are one object.

Subsets are bit masks, bit i for box i, so the strongest box of a subset is its lowest bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TypeAlias

from sgdataplane.model.decision import Decision
from sgdataplane.net.ranges import Interval
from sgdataplane.net.values import Family
from sgdataplane.policy.dimensions import CONDITIONS, PROTOCOL

MAX_DEPTH = 2  # how many look-ups a path of any diagram may have
MAX_STEPS = 8  # how many boxes are asked one by one: each takes some 15 ns, a look-up 120
MANY_PROTOCOLS = 8  # more protocols than this are looked up


Dim: TypeAlias = int  # what a diagram asks about, by its place in CONDITIONS
DIMS = range(len(CONDITIONS))
BY_PROTOCOL: Dim = CONDITIONS.index(PROTOCOL)
Intervals = tuple[Interval, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RuleBox:
    """A permission as a region: for each dimension the disjoint sorted intervals that it covers, or None for all of it.

    Only TCP and UDP permissions have ports (state validation refuses others), so a path never asks another protocol
    for a port. `decision` is None where the chain after this diagram decides. Boxes are compared by identity.
    """

    decision: Decision | None
    intervals: tuple[Intervals | None, ...]


EVERYTHING: tuple[Intervals | None, ...] = (None,) * len(DIMS)


@dataclass(frozen=True, slots=True)
class Leaf:
    """The end of a path. `cells` and `depth` of any node: the entries below it, and the most look-ups on a path."""

    decision: Decision | None
    cells: int = 0
    depth: int = 0


@dataclass(frozen=True, slots=True)
class BoxStep:
    """Decides packets that meet all its conditions."""

    conditions: tuple[tuple[Dim, Interval], ...]
    decision: Decision | None


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The first step whose conditions hold decides. The last has none."""

    steps: tuple[BoxStep, ...]
    depth: int = 0

    @property
    def cells(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """`segments` are disjoint, sorted and cover the dimension; neighbours lead to different nodes."""

    dim: Dim
    segments: tuple[tuple[Interval, Node], ...]
    cells: int
    depth: int

    @classmethod
    def of(cls, dim: Dim, segments: Sequence[tuple[Interval, Node]]) -> Branch:
        is_looked_up = dim != BY_PROTOCOL or len(segments) > MANY_PROTOCOLS
        cells = len(segments) + sum(node.cells for _, node in segments)
        return cls(dim, tuple(segments), cells, is_looked_up + max(node.depth for _, node in segments))


Node = Leaf | Steps | Branch


class TooManyCellsError(Exception):
    """The exact diagram is larger than it may be (never leaves the compiler)."""


def bits(mask: int) -> Iterator[int]:
    """The indices of a subset, strongest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


@dataclass
class Boxes:
    """Boxes in order of strength, the last of which covers everything, and the diagrams of their subsets.

    `max_cells`: what a diagram may have before it is made coarser.
    """

    boxes: Sequence[RuleBox]
    family: Family
    max_cells: int
    _memo: dict[tuple[int, int], Node] = field(default_factory=dict)
    _shared: dict[tuple[Dim, tuple[tuple[Interval, int], ...]], Branch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.last = tuple(each.domain.last(self.family) for each in CONDITIONS)
        leaves: dict[Decision | None, Leaf] = {}
        self._leaves = [leaves.setdefault(box.decision, Leaf(box.decision)) for box in self.boxes]
        self._bounded = [0] * len(DIMS)  # per dimension the boxes that don't cover all of it
        self._free = [0] * (len(DIMS) + 1)  # per dimension the boxes that cover all of it and of all later ones
        self._deciding = 0  # the boxes that decide
        self._steps = [[0] * len(self.boxes) for _ in (*DIMS, None)]  # how many steps a box needs from there on
        for index, box in enumerate(self.boxes):
            self._deciding |= (box.decision is not None) << index
            self._free[-1] |= 1 << index
            self._steps[-1][index] = 1
            is_free = True
            for dim in reversed(DIMS):
                covered = box.intervals[dim]
                is_free = is_free and covered is None
                self._bounded[dim] |= (covered is not None) << index
                self._free[dim] |= is_free << index
                self._steps[dim][index] = self._steps[dim + 1][index] * (1 if covered is None else len(covered))

    def exact(self, subset: int) -> Node:
        """The diagram that cuts each dimension wherever a box begins or ends. TooManyCellsError if it has more than
        `max_cells`."""
        return self._node(0, subset)

    def relevant(self, dim: int, subset: int) -> int:
        """The subset without boxes that can't decide: those behind one that covers all that is left, and those weaker
        than all boxes that decide."""
        certain = subset & self._free[dim]
        subset &= (certain & -certain) * 2 - 1
        deciding = subset & self._deciding
        if deciding & certain:
            return subset
        return subset & ((1 << deciding.bit_length()) - 1) | 1 << (len(self.boxes) - 1)

    def bounded(self, dim: Dim, subset: int) -> int:
        """The boxes of a subset that don't cover all of a dimension."""
        return subset & self._bounded[dim]

    def _node(self, dim: int, subset: int) -> Node:
        subset = self.relevant(dim, subset)
        if not subset & (subset - 1):
            return self._leaves[subset.bit_length() - 1]
        key = (dim, subset)
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = self._made(dim, subset)
        return found

    def _made(self, dim: int, subset: int) -> Node:
        if subset.bit_count() <= MAX_STEPS:
            needed = [(index, self._steps[dim][index]) for index in bits(subset)]
            if sum(number for _, number in needed) <= MAX_STEPS:
                return self.steps([(index, self._conditions(dim, index)) for index, _ in needed])
        return self._branch(dim, subset)

    def _conditions(self, dim: int, index: int) -> list[tuple[Dim, Intervals]]:
        intervals = self.boxes[index].intervals
        return [(d, covered) for d in DIMS[dim:] if (covered := intervals[d]) is not None]

    def steps(self, asked: Sequence[tuple[int, Sequence[tuple[Dim, Intervals]]]]) -> Node:
        """Asks boxes one by one, each for the conditions that aren't known to hold. The last one has none."""
        made: list[BoxStep] = []
        for index, conditions in asked:
            dims = [dim for dim, _ in conditions]
            decision = self.boxes[index].decision
            every = product(*(covered for _, covered in conditions))
            made.extend(BoxStep(tuple(zip(dims, chosen, strict=True)), decision) for chosen in every)
        while len(made) > 1 and made[-2].decision == made[-1].decision:
            del made[-2]
        return Steps(tuple(made)) if len(made) > 1 else self._leaves[asked[-1][0]]

    def _branch(self, dim: Dim, subset: int) -> Node:
        pieces = self.pieces(dim, subset)
        if len(pieces) == 1:
            return self._node(dim + 1, subset)
        segments: list[tuple[Interval, Node]] = []
        cells = 0
        for interval, covering in pieces:
            node = self._node(dim + 1, covering)
            if segments and segments[-1][1] is node:
                segments[-1] = ((segments[-1][0][0], interval[1]), node)
                continue
            segments.append((interval, node))
            cells += 1 + node.cells
            if cells > self.max_cells:
                raise TooManyCellsError
        return self.branch(dim, segments)

    def branch(self, dim: Dim, segments: Sequence[tuple[Interval, Node]]) -> Node:
        """The branch with these segments, always the same object for the same segments."""
        if len(segments) == 1:
            return segments[0][1]
        key = (dim, tuple((interval, id(node)) for interval, node in segments))
        if key not in self._shared:
            self._shared[key] = Branch.of(dim, segments)
        return self._shared[key]

    def pieces(self, dim: Dim, subset: int, within: Interval | None = None) -> list[tuple[Interval, int]]:
        """The pieces of a dimension, cut where a box begins or ends, each with the boxes that cover it."""
        first, last = within or (0, self.last[dim])
        always, turns = 0, {first: 0}
        for index in bits(subset):
            covered = self.boxes[index].intervals[dim]
            if covered is None:
                always |= 1 << index
                continue
            for start, end in covered:
                if start <= last and end >= first:
                    turns[max(start, first)] = turns.get(max(start, first), 0) ^ (1 << index)
                    turns[end + 1] = turns.get(end + 1, 0) ^ (1 << index)
        starts = sorted(start for start in turns if start <= last)
        ends = [start - 1 for start in starts[1:]] + [last]
        found = []
        for start, end in zip(starts, ends, strict=True):
            always ^= turns[start]
            found.append(((start, end), always))
        return found

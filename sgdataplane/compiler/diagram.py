"""The heart: an ordered list of permissions -> a decision diagram over protocol, local side and ports.

Owns the order "first match wins" and turns it into disjoint cells, so that below here no order matters.
Is given boxes (permissions without their remote) for one class of addresses. Must not know nftables.

A path through a diagram asks about each dimension at most once, in the order of `Dim`, whatever the number of boxes:
that is the bound on look-ups for one packet. Equal sub-diagrams are one object.
"""

from __future__ import annotations

import enum
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

from sgdataplane.errors import LimitError
from sgdataplane.policy.resolve import Cause, Interval

MAX_CELLS = 500_000  # of one profile; above it the compile is refused rather than the kernel filled


class Dim(enum.IntEnum):
    """What a diagram asks about, in this order."""

    PROTOCOL = 0
    LOCAL = 1
    SOURCE_PORT = 2
    PORT = 3


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """A permission as a region: per dimension the disjoint sorted intervals it covers, or None for all of it.

    Only TCP and UDP permissions have ports (state validation refuses others), so a path never asks another protocol
    for a port. Compared by identity: a permission becomes a box once.
    """

    cause: Cause
    intervals: tuple[tuple[Interval, ...] | None, ...]

    def is_free_from(self, dim: int) -> bool:
        """Whether it covers all of `dim` and of every later dimension."""
        return all(part is None for part in self.intervals[dim:])


@dataclass(frozen=True, slots=True)
class Leaf:
    cause: Cause


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """`segments` are disjoint, sorted and cover the dimension; neighbours lead to different nodes."""

    dim: Dim
    segments: tuple[tuple[Interval, Node], ...]


Node = Leaf | Branch


@dataclass
class DiagramBuilder:
    """Builds diagrams for one family and shares equal ones. `last_local` is the family's highest address."""

    last_local: int
    cells: int = 0
    _memo: dict[tuple[int, tuple[Box, ...]], Node] = field(default_factory=dict)
    _shared: dict[tuple[Dim, tuple[tuple[Interval, int], ...]], Branch] = field(default_factory=dict)
    _leaves: dict[Cause, Leaf] = field(default_factory=dict)

    def build(self, boxes: Sequence[Box]) -> Node:
        """The diagram of boxes in order of strength, the last of which covers everything."""
        return self._node(Dim.PROTOCOL, tuple(boxes))

    def _node(self, dim: int, boxes: tuple[Box, ...]) -> Node:
        boxes = _up_to_certain(dim, boxes)
        if len(boxes) == 1:
            return self._leaves.setdefault(boxes[0].cause, Leaf(boxes[0].cause))
        key = (dim, boxes)
        if key not in self._memo:
            self._memo[key] = self._branch(Dim(dim), boxes)
        return self._memo[key]

    def _branch(self, dim: Dim, boxes: tuple[Box, ...]) -> Node:
        if all(box.intervals[dim] is None for box in boxes):
            return self._node(dim + 1, boxes)
        segments: list[tuple[Interval, Node]] = []
        for interval, active in _segments(dim, boxes, self._last(dim)):
            node = self._node(dim + 1, active)
            if segments and segments[-1][1] is node:
                segments[-1] = ((segments[-1][0][0], interval[1]), node)
            else:
                segments.append((interval, node))
        return segments[0][1] if len(segments) == 1 else self._share(dim, segments)

    def _share(self, dim: Dim, segments: list[tuple[Interval, Node]]) -> Branch:
        key = (dim, tuple((interval, id(node)) for interval, node in segments))
        if key not in self._shared:
            self._shared[key] = Branch(dim, tuple(segments))
            self.cells += len(segments)
            if self.cells > MAX_CELLS:
                raise LimitError("a profile's disjoint cells", MAX_CELLS, self.cells)
        return self._shared[key]

    def _last(self, dim: Dim) -> int:
        return (255, self.last_local, 65535, 65535)[dim]


def _up_to_certain(dim: int, boxes: tuple[Box, ...]) -> tuple[Box, ...]:
    """Cut after the first box that covers all that is left: nothing behind it can decide."""
    for index, box in enumerate(boxes):
        if box.is_free_from(dim):
            return boxes[: index + 1]
    return boxes


def _segments(dim: Dim, boxes: tuple[Box, ...], last: int) -> list[tuple[Interval, tuple[Box, ...]]]:
    """Cut a dimension where a box begins or ends; with each piece the boxes that cover it, still in order."""
    starts: dict[int, list[int]] = {0: []}
    ends: dict[int, list[int]] = {}
    for index, box in enumerate(boxes):
        covered = box.intervals[dim]
        for first, end in ((0, last),) if covered is None else covered:  # an empty port list covers nothing
            starts.setdefault(first, []).append(index)
            ends.setdefault(end + 1, []).append(index)
    cuts = sorted({*starts, *ends} - {last + 1})
    active: list[int] = []
    pieces = []
    for position, first in enumerate(cuts):
        for index in ends.get(first, ()):
            del active[bisect_left(active, index)]
        for index in starts.get(first, ()):
            insort(active, index)
        upper = cuts[position + 1] - 1 if position + 1 < len(cuts) else last
        covering = active[:1] if dim is Dim.PORT else active
        pieces.append(((first, upper), tuple(boxes[index] for index in covering)))
    return pieces

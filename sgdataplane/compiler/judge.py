"""One direction of a profile in one family: class of far addresses -> decision diagram.

Owns what is decided per class, and what once for all. Is given permissions in order. Must not know nftables.

Most addresses differ from others in few permissions. So permissions for everywhere (without a remote, or for all of the
family) have one diagram, `wide`. A class's own diagram decides only where one of its own permissions is the strongest,
and leaves everything else to `wide` (Leaf.decision is None). That is right at every point: if the strongest permission
of all is one for everywhere, it is the strongest of those for everywhere.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from operator import or_

from sgdataplane.compiler import coarse
from sgdataplane.compiler.diagram import BY_PROTOCOL, DIMS, EVERYTHING, Boxes, Intervals, Leaf, Node, RuleBox, bits
from sgdataplane.compiler.memo import SpaceMemo
from sgdataplane.model.state import Remote
from sgdataplane.net.values import Family, Prefix
from sgdataplane.policy.dimensions import conditions
from sgdataplane.policy.resolve import Permission

MAX_CELLS = 1 << 16  # of all diagrams of one judge together, as long as each has MIN_CELLS
MIN_CELLS = 1 << 8
ELSEWHERE = RuleBox(None, EVERYTHING)


class ClassJudge:
    """`wide` is the diagram of all permissions for everywhere; `of` gives a class's own diagram."""

    def __init__(
        self,
        permissions: Sequence[Permission],
        family: Family,
        classes: int,
        memo: SpaceMemo,
        protocol: int | None = None,
    ) -> None:
        """`classes`: how many classes there will be. Each gets its share of cells, so that diagrams don't depend on the
        order in which they are asked for. `protocol`: the one that all packets have, so that no rule asks for it."""
        boxes = [
            (p, box)
            for p in permissions
            if (box := memo.boxes.get((p, (family, protocol)), partial(_box, p, family, protocol)))
        ]
        self._everywhere = Prefix(family.bits, 0, 0)
        self._own: dict[Remote, int] = {}
        wide = 0
        for index, (permission, _) in enumerate(boxes):
            if permission.remote is None or permission.remote == self._everywhere:
                wide |= 1 << index
            else:
                self._own[permission.remote] = self._own.get(permission.remote, 0) | 1 << index
        self._wide = tuple(box for index, (_, box) in enumerate(boxes) if wide >> index & 1)
        self._family = family
        silent = [_silent(box, memo) if wide >> index & 1 else box for index, (_, box) in enumerate(boxes)]
        self._share = max(MIN_CELLS, 1 << max(MAX_CELLS // max(classes, 1), 1).bit_length() - 1)
        self._boxes = Boxes([*silent, ELSEWHERE], family, self._share)
        self._overlaps = [_Overlaps(dim, silent, wide) for dim in DIMS]
        self._rivals: dict[int, int] = {}
        self._keys: dict[int, Hashable] = {}
        self._known: dict[int, Node] = {}

    def wide(self) -> Node:
        """The diagram of all permissions for everywhere."""
        boxes = Boxes(self._wide, self._family, MAX_CELLS)
        return coarse.diagram(boxes, (1 << len(self._wide)) - 1)

    def wide_key(self) -> Hashable:
        """A key for that diagram: equal keys mean equal diagrams."""
        return self._wide

    def own(self, places: Mapping[Remote, int]) -> dict[int, int]:
        """For each remote, by its bit, the subset of boxes that are its own."""
        return {places[remote]: own for remote, own in self._own.items() if remote in places}

    def with_rivals(self, own: int) -> int:
        """All boxes that can decide where this subset applies; 0 if only those for everywhere can."""
        if own not in self._rivals:
            self._rivals[own] = self._with_rivals(own) if own else 0
        return self._rivals[own]

    def key(self, subset: int) -> Hashable:
        """A key for the subset's diagram: equal keys mean equal diagrams."""
        if subset not in self._keys:
            self._keys[subset] = (self._share, *(self._boxes.boxes[index] for index in bits(subset)))
        return self._keys[subset]

    def of(self, subset: int) -> Node:
        """The diagram of a subset, which with_rivals() has given."""
        if not subset:
            return Leaf(None)
        if subset not in self._known:
            self._known[subset] = coarse.diagram(self._boxes, subset)
        return self._known[subset]

    def _with_rivals(self, own: int) -> int:
        """Adds the stronger boxes for everywhere that overlap one of these."""
        own = self._boxes.relevant(0, own | 1 << len(self._boxes.boxes) - 1)
        found = own
        for index in bits(own):
            rivals = (1 << index) - 1
            for overlaps, covered in zip(self._overlaps, self._boxes.boxes[index].intervals, strict=True):
                rivals &= overlaps.of(covered)
            found |= rivals
        return found


class _Overlaps:
    """Which of the boxes for everywhere overlap an interval in one dimension."""

    def __init__(self, dim: int, boxes: Sequence[RuleBox], wide: int) -> None:
        edges: list[tuple[int, int, int]] = []
        self._always = 0
        for index in bits(wide):
            covered = boxes[index].intervals[dim]
            if covered is None:
                self._always |= 1 << index
            else:
                edges.extend((first, last, 1 << index) for first, last in covered)
        self._all = wide
        self._starts = sorted(first for first, _, _ in edges)
        self._ends = sorted(last for _, last, _ in edges)
        self._begun = [0, *accumulate((bit for _, _, bit in sorted(edges)), or_)]
        by_end = sorted(edges, key=lambda edge: edge[1], reverse=True)
        self._to_end = [*reversed(list(accumulate((bit for _, _, bit in by_end), or_))), 0]

    def of(self, covered: Intervals | None) -> int:
        """The boxes that overlap one of the intervals. Some with several intervals may only lie around it."""
        if covered is None:
            return self._all
        found = self._always
        for first, last in covered:
            found |= self._begun[bisect_right(self._starts, last)] & self._to_end[bisect_left(self._ends, first)]
        return found


def _silent(box: RuleBox, memo: SpaceMemo) -> RuleBox:
    """The same region without a decision: `wide` decides there."""
    return memo.silent.get(box, lambda: RuleBox(None, box.intervals))


def _box(permission: Permission, family: Family, protocol: int | None) -> RuleBox | None:
    """The permission as a region; None if it can't match any packet. `protocol`: the one that all packets have, so that
    no rule asks for it."""
    asked = conditions(permission, family)
    if () in asked:
        return None
    if protocol is not None:
        if asked[BY_PROTOCOL] not in (None, ((protocol, protocol),)):
            return None
        asked = (*asked[:BY_PROTOCOL], None, *asked[BY_PROTOCOL + 1 :])
    return RuleBox(permission.decision, asked)

"""Order boxes by strength, so that the first one that holds a point decides: a specification, as sets.

Owns the question which boxes decide somewhere in a cell. It is given boxes as sets of atoms. It must not know chains or
rules.

A cell is a product: one set of atoms for each axis. A set of boxes is a bit mask, bit i for box i, so that the
strongest box is its lowest bit. The last box holds everything.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from operator import and_, xor

from sgdataplane.proof.spec.axes import Atoms, runs

MAX_KNOWN = 1 << 12  # for so many sets of atoms an axis remembers the boxes; a walk asks again soon, or hardly ever

Cell = tuple[Atoms, ...]
"""One set of atoms for each axis."""
Boxes = int
"""A set of boxes: bit i stands for box i."""


def indices(boxes: Boxes) -> Iterator[int]:
    """Yield the boxes of a set, strongest first."""
    while boxes:
        low = boxes & -boxes
        yield low.bit_length() - 1
        boxes ^= low


def meet(one: Cell, other: Cell) -> Cell | None:
    """Return the common part of two cells; None if there is none."""
    common = tuple(map(and_, one, other))
    return common if all(common) else None


def without(cell: Cell, holes: Iterable[Cell]) -> list[Cell]:
    """Return the cell without the holes, as disjoint cells.

    Mostly one hole is all of the cell, and the others would only cut it into many.
    """
    inside = [common for hole in holes if (common := meet(cell, hole)) is not None]
    if cell in inside:
        return []
    left = [cell]
    for hole in inside:
        left = [piece for part in left for piece in _cut_out(part, hole)]
        if not left:
            break
    return left


def _cut_out(cell: Cell, hole: Cell) -> Iterator[Cell]:
    """Yield the cell without a hole, as disjoint cells."""
    common = meet(cell, hole)
    if common is None:
        yield cell
        return
    for axis, inside in enumerate(common):
        outside = cell[axis] & ~inside
        if outside:
            yield (*common[:axis], outside, *cell[axis + 1 :])


class _Dimension:
    """One axis, which knows the boxes that meet a set of its atoms, and those that hold all of it.

    It is a tree over the boxes that hold each atom: node i joins nodes 2i and 2i+1, and the atoms are the last nodes.
    """

    def __init__(self, regions: Sequence[Atoms], size: int) -> None:
        turns = [0] * (size + 1)
        for box, region in enumerate(regions):
            for first, last in runs(region):
                turns[first] ^= 1 << box
                turns[last + 1] ^= 1 << box
        self._size = size
        holding = list(accumulate(turns[:size], xor))
        self._unions, self._common = ([0] * size + holding for _ in range(2))
        for node in range(size - 1, 0, -1):
            self._unions[node] = self._unions[2 * node] | self._unions[2 * node + 1]
            self._common[node] = self._common[2 * node] & self._common[2 * node + 1]
        self._known: dict[Atoms, tuple[Boxes, Boxes]] = {}

    def among(self, atoms: Atoms) -> tuple[Boxes, Boxes]:
        """Return the boxes that meet the set, and those that hold all of it. The set isn't empty."""
        found = self._known.get(atoms)
        if found is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            found = self._known[atoms] = self._join_nodes(atoms)
        return found

    def _join_nodes(self, atoms: Atoms) -> tuple[Boxes, Boxes]:
        """Work out what among() returns, by joining nodes of the tree."""
        unions, common, size = self._unions, self._common, self._size
        some, every = 0, -1
        for first, last in runs(atoms):
            low, high = first + size, last + 1 + size
            while low < high:
                if low & 1:
                    some |= unions[low]
                    every &= common[low]
                    low += 1
                if high & 1:
                    high -= 1
                    some |= unions[high]
                    every &= common[high]
                low >>= 1
                high >>= 1
        return some, every


class BoxOrder:
    """Boxes, strongest first.

    Attributes:
        full: The cell of all points.
        regions: Each box as a cell. One with an empty set on an axis holds nowhere.
        outcomes: The outcome that each box asks for.
        all: The set of all boxes.
        saying: The boxes that ask for each outcome.
    """

    def __init__(self, full: Cell, regions: Sequence[Cell], outcomes: Sequence[Hashable]) -> None:
        self.full, self.regions, self.outcomes = full, regions, outcomes
        self.all: Boxes = (1 << len(regions)) - 1
        self.saying: dict[Hashable, Boxes] = {}
        for box, outcome in enumerate(outcomes):
            self.saying[outcome] = self.saying.get(outcome, 0) | 1 << box

    @cached_property
    def _dimensions(self) -> list[tuple[int, _Dimension]]:
        """The axes that tell any boxes apart, by index."""
        return [
            (axis, _Dimension([region[axis] for region in self.regions], atoms.bit_length()))
            for axis, atoms in enumerate(self.full)
            if atoms != 1 or not all(region[axis] for region in self.regions)
        ]

    def among(self, cell: Cell, boxes: Boxes) -> tuple[Boxes, Boxes]:
        """Return those of `boxes` that meet the cell, and those that hold all of it."""
        every = boxes
        for axis, dimension in self._dimensions:
            meeting, holding = dimension.among(cell[axis])
            boxes &= meeting
            every &= holding
        return boxes, every

    def relevant(self, cell: Cell, boxes: Boxes) -> Boxes:
        """Return the boxes that meet the cell, up to the first that holds all of it.

        No later box can decide there.
        """
        meeting, holding = self.among(cell, boxes)
        return meeting & ((holding & -holding) * 2 - 1)

    def inside(self, cell: Cell, part: Cell) -> Boxes:
        """Return the boxes that hold nothing of the cell outside of that part of it."""
        outside = 0
        for axis, dimension in self._dimensions:
            if cell[axis] != part[axis]:
                outside |= dimension.among(cell[axis] & ~part[axis])[0]
        return ~outside

    def differing(self, cell: Cell, holes: Sequence[Cell], boxes: Boxes, same: Boxes) -> tuple[int, Cell] | None:
        """Find a box that isn't one of `same` and decides somewhere in the cell outside of the holes.

        Return the box and where it decides; None if there is none. This is exact.
        """
        meeting, holding = self.among(cell, boxes)
        certain = holding & same
        wrong = meeting & ~same & ((certain & -certain) - 1)
        for box in indices(wrong):
            own = meet(cell, self.regions[box])
            if own is None:
                continue
            stronger, holding = self.among(own, meeting & ((1 << box) - 1))
            if holding:
                continue
            left = without(own, (*holes, *(self.regions[other] for other in indices(stronger))))
            if left:
                return box, left[0]
        return None

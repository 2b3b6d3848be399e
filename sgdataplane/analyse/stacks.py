"""Entries that hold for the same far addresses: what decides among them, and how much may be asked.

Owns the sharing of answers: they follow from the conditions and verdicts of entries, whatever their rules are called
and whatever their remotes are, so that all views ask the same stacks. Must not know rules, nor ENIs.

Work is counted in pieces that traffic is cut into. Where there is too much of it, TooMuchError is raised, and nothing
may be concluded from what was seen until then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sgdataplane.analyse.order import Arrangement, Mask, Shape
from sgdataplane.net.ranges import Ranges
from sgdataplane.net.values import Family

MOST_OF_VIEW = 200_000  # pieces of one pool, direction and family: two seconds
MOST = 1_000_000  # pieces of all


class TooMuchError(Exception):
    """There is more to look at than may be (never leaves this package)."""


@dataclass
class Budget:
    """How many pieces one view may be cut into, and how many are left for all; is changed."""

    most_of_view: int = MOST_OF_VIEW
    left: int = MOST
    _of_view: int = 0

    def begin(self) -> None:
        """Another view. TooMuchError: nothing is left for it."""
        self._of_view = self.most_of_view
        self.spend(0)

    def spend(self, pieces: int) -> None:
        self._of_view -= pieces
        self.left -= pieces
        if min(self._of_view, self.left) < 0:
            raise TooMuchError


class Stacks:
    """All stacks that were asked for."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._numbers: dict[tuple[Shape, int], int] = {}
        self._kinds: list[tuple[Shape, int]] = []
        self._known: dict[tuple[Family, tuple[int, ...]], Stack] = {}

    def kind(self, shape: Shape, is_accept: int) -> int:
        """A number, the same for the same conditions and verdict (1: accept)."""
        kind = shape, is_accept
        if kind not in self._numbers:
            self._numbers[kind] = len(self._kinds)
            self._kinds.append(kind)
        return self._numbers[kind]

    def of(self, kinds: tuple[int, ...], family: Family) -> Stack:
        """Entries of these kinds, the strongest first; the last holds for everything."""
        found = self._known.get((family, kinds))
        if found is None:
            made = [self._kinds[kind] for kind in kinds]
            found = self._known[family, kinds] = Stack(made, family, self.budget)
        return found


class Stack(Arrangement):
    """An arrangement that counts the pieces that it makes, and knows what comes second."""

    def __init__(self, kinds: Sequence[tuple[Shape, int]], family: Family, budget: Budget) -> None:
        accepting = sum(is_accept << place for place, (_, is_accept) in enumerate(kinds))
        super().__init__([shape for shape, _ in kinds], accepting, family)
        self.every: Mask = (1 << len(kinds)) - 1
        self._budget = budget
        self._pairs: dict[tuple[int, Mask], frozenset[tuple[int, int]]] = {}

    def followed(self) -> frozenset[tuple[int, int]]:
        """What decides some traffic, with what would decide it next. (The last is followed by itself.)"""
        return self._followed(0, self.every)

    def _followed(self, dim: int, side: Mask) -> frozenset[tuple[int, int]]:
        first = self._relevant(dim, side)
        side = first | self._relevant(dim, side & ~(first & self._free[dim]))
        if not side & ~self._free[dim]:
            return frozenset([((side & -side).bit_length() - 1, side.bit_length() - 1)])
        key = dim, side
        if key not in self._pairs:
            found = (self._followed(dim + 1, part) for _, (part,) in self._pieces(dim, (side,)))
            self._pairs[key] = frozenset().union(*found)
        return self._pairs[key]

    def _pieces(self, dim: int, sides: tuple[Mask, ...]) -> Iterator[tuple[Ranges, tuple[Mask, ...]]]:
        for piece in super()._pieces(dim, sides):
            self._budget.spend(1)
            yield piece

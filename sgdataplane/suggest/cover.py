"""The fewest rectangles that cover some cells.

A cell is an address block and a port, and a rectangle a block and a range of ports. Owns the choice. Is given cells and
the rectangles that may be chosen. Must not know rules.

The cells that only one rectangle covers settle most choices. If what is left is small (MAX_TRIED rectangles), all
combinations are tried: no smaller cover exists. Else the rectangle that covers most of what is left is taken, again and
again, and then those are removed that others make redundant: at most 1 + ln(n) times the fewest, for n cells (Chvatal
1979). Finding the fewest is NP-hard. Of equally good choices, the first one in the given order is taken.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations
from typing import TypeVar

MAX_TRIED = 16
Cells = frozenset[int]
R = TypeVar("R", bound=Hashable)


def cover(cells: Iterable[int], rectangles: Sequence[tuple[R, Cells]]) -> list[R]:
    """Choose rectangles so that each cell is in one of them; each cell must be in some rectangle."""
    left = set(cells)
    chosen = _find_needed(left, rectangles)
    for place in chosen:
        left -= rectangles[place][1]
    rest = [place for place, (_, covered) in enumerate(rectangles) if not left.isdisjoint(covered)]
    if left:
        parts = [(place, rectangles[place][1] & left) for place in rest]
        chosen |= set(_find_smallest(left, parts) if len(parts) <= MAX_TRIED else _greedy(left, parts))
    return [rectangles[place][0] for place in sorted(chosen)]


def _find_needed(cells: set[int], rectangles: Sequence[tuple[R, Cells]]) -> set[int]:
    """Return the rectangles that alone cover some cell."""
    only: dict[int, int] = {}
    for place, (_, covered) in enumerate(rectangles):
        for cell in covered & cells:
            only[cell] = -1 if cell in only else place
    return {place for place in only.values() if place >= 0}


def _find_smallest(cells: set[int], parts: Sequence[tuple[int, Cells]]) -> Sequence[int]:
    """Return the first of the smallest combinations that cover all cells."""
    for size in range(1, len(parts) + 1):
        for some in combinations(parts, size):
            if len(frozenset().union(*(covered for _, covered in some))) == len(cells):
                return [place for place, _ in some]
    raise ValueError("a cell is in no rectangle")


def _greedy(cells: set[int], parts: Sequence[tuple[int, Cells]]) -> list[int]:
    """Take the rectangle that covers most of what is left until nothing is; return those that are needed."""
    left, of = set(cells), dict(parts)
    heap = [(-len(covered), place) for place, covered in parts]
    heapq.heapify(heap)
    found: list[int] = []
    while left:
        gain, place = heapq.heappop(heap)
        now = len(of[place] & left)
        if now == -gain:
            found.append(place)
            left -= of[place]
        elif now:
            heapq.heappush(heap, (-now, place))
    return _without_redundant(found, of)


def _without_redundant(found: list[int], of: dict[int, Cells]) -> list[int]:
    """Return the rectangles without those whose cells others cover, which are left out from the last one on."""
    times: dict[int, int] = {}
    for place in found:
        for cell in of[place]:
            times[cell] = times.get(cell, 0) + 1
    kept = []
    for place in reversed(found):
        if all(times[cell] > 1 for cell in of[place]):
            for cell in of[place]:
                times[cell] -= 1
        else:
            kept.append(place)
    return kept

"""What of a profile's proof holds for the next table and state, so that only the rest is proven.

Owns what is remembered of a profile, and how sets of claims are found again among others. Must not know how a class of
far addresses is proven.

A class was proven at a chain for the claims that hold for it, in their order. It needn't be again where that chain,
with all that it leads to, is the same, and so are these claims. What chains further up do is asked anew of each class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from sgdataplane.net.values import Direction, Family
from sgdataplane.proof.claims import Claim
from sgdataplane.proof.far import Side
from sgdataplane.proof.order import Boxes
from sgdataplane.proof.view import View

NOTHING: frozenset[str] = frozenset()
Class = tuple[str, Boxes]  # where it comes to, and the claims that hold for it


@dataclass(frozen=True, slots=True)
class KnownView:
    """`near`: chains that ask no far address, and lead to none that does. `proven`: classes, at such chains."""

    near: AbstractSet[str] = NOTHING
    proven: AbstractSet[Class] = frozenset()

    def without(self, turned: AbstractSet[str]) -> KnownView:
        """Less chains that are others now."""
        if turned.isdisjoint(self.near):
            return self
        return KnownView(self.near - turned, {known for known in self.proven if known[0] not in turned})


@dataclass(frozen=True)
class KnownProfile:
    """A profile that is right. `basis`: of the specification, all that its claims follow from, but for who the members
    of the groups `spoken` of are; `roots`: where it begins."""

    basis: object
    spoken: frozenset[str]
    roots: Mapping[tuple[Direction, Family], AbstractSet[str]]
    sides: Mapping[tuple[Direction, Family], Side]
    views: Mapping[View, KnownView] = field(default_factory=dict)

    def without(self, turned: AbstractSet[str]) -> KnownProfile:
        """Less chains that are others now, by their names: these may come to mean something to it later."""
        views = {view: known.without(turned) for view, known in self.views.items()}
        return KnownProfile(self.basis, self.spoken, self.roots, self.sides, views)


class Renumbering:
    """Claims that are the same as before have other numbers where some come or go."""

    def __init__(self, before: Sequence[Claim], after: Sequence[Claim]) -> None:
        self._runs: list[tuple[int, Boxes, int]] = []  # first number now, how many as a mask, first number before
        self._known: Boxes = 0
        self._all = before is after
        for new, old, length in () if self._all else _runs(before, after):
            self._runs.append((new, (1 << length) - 1, old))
            self._known |= ((1 << length) - 1) << new

    def before(self, boxes: Boxes) -> Boxes | None:
        """The numbers that these claims had, in the same order; None if one of them is new."""
        if self._all:
            return boxes
        if boxes & ~self._known:
            return None
        found = 0
        for new, mask, old in self._runs:
            found |= (boxes >> new & mask) << old
        return found


def _runs(before: Sequence[Claim], after: Sequence[Claim]) -> list[tuple[int, int, int]]:
    """(first number after, first number before, length) of claims that are equal, in the order of both."""
    most = min(len(before), len(after))
    start = next((n for n in range(most) if before[n] != after[n]), most)
    end = next((n for n in range(most - start) if before[-1 - n] != after[-1 - n]), most - start)
    place = {claim: number for number, claim in enumerate(before[: len(before) - end]) if number >= start}
    found, last = [(0, 0, start)], start - 1
    for number in range(start, len(after) - end):
        old = place.get(after[number], -1)
        if old > last:
            found.append((number, old, 1))
            last = old
    return [*found, (len(after) - end, len(before) - end, end)]

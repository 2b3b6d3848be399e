"""How many members of each kinship lie where the same CIDR blocks hold them: that says which classes there are.

Owns the count, and how it follows from an earlier one. Is given pages of members and segments. Must not know rules.

It is a sum over all members, so what goes is taken off and what comes is added: members on pages that changed, those in
segments that changed, and those of kinships that are asked about for the first time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from sgdataplane.model.members import Kin, MemberPage, Pages
from sgdataplane.net.ranges import Interval

RemoteSet = int  # a bit mask of remotes
Segments = tuple[tuple[Interval, RemoteSet], ...]
MANY = 64  # segments that changed: it isn't worth looking for the members of each


@dataclass(frozen=True)
class Spread:
    """`counts`: (kinship, remotes that hold the address) -> members, at least one; of these kinships only."""

    pages: Pages
    kins: AbstractSet[Kin]
    segments: Segments
    counts: Mapping[tuple[Kin, RemoteSet], int]


def spread(pages: Pages, kins: AbstractSet[Kin], segments: Segments, before: Spread | None) -> Spread:
    """Count from nothing, or from what was counted before."""
    turned = [] if before is None else list(_turned(before.segments, segments))
    if before is None or len(turned) > MANY:
        before, turned = Spread({}, frozenset(), segments, {}), []
    kept = kins & before.kins
    known = _Count(kept, before.segments, _of(kept, before))
    for number in before.pages.keys() | pages.keys():
        old, new = before.pages.get(number), pages.get(number)
        if old is not new:
            known.page(old, -1)
            known.page(new, 1)
    for interval, was, held in turned:
        for kin in _within(pages, interval):
            if kin in kept:
                known.add(kin, was, -1)
                known.add(kin, held, 1)
    fresh = _Count(kins - kept, segments, known.counts)
    for page in pages.values() if len(kept) < len(kins) else ():
        fresh.page(page, 1)
    return Spread(pages, kins, segments, fresh.counts)


def _of(kins: AbstractSet[Kin], known: Spread) -> dict[tuple[Kin, RemoteSet], int]:
    """The count of some of its kinships."""
    if len(kins) == len(known.kins):
        return dict(known.counts)
    return {(kin, held): number for (kin, held), number in known.counts.items() if kin in kins}


class _Count:
    """The count of some kinships, as their members come and go; `counts` is changed."""

    def __init__(self, kins: AbstractSet[Kin], segments: Segments, counts: dict[tuple[Kin, RemoteSet], int]) -> None:
        self._kins, self.counts = kins, counts
        self._starts = [first for (first, _), _ in segments]
        self._held = [held for _, held in segments]

    def add(self, kin: Kin, held: RemoteSet, number: int) -> None:
        left = self.counts.get((kin, held), 0) + number
        if left:
            self.counts[kin, held] = left
        else:
            del self.counts[kin, held]

    def page(self, page: MemberPage | None, sign: int) -> None:
        """All of a page's members come (1) or go (-1)."""
        for kin, addresses in page.by_kin.items() if page is not None else ():
            if kin not in self._kins:
                continue
            low, high = (bisect_right(self._starts, address) - 1 for address in (addresses[0], addresses[-1]))
            if low == high:
                self.add(kin, self._held[low], sign * len(addresses))
                continue
            for address in addresses:
                self.add(kin, self._held[bisect_right(self._starts, address) - 1], sign)


def _turned(old: Segments, new: Segments) -> Iterator[tuple[Interval, RemoteSet, RemoteSet]]:
    """The pieces of the address space that other remotes hold now: which did, and which do."""
    if old == new:
        return
    left, right, start = 0, 0, 0
    while left < len(old) and right < len(new):
        (_, end_old), was = old[left]
        (_, end_new), held = new[right]
        end = min(end_old, end_new)
        if was != held:
            yield (start, end), was, held
        left, right, start = left + (end_old == end), right + (end_new == end), end + 1


def _within(pages: Pages, interval: Interval) -> Iterator[Kin]:
    """The kinship of each member there."""
    first, last = interval
    for page in pages.values():
        for address in page.addresses[bisect_left(page.addresses, first) : bisect_right(page.addresses, last)]:
            yield page.kin[address]

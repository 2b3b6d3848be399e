"""Sets of numbers as ranges: addresses, protocols, ports.

Owns their arithmetic. Is given plain numbers. Must not know what they stand for.

`Ranges` are sorted and disjoint, both ends included, and no range begins right after another: equal sets are equal
tuples. If one set is small and the other large, the cost depends on the small one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Interval = tuple[int, int]
Ranges = tuple[Interval, ...]


def unite(intervals: Iterable[Interval]) -> Ranges:
    """Return the set of all numbers in some intervals, which may overlap and be in any order."""
    ordered = sorted(intervals)
    found = ordered[:1]
    for first, last in ordered[1:]:
        if first <= found[-1][1] + 1:
            if last > found[-1][1]:
                found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return tuple(found)


def meet(one: Ranges, other: Ranges) -> Ranges:
    """Return the numbers that are in both sets."""
    if one is other:
        return one
    small, large = (one, other) if len(one) <= len(other) else (other, one)
    return tuple((max(first, low), min(last, high)) for first, last in small for low, high in _near(large, first, last))


def minus(one: Ranges, other: Ranges) -> Ranges:
    """Return the numbers that are only in the first set."""
    found: list[Interval] = []
    for first, last in one:
        start = first
        for low, high in _near(other, first, last):
            if low > start:
                found.append((start, low - 1))
            start = high + 1
        if start <= last:
            found.append((start, last))
    return tuple(found)


def symmetric_difference(one: Ranges, other: Ranges) -> Ranges:
    """Return the numbers that are in exactly one of the sets."""
    if one is other or one == other:
        return ()
    return unite((*minus(one, other), *minus(other, one)))


def holds(ranges: Ranges, number: int) -> bool:
    """Return whether the number is in the set."""
    return any(True for _ in _near(ranges, number, number))


def count(ranges: Ranges) -> int:
    """Return how many numbers are in the set."""
    return sum(last - first + 1 for first, last in ranges)


def _near(ranges: Ranges, first: int, last: int) -> Iterator[Interval]:
    """Yield the ranges that overlap an interval, in order."""
    start = bisect_left(ranges, first, key=_last)
    for place in range(start, bisect_right(ranges, last, lo=start, key=_first)):
        yield ranges[place]


def _first(interval: Interval) -> int:
    return interval[0]


def _last(interval: Interval) -> int:
    return interval[1]

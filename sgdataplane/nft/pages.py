"""Divide the elements of a very large map into pages, so that two maps that differ little are cheap to compare.

Owns the pages. Each element has one page that it can be on. It must not know what keys stand for.

A map that differs little from an earlier one shares most of its pages. Pages that are the same object are equal, so
only the others are compared. Apart from that it is a sequence of elements, sorted by key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, SupportsIndex, TypeVar, overload

from sgdataplane.contract import names

K = TypeVar("K", bound=int | str | tuple[int, str])
V = TypeVar("V")


@dataclass(frozen=True)
class MapPage(Generic[K, V]):
    """Some elements, sorted by key."""

    elements: tuple[tuple[K, V], ...]

    @cached_property
    def by_key(self) -> dict[K, V]:
        """The elements as a dictionary."""
        return dict(self.elements)

    @cached_property
    def values(self) -> frozenset[V]:
        """The different values. Most elements of a large map share one object."""
        return frozenset({id(value): value for _, value in self.elements}.values())

    @cached_property
    def tally(self) -> tuple[tuple[V, int], ...]:
        """Each value with how many elements have it. Equal values that aren't one object are listed apart."""
        known = {id(value): value for _, value in self.elements}
        counts = Counter([id(value) for _, value in self.elements])
        return tuple((known[number], count) for number, count in counts.items())

    @cached_property
    def digest(self) -> str:
        """A hash that only equal elements share."""
        found = {id(value): value for _, value in self.elements}
        texts = {known: repr(value) for known, value in found.items()}
        return names.digest(",".join([f"{key!r}:{texts[id(value)]}" for key, value in self.elements]), 32)


class Paged(Sequence[tuple[K, V]], Generic[K, V]):
    """Pages by number, none of them empty. As a sequence it is sorted by key."""

    def __init__(self, pages: Mapping[int, MapPage[K, V]]) -> None:
        self.pages = pages

    @cached_property
    def _all(self) -> tuple[tuple[K, V], ...]:
        elements = (element for page in self.pages.values() for element in page.elements)
        return tuple(sorted(elements, key=lambda element: element[0]))

    @cached_property
    def digest(self) -> str:
        """A hash that only equal elements share, on equal pages."""
        return names.digest(",".join(f"{number}:{page.digest}" for number, page in sorted(self.pages.items())), 32)

    @cached_property
    def values(self) -> frozenset[V]:
        """The different values."""
        return frozenset[V]().union(*(page.values for page in self.pages.values()))

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return iter(self._all)

    @cached_property
    def _length(self) -> int:
        return sum(len(page.elements) for page in self.pages.values())

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: SupportsIndex) -> tuple[K, V]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[tuple[K, V], ...]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> tuple[K, V] | tuple[tuple[K, V], ...]:
        return self._all[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Paged):
            return self.pages == other.pages
        return self._all == other

    def __hash__(self) -> int:
        return hash(self._all)

    def __repr__(self) -> str:
        return repr(self._all)


Elements = Sequence[tuple[K, V]]


def values(elements: Elements[K, V]) -> frozenset[V]:
    """Return the different values."""
    return elements.values if isinstance(elements, Paged) else MapPage(tuple(elements)).values


def digest(elements: Elements[K, V]) -> str:
    """Return a hash that only equal elements share."""
    return elements.digest if isinstance(elements, Paged) else MapPage(tuple(elements)).digest


def find_missing(elements: Elements[K, V], others: Elements[K, V]) -> tuple[tuple[K, V], ...]:
    """Return the elements that the others don't have, or have with another value."""
    if isinstance(elements, Paged) and isinstance(others, Paged):
        pages = ((page, others.pages.get(number)) for number, page in elements.pages.items())
        found = [_find_missing(page, other.by_key if other else {}) for page, other in pages if page is not other]
        return tuple(sorted((element for some in found for element in some), key=lambda element: element[0]))
    return tuple(_find_missing(MapPage(tuple(elements)), dict(others)))


def _find_missing(page: MapPage[K, V], others: Mapping[K, V]) -> list[tuple[K, V]]:
    return [
        element
        for element in page.elements
        if (other := others.get(element[0])) is not element[1] and other != element[1]
    ]

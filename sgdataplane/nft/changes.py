"""Find what differs between two sorted lists of named objects, most of which are the same objects.

Owns the comparison, and what is worked out of such objects only if somebody asks. It must not know what the objects
are.

It strides over what is the same and looks at single objects only where something differs. A table of 40,000 chains
costs about as much as reading it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Generic, Protocol, TypeVar, cast

LONGEST = 1024  # so many objects are compared at once


class HasName(Protocol):
    """An object with a name."""

    @property
    def name(self) -> str:
        """The name by which two lists are compared."""


N = TypeVar("N", bound=HasName)
T = TypeVar("T")
V = TypeVar("V")


class ById(Generic[T]):
    """An object that is compared by its identity."""

    def __init__(self, value: T) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ById) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class Derived(Mapping[str, V]):
    """A mapping that is made when somebody asks for the first time. For a known table, mostly nobody does."""

    def __init__(self, make: Callable[[], Mapping[str, V]]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Mapping[str, V]:
        return self._make()

    def __getitem__(self, name: str) -> V:
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


def same_ends(one: Sequence[object], other: Sequence[object]) -> tuple[int, int]:
    """Return how many objects are equal at the beginning of both lists, and then at the end.

    Most of these are the same objects.
    """
    start = _alike(one, other)
    return start, _alike(one[start:][::-1], other[start:][::-1])


def between(one: Sequence[T], other: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """Return what stands between the equal ends, in each of the lists."""
    start, end = same_ends(one, other)
    return one[start : len(one) - end], other[start : len(other) - end]


def _alike(one: Sequence[object], other: Sequence[object]) -> int:
    """Return how many objects are equal at the beginning. It looks for the first difference in strides."""
    if type(one) is not type(other):
        one, other = list(one), list(other)
    at, stride, length = 0, LONGEST, min(len(one), len(other))
    while at < length and stride:
        end = min(at + stride, length)
        if one[at:end] == other[at:end]:
            at = end
        else:
            stride //= 4
    return at


@dataclass(frozen=True, slots=True)
class Differences(Generic[N]):
    """What differs between two lists. An object that changed is in both mappings.

    (If the lists aren't sorted, equal objects may be in both, too.)
    """

    gone: Mapping[str, N]
    """What the earlier list has and the later one hasn't, by name."""
    come: Mapping[str, N]
    """What the later list has and the earlier one hasn't, by name."""

    @property
    def names(self) -> set[str]:
        """The names of all objects that differ."""
        return {*self.gone, *self.come}


def changes(before: tuple[N, ...], after: tuple[N, ...]) -> Differences[N]:
    """Return what differs. The same question about the same lists is answered once."""
    return cast("Differences[N]", _find_differences(ById(before), ById(after)))


@lru_cache(maxsize=16)
def _find_differences(before: ById[tuple[N, ...]], after: ById[tuple[N, ...]]) -> Differences[N]:
    """Stride over both lists as long as they are equal, and go by names where they aren't."""
    gone, come = dict[str, N](), dict[str, N]()
    old, new, at, there, stride = before.value, after.value, 0, 0, 1
    while at < len(old) and there < len(new) and old is not new:
        if old[at : at + stride] == new[there : there + stride]:
            at, there, stride = at + stride, there + stride, min(2 * stride, LONGEST)
        elif stride > 1:
            stride = 1
        else:
            one, other = old[at], new[there]
            if one.name <= other.name:
                gone[one.name], at = one, at + 1
            if other.name <= one.name:
                come[other.name], there = other, there + 1
    if old is not new:
        gone.update((entry.name, entry) for entry in old[at:])
        come.update((entry.name, entry) for entry in new[there:])
    return Differences(gone, come)

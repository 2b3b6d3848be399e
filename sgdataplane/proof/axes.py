"""The values of one field, cut into atoms: pieces whose values neither the rules nor the table tell apart.

Owns the cutting, and sets of atoms as bit masks (bit i for atom i). Is given where to cut. Must not know chains.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate, chain, count
from operator import xor
from string import ascii_lowercase, digits

from sgdataplane.nft.ir import Key, Match, Range

Atoms = int
LACKING = None  # the value of packets without the field: no match holds for it, negated or not


class MalformedError(Exception):
    """No proof is possible: nftables would refuse these ranges, or they can't be told from each other."""


def runs(atoms: Atoms) -> Iterator[tuple[int, int]]:
    """The first and last index of each run of neighbouring atoms in a set."""
    while atoms:
        low = atoms & -atoms
        rest = atoms + low
        yield low.bit_length() - 1, (rest & -rest).bit_length() - 2
        atoms &= rest


class Span:
    """Numbers `0..last`, cut so that each of `cuts` is the first one of an atom. `may_lack`: there is one more atom,
    for packets without the field."""

    def __init__(self, last: int, cuts: Iterable[int] = (), *, may_lack: bool = False) -> None:
        self.starts: list[int] = sorted({0, *(cut for cut in cuts if 0 < cut <= last)})
        self.last = last
        size = len(self.starts)
        self._below: list[Atoms] = [(1 << index) - 1 for index in range(size + 1)]
        self._index = {start: index for index, start in enumerate(self.starts)}
        self._index[last + 1] = size
        self._known: dict[tuple[tuple[Key, Key], ...], Atoms] = {}  # sets are large, and asked for again and again
        self.present: Atoms = self._below[size]
        self.lacking: Atoms = 1 << size if may_lack else 0
        self.full: Atoms = self.present | self.lacking

    @staticmethod
    def cuts_of(ranges: Iterable[Range]) -> Iterator[int]:
        """The cuts that these ranges need."""
        for item in ranges:
            yield int(item.first)
            yield int(item.last) + 1

    def select(self, ranges: Sequence[Range], mask: int | None = None) -> Atoms:
        """The atoms in these ranges, whose ends were cuts. MalformedError unless ranges are disjoint and sorted."""
        if mask is not None:
            raise MalformedError("a mask on a field that has none")
        key = tuple([(item.first, item.last) for item in ranges])
        if key not in self._known:
            self._known[key] = self._selected(ranges)
        return self._known[key]

    def _selected(self, ranges: Sequence[Range]) -> Atoms:
        index, below = self._index, self._below
        found, before = 0, -1
        for item in ranges:
            first, end = int(item.first), int(item.last) + 1
            if not before < first < end <= self.last + 1:
                raise MalformedError(f"range {item.first}-{item.last} is out of order or out of bounds")
            found |= below[index[end]] ^ below[index[first]]
            before = end - 1
        return found

    def single(self, key: Key) -> Atoms:
        """The atom of one value, whose ends were cuts."""
        return self.select((Range.of(key),))

    def overlapping(self, intervals: Iterable[tuple[int, int]]) -> Atoms:
        """The atoms that have a part in one of the intervals, whose ends needn't be cuts."""
        found = 0
        for first, last in intervals:
            low, high = (bisect_right(self.starts, value) - 1 for value in (first, last))
            found |= self._below[high + 1] ^ self._below[low]
        return found

    def value(self, index: int) -> int | None:
        """The first value of an atom."""
        return self.starts[index] if index < len(self.starts) else LACKING

    def ends(self, index: int) -> tuple[int, int]:
        """The first and last value of an atom."""
        after = self.starts[index + 1] if index + 1 < len(self.starts) else self.last + 1
        return self.starts[index], after - 1


class Names:
    """Values that can be listed: flags, names, marks. Each is an atom; LACKING may be one of them."""

    def __init__(self, values: Iterable[Key | None]) -> None:
        self.values: tuple[Key | None, ...] = tuple(dict.fromkeys(values))
        self.full: Atoms = (1 << len(self.values)) - 1
        self.present: Atoms = sum(1 << i for i, value in enumerate(self.values) if value is not LACKING)
        self._known: dict[tuple[tuple[Range, ...], int | None], Atoms] = {}

    def select(self, ranges: Sequence[Range], mask: int | None = None) -> Atoms:
        """The atoms whose value, under the mask, lies in one of the ranges."""
        key = (tuple(ranges), mask)
        if key not in self._known:
            self._known[key] = sum(1 << i for i, v in enumerate(self.values) if v is not None and is_in(v, *key))
        return self._known[key]

    def single(self, key: Key) -> Atoms:
        return self.select((Range.of(key),))

    def value(self, index: int) -> Key | None:
        return self.values[index]


Axis = Span | Names


def holds(match: Match, value: Key | None) -> bool:
    """Whether a match holds for a value. It never holds for a field that the packet lacks, negated or not."""
    return value is not LACKING and is_in(value, match.ranges, match.mask) != match.negate


def is_in(value: Key, ranges: Iterable[Range], mask: int | None = None) -> bool:
    if isinstance(value, str):
        return any(is_name(str(item.first), value) for item in ranges)
    masked = value if mask is None else value & mask
    return any(int(item.first) <= masked <= int(item.last) for item in ranges)


def is_name(wanted: str, name: str) -> bool:
    """Whether a name is the wanted one; a wanted name that ends in * stands for all that begin so."""
    return name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted


def representatives(wanted: Collection[str]) -> list[str]:
    """One name for each combination of wanted names that a name can match. MalformedError if too many names that end in
    * make that impossible."""
    stems = {name[:-1] for name in wanted if name.endswith("*")}
    exact = {name for name in wanted if not name.endswith("*")}
    return [*sorted(exact), *(_other(stem, stems, exact) for stem in sorted({"", *stems}))]


def _other(stem: str, stems: Collection[str], exact: Collection[str]) -> str:
    """A name that begins with the stem, and that no longer stem and no exact name matches."""
    nexts = digits + ascii_lowercase if stem else ascii_lowercase[::-1]
    free = next((char for char in nexts if not any(other.startswith(stem + char) for other in stems)), None)
    if free is None:
        raise MalformedError(f"interfaces that begin with {stem} can't be told from others")
    return next(name for name in (stem + free + end for end in chain(("",), map(str, count()))) if name not in exact)


def patterns(sets: Iterable[Sequence[Range]], last: int) -> frozenset[int]:
    """The combinations of sets in which a number `0..last` can lie, bit i for set i. MalformedError unless the ranges
    of each set are disjoint and sorted."""
    turns = {0: 0}
    for number, ranges in enumerate(sets):
        before = -1
        for item in ranges:
            first, end = int(item.first), int(item.last) + 1
            if not before < first < end <= last + 1:
                raise MalformedError(f"range {item.first}-{item.last} is out of order or out of bounds")
            turns[first] = turns.get(first, 0) ^ 1 << number
            turns[end] = turns.get(end, 0) ^ 1 << number
            before = end - 1
    turns.pop(last + 1, None)
    return frozenset(accumulate((turns[at] for at in sorted(turns)), xor))


def name_patterns(sets: Sequence[Sequence[Range]]) -> frozenset[tuple[bool, ...]]:
    """The combinations of sets in which a name can be."""
    names = representatives({str(item.first) for ranges in sets for item in ranges})
    return frozenset(tuple(is_in(name, ranges) for ranges in sets) for name in names)

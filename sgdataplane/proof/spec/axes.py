"""Cut the values of one field into atoms: sets of values that neither the rules nor the table tell apart.

Owns the cutting, and sets of atoms as bit masks (bit i for atom i). It is given where to cut. It must not know chains.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate, chain, count
from operator import xor
from string import ascii_lowercase, digits

from sgdataplane.nft.ir import Key, Match, Range

Atoms = int
"""A set of atoms of one axis: bit i stands for atom i."""
LACKING = None  # the value of packets without the field: no match holds for it, negated or not


class MalformedError(Exception):
    """Ranges or names that make a proof impossible.

    nftables would refuse these ranges, or some interface names can't be told from each other.
    """


def runs(atoms: Atoms) -> Iterator[tuple[int, int]]:
    """Yield the first and the last index of each run of neighbouring atoms in a set."""
    while atoms:
        low = atoms & -atoms
        rest = atoms + low
        yield low.bit_length() - 1, (rest & -rest).bit_length() - 2
        atoms &= rest


class Span:
    """An axis of the numbers 0 to `last`, cut so that an atom begins at each of `cuts`.

    With `may_lack` it has one more atom, for packets that don't have the field.

    Attributes:
        starts: The first number of each atom, sorted.
        last: The largest number.
        present: All atoms of packets that have the field.
        lacking: The atom of packets that don't have it; 0 if all have it.
        full: All atoms.
    """

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
        """Yield the numbers at which an axis must be cut so that each of these ranges is a set of atoms."""
        for item in ranges:
            yield int(item.first)
            yield int(item.last) + 1

    def select(self, ranges: Sequence[Range], mask: int | None = None) -> Atoms:
        """Return the atoms in these ranges. The axis must have been cut at the ends of each range.

        Raises:
            MalformedError: The ranges aren't disjoint and sorted, or a mask is asked for.
        """
        if mask is not None:
            raise MalformedError("a mask on a field that has none")
        key = tuple([(item.first, item.last) for item in ranges])
        if key not in self._known:
            self._known[key] = self._select(ranges)
        return self._known[key]

    def _select(self, ranges: Sequence[Range]) -> Atoms:
        """Work out what select() returns, from the index of each cut."""
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
        """Return the atom that holds just this value. The axis must have been cut before and after it."""
        return self.select((Range.of(key),))

    def overlapping(self, intervals: Iterable[tuple[int, int]]) -> Atoms:
        """Return the atoms that share a number with one of the intervals. Their ends needn't be cuts."""
        found = 0
        for first, last in intervals:
            low, high = (bisect_right(self.starts, value) - 1 for value in (first, last))
            found |= self._below[high + 1] ^ self._below[low]
        return found

    def value(self, index: int) -> int | None:
        """Return the first value of an atom; LACKING for the atom of packets without the field."""
        return self.starts[index] if index < len(self.starts) else LACKING

    def ends(self, index: int) -> tuple[int, int]:
        """Return the first and the last value of an atom."""
        after = self.starts[index + 1] if index + 1 < len(self.starts) else self.last + 1
        return self.starts[index], after - 1


class Names:
    """An axis of values that can be listed, such as flags, interface names and marks.

    Each value is an atom. LACKING may be one of them.

    Attributes:
        values: The value of each atom.
        full: All atoms.
        present: All atoms but that of packets without the field.
    """

    def __init__(self, values: Iterable[Key | None]) -> None:
        self.values: tuple[Key | None, ...] = tuple(dict.fromkeys(values))
        self.full: Atoms = (1 << len(self.values)) - 1
        self.present: Atoms = sum(1 << i for i, value in enumerate(self.values) if value is not LACKING)
        self._known: dict[tuple[tuple[Range, ...], int | None], Atoms] = {}

    def select(self, ranges: Sequence[Range], mask: int | None = None) -> Atoms:
        """Return the atoms whose value, under the mask, lies in one of the ranges."""
        key = (tuple(ranges), mask)
        if key not in self._known:
            self._known[key] = sum(1 << i for i, v in enumerate(self.values) if v is not None and is_in(v, *key))
        return self._known[key]

    def single(self, key: Key) -> Atoms:
        """Return the atom of one value; the empty set if the axis doesn't have it."""
        return self.select((Range.of(key),))

    def value(self, index: int) -> Key | None:
        """Return the value of an atom; LACKING for packets without the field."""
        return self.values[index]


Axis = Span | Names


def holds(match: Match, value: Key | None) -> bool:
    """Return whether a match holds for a value.

    No match holds for a field that the packet lacks, not even a negated one.
    """
    return value is not LACKING and is_in(value, match.ranges, match.mask) != match.negate


def is_in(value: Key, ranges: Iterable[Range], mask: int | None = None) -> bool:
    """Return whether a value, under the mask, lies in one of the ranges. Interface names may end in `*`."""
    if isinstance(value, str):
        return any(is_name(str(item.first), value) for item in ranges)
    masked = value if mask is None else value & mask
    return any(int(item.first) <= masked <= int(item.last) for item in ranges)


def is_name(wanted: str, name: str) -> bool:
    """Return whether an interface name matches a pattern. A `*` at the pattern's end stands for any rest."""
    return name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted


def representatives(wanted: Collection[str]) -> list[str]:
    """Return one interface name for each combination of patterns that a name can match.

    Raises:
        MalformedError: So many patterns end in `*` that no such name is left.
    """
    stems = {name[:-1] for name in wanted if name.endswith("*")}
    exact = {name for name in wanted if not name.endswith("*")}
    return [*sorted(exact), *(_other(stem, stems, exact) for stem in sorted({"", *stems}))]


def _other(stem: str, stems: Collection[str], exact: Collection[str]) -> str:
    """Return a name that begins with the stem, and that no longer stem and no exact name matches."""
    nexts = digits + ascii_lowercase if stem else ascii_lowercase[::-1]
    free = next((char for char in nexts if not any(other.startswith(stem + char) for other in stems)), None)
    if free is None:
        raise MalformedError(f"interfaces that begin with {stem} can't be told from others")
    return next(name for name in (stem + free + end for end in chain(("",), map(str, count()))) if name not in exact)


def patterns(sets: Iterable[Sequence[Range]], last: int) -> frozenset[int]:
    """Return the combinations of sets in which a number of 0 to `last` can lie, as masks: bit i for set i.

    Raises:
        MalformedError: The ranges of a set aren't disjoint and sorted.
    """
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
    """Return the combinations of sets in which an interface name can lie, as one boolean for each set."""
    names = representatives({str(item.first) for ranges in sets for item in ranges})
    return frozenset(tuple(is_in(name, ranges) for ranges in sets) for name in names)

"""Ids in order, which never change, and make the next ones cheaply: these share what stays.

Owns their order. Must not know what the ids are of.

Ids are kept in small sorted tuples, one after the other. So a step copies the few tuples that it changes and the list
of all, and a page skips tuples as a whole.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator
from itertools import chain, islice
from typing import TypeVar

from sgdataplane.store.layered import Layered

PIECE = 512  # ids in a tuple of a new list; one that has twice as many is cut in two

Pieces = tuple[tuple[str, ...], ...]


K = TypeVar("K", bound=Hashable)


class SortedIds(Collection[str]):
    """Ids in order, each once."""

    __slots__ = ("_pieces",)

    def __init__(self, ids: Collection[str] = ()) -> None:
        self._pieces = _cut(sorted(set(ids)))

    def after(self, come: Collection[str], gone: Collection[str] = ()) -> SortedIds:
        """Return the ids without some, and then with others."""
        if not self._pieces:
            return SortedIds(come)
        if len(come) + len(gone) > len(self._pieces):  # then all tuples may change
            return SortedIds({*self}.difference(gone).union(come))
        pieces = [*self._pieces]
        for one in gone:
            _take_out(pieces, one)
        for one in come:
            _put_in(pieces, one)
        found = SortedIds()
        found._pieces = tuple(pieces)
        return found

    def cut(self, start: int, stop: int) -> list[str]:
        """Return the ids from one place on, and before another one, as a slice does."""
        found: list[str] = []
        for piece in self._pieces:
            if stop <= 0:
                break
            found += piece[max(0, start) : stop]
            start, stop = start - len(piece), stop - len(piece)
        return found

    def __contains__(self, one: object) -> bool:
        if not isinstance(one, str) or not self._pieces:
            return False
        piece = self._pieces[_place(self._pieces, one)]
        at = bisect_left(piece, one)
        return at < len(piece) and piece[at] == one

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._pieces)

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SortedIds) and [*self] == [*other]

    __hash__ = None  # type: ignore[assignment]


def update_index(
    index: Layered[K, SortedIds], gone: Iterable[tuple[K, str]], come: Iterable[tuple[K, str]]
) -> Layered[K, SortedIds]:
    """Return an index, from keys to ids, without some entries, and then with others."""
    left, found = _group(gone), _group(come)
    changed = left.keys() ^ found.keys()
    changed |= {key for key in left.keys() & found.keys() if {*left[key]} != {*found[key]}}
    none = SortedIds()
    after = {key: index.get(key, none).after(found.get(key, ()), left.get(key, ())) for key in changed}
    return index.after({key: ids for key, ids in after.items() if ids}, [key for key, ids in after.items() if not ids])


def _group(entries: Iterable[tuple[K, str]]) -> dict[K, list[str]]:
    found = defaultdict[K, list[str]](list)
    for key, one in entries:
        found[key].append(one)
    return found


def _cut(ids: list[str]) -> Pieces:
    if 0 < len(ids) <= PIECE:  # nearly always one id, of what has a name or an address
        return (tuple(ids),)
    rest = iter(ids)
    return tuple(iter(lambda: tuple(islice(rest, PIECE)), ()))


def _place(pieces: Collection[tuple[str, ...]], one: str) -> int:
    """Return which of the tuples has an id, or gets it."""
    return max(0, bisect_right(pieces, one, key=_first) - 1)  # type: ignore[call-overload,no-any-return]


def _first(piece: tuple[str, ...]) -> str:
    return piece[0]


def _put_in(pieces: list[tuple[str, ...]], one: str) -> None:
    if not pieces:
        pieces.append((one,))
        return
    place = _place(pieces, one)
    piece = pieces[place]
    at = bisect_left(piece, one)
    if at == len(piece) or piece[at] != one:
        piece = (*piece[:at], one, *piece[at:])
        half = len(piece) // 2
        pieces[place : place + 1] = [piece] if len(piece) < 2 * PIECE else [piece[:half], piece[half:]]


def _take_out(pieces: list[tuple[str, ...]], one: str) -> None:
    if not pieces:
        return
    place = _place(pieces, one)
    left = tuple(other for other in pieces[place] if other != one)
    pieces[place : place + 1] = [left] if left else []

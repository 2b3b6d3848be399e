"""Digests that were made before, so that hosts which get the same object share the work.

Owns a table of a fixed size. Must not know what an object is, or who gets it.

An object is told apart by its path and by how it is seen: a host may get all of it or a part. The table has one place
for each path, which others take over if they fall on the same one. What it forgets is only made again.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable

from sgdataplane.store.interface import Path

PLACES = 1 << 17  # 3 MB, once most are taken
DIGEST = 16  # bytes


class KnownDigests:
    """A table of digests by object, which holds at most `places` of them.

    It recognizes an object by 64 bits of Python's keyed hash. Two objects have the same bits once in 10^19 times; a
    host then gets an object that it already has.
    """

    def __init__(self, places: int = PLACES) -> None:
        self._places = places
        self._whose, self._digests = array("q"), bytearray()  # empty until something is known

    def get(self, path: Path, seen: Hashable) -> bytes | None:
        """Return the digest of an object as it is seen; None if it isn't known."""
        place = hash(path) % self._places
        if not self._whose or self._whose[place] != (hash((path, seen)) or 1):
            return None
        return bytes(self._digests[place * DIGEST : (place + 1) * DIGEST])

    def put(self, path: Path, seen: Hashable, digest: bytes) -> None:
        """Keep the digest of an object as it is seen, in place of what was there."""
        if not self._whose:
            self._whose, self._digests = array("q", bytes(8 * self._places)), bytearray(DIGEST * self._places)
        place = hash(path) % self._places
        self._whose[place] = hash((path, seen)) or 1
        self._digests[place * DIGEST : (place + 1) * DIGEST] = digest

    def forget(self, path: Path) -> None:
        """Forget the digests of a changed object, however it is seen."""
        if self._whose:
            self._whose[hash(path) % self._places] = 0

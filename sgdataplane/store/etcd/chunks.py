"""Chunked writes: what is too large for one of etcd's transactions is written in chunks before, and put in place after.

Owns chunks, and who puts what is pending. Must not know when something is committed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sgdataplane.store.etcd.client import Cluster, pages
from sgdataplane.store.etcd.keys import Keys, LogEntry, delete, is_value, place_of
from sgdataplane.store.etcd.messages import Message, make

CHUNK = 1 << 19  # bytes
A_PAGE = 1_000  # keys


class Pending(NamedTuple):
    """A commit whose documents and guards aren't all in their places yet."""

    revision: int
    entry: LogEntry


NOTHING_PENDING = Pending(0, LogEntry("", {}, frozenset(), frozenset(), b""))


@dataclass(frozen=True, slots=True)
class ChunkedWrites:
    """Writes chunks to the store with these keys, and puts them in place."""

    cluster: Cluster
    keys: Keys

    def post(self, value: bytes, folder: str, revision: int, nonce: str) -> str:
        """Write a value in chunks, and return where they are."""
        place = f"{folder}/{revision:020d}/{nonce}"
        for number, start in enumerate(range(0, len(value), CHUNK)):
            chunk = value[start : start + CHUNK]
            self.cluster.call(make("PutRequest", key=self.keys.of(place, number), value=chunk))
        return place

    def whole(self, value: bytes, at: int = 0) -> bytes:
        """Return a value, also if it is in chunks; b"" if they aren't there any more.

        `at` is a revision of etcd's, 0 for now.
        """
        place = place_of(value)
        return b"".join(pair.value for pair in self.folder(at, place)) if place else value

    def folder(self, at: int, *parts: str | int) -> Iterator[Message]:
        """Return all that is in a folder, at a revision of etcd's."""
        return pages(self.cluster.call, *self.keys.folder(*parts), A_PAGE, at)

    def pending(self, value: bytes, at: int = 0) -> Pending:
        """Return what the value of `pending` means. `at` is a revision of etcd's, 0 for now."""
        if not value:
            return NOTHING_PENDING
        found = json.loads(value)
        log = b"".join(pair.value for pair in self.folder(at, found["parcel"]))
        return Pending(found["revision"], LogEntry.read(log))

    def unpack(self, value: bytes) -> None:
        """Put what is pending in its places. Others may do it at the same time."""
        key = self.keys.of("pending")
        pending = self.pending(value)
        for batch in (*pending.entry.batches(self.keys, pending.revision), [delete(key)]):
            if not self.cluster.call(make("TxnRequest", compare=[is_value(key, value)], success=batch)).succeeded:
                return

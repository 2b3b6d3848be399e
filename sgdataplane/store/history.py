"""A store's own past: the epoch of its revisions, and up to where its audit was pruned.

Owns both documents, and the commits that write them. Must not know how a store keeps anything.

    store/epoch     about: {"epoch": E}. A store that is put back from a copy goes back in revisions; from then on, they
                    are of a new epoch, whose number is larger. So whatever follows sees that they aren't the same ones.
    store/pruned    about: {"revision": R, "sha256": H}: the audit records up to R are gone. H is of what
                    `sgdp api audit --json` printed of those that went last.

Since both are documents, every store has them, every watch sees them, and copies have them, too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import cast

from sgdataplane.store import audit
from sgdataplane.store.call import Call
from sgdataplane.store.interface import Body, Json, Path, Snapshot, Store, Write
from sgdataplane.visible import json_text

EPOCH, PRUNED = "store/epoch", "store/pruned"
GUARD = "store"


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A revision of a store, and the epoch that it is of."""

    epoch: int
    revision: int

    def __str__(self) -> str:
        return f"revision {self.revision}" + (f" of epoch {self.epoch}" if self.epoch else "")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a pruning has removed."""

    last: int  # the last revision whose audit record went
    count: int  # how many records went
    sha256: str  # the digest of the records that went, as `sgdp api audit --json` prints them
    revision: int  # the pruning's own revision, whose audit record says the same


def epoch_in(body: Body | None) -> int:
    """Return the epoch that the document store/epoch says; 0 if there is none."""
    return _number(body, "epoch")


def find_last_pruned(body: Body | None) -> int:
    """Return the last revision whose audit record is gone, by the document store/pruned; 0 if there is none."""
    return _number(body, "revision")


def begin_epoch(store: Store, call: Call, at_least: int = 0) -> Version:
    """Commit that the store was put back from a copy: from now on, its revisions are of a new epoch.

    Raises:
        ConflictError: Others have committed meanwhile.
        UnavailableError: The store can't be written.
    """
    seen = store.snapshot()
    epoch = max(int(time.time()), epoch_in(seen.documents.get(EPOCH)) + 1, at_least)
    record = audit.record_of(call, [EPOCH])
    return Version(epoch, store.commit(_write(seen, EPOCH, {"epoch": epoch}, {**record, "epoch": epoch})))


def prune_audit(store: Store, call: Call, last: int) -> Pruned:
    """Remove the audit records up to revision `last`; the audit record of this commit says so.

    Raises:
        ConflictError: Others have committed meanwhile.
        UnavailableError: The store can't be written.
    """
    seen = store.snapshot()
    first, digest, count = find_last_pruned(seen.documents.get(PRUNED)), sha256(), 0
    for record in audit.read(store, first):
        if cast(int, record["revision"]) > last:
            break
        digest.update(f"{json_text(record)}\n".encode())
        count += 1
    said: dict[str, Json] = {"revision": first + count, "sha256": digest.hexdigest()}
    if not count:
        return Pruned(first, 0, digest.hexdigest(), seen.revision)
    record = {**audit.record_of(call, [PRUNED]), "pruned": {"after": first, **said}}
    write = _write(seen, PRUNED, said, record, forget_audit=first + count)
    return Pruned(first + count, count, digest.hexdigest(), store.commit(write))


def _write(seen: Snapshot, path: Path, said: Mapping[str, Json], record: Body, forget_audit: int = 0) -> Write:
    body: Body = {"state": {}, "about": dict(said)}
    return Write({GUARD: seen.guards.get(GUARD, 0)}, {path: body}, audit=record, forget_audit=forget_audit)


def _number(body: Body | None, name: str) -> int:
    return cast("dict[str, int]", body["about"])[name] if body else 0

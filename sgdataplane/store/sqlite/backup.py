"""Copies of a store's file, made while others write to it, and stores that are put back from such copies.

Owns both, and what makes a copy whole. Must not know what documents say. A copy has no key: secrets in it stay sealed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sgdataplane.errors import StateFileError
from sgdataplane.host.files import beside_of, make_private, sync_folder
from sgdataplane.store.call import Call
from sgdataplane.store.encoded import decode
from sgdataplane.store.history import EPOCH, PRUNED, Version, begin_epoch, epoch_in, find_last_pruned
from sgdataplane.store.interface import Body
from sgdataplane.store.sqlite.file import (
    connect,
    error_code,
    make_refusal,
    remove,
    require_exists,
    require_store,
    take_lock,
    unavailable,
    use,
)
from sgdataplane.store.sqlite.store import SqliteStore

DIGEST = "copied"  # the table of a copy that has its digest
UNUSED = "a store that nobody uses: stop `sgdp api` first"


def back_up(store: Path, copy: Path) -> int:
    """Copy a store to a file that isn't there yet, while others may write. Return the copy's revision.

    Raises:
        StateFileError: There is no such store, it isn't whole, or the file exists already.
        UnavailableError: A file can't be read or written.
    """
    with unavailable(store), closing(use(store, create=False)) as used, unavailable(copy):
        with _copy(used.path, "rw", copy) as (made, revision):
            _write_digest(made)
            try:
                os.link(made, copy)
            except FileExistsError:
                raise make_refusal(copy, "Exists", "the file exists already", expected="a name where none is") from None
            sync_folder(copy.parent)
        return revision


def restore(copy: Path, store: Path, call: Call) -> tuple[Version, Path | None]:
    """Put the store back as the copy has it, in a new epoch.

    Return its version, and where the store is that was there before. `call` is what the audit records. Nothing is
    changed unless the copy is whole and nobody uses the store.

    Raises:
        StateFileError: The copy isn't whole, or somebody uses the store.
        UnavailableError: A file can't be read or written.
    """
    require_exists(copy)
    store = store.resolve()
    with unavailable(store), closing(take_lock(store, fcntl.LOCK_EX, UNUSED)):
        with _copy(copy, "ro", store) as (made, _):
            _take_digest(copy, made)
            version = _begin(made, call, at_least=_epoch_of(store) + 1)
            with closing(connect(made)) as db:
                db.execute("PRAGMA journal_mode = WAL")
            former = _keep(store)
            made.replace(store)
            sync_folder(store.parent)
        return version, former


def _write_digest(made: Path) -> None:
    """Note in a copy the digest of all that is in it."""
    with closing(connect(made)) as db:
        digest = _digest(db)
        with db:
            db.execute(f"CREATE TABLE {DIGEST} (sha256 TEXT NOT NULL)")
            db.execute(f"INSERT INTO {DIGEST} VALUES (?)", (digest,))


def _take_digest(copy: Path, made: Path) -> None:
    """Check by its digest that a copy is what it was when it was made, and take the digest out.

    A copy that an earlier version made has none.

    Raises:
        StateFileError: The copy has changed.
    """
    with _catch_damage(copy), closing(connect(made)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (DIGEST,)).fetchone():
            return
        noted = [row[0] for row in db.execute(f"SELECT sha256 FROM {DIGEST}")]
        with db:
            db.execute(f"DROP TABLE {DIGEST}")
        if noted != [_digest(db)]:
            raise _make_damage_error(copy, "something in it isn't as it was when it was made", "its digest differs")


def _digest(db: sqlite3.Connection) -> str:
    """Return the SHA-256 of all that a database has, as SQL."""
    found = hashlib.sha256()
    for line in db.iterdump():
        found.update(line.encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def _begin(made: Path, call: Call, at_least: int) -> Version:
    """Begin an epoch in a store that nobody else knows yet."""
    try:
        with closing(SqliteStore(made, create=False)) as store:
            return begin_epoch(store, call, at_least)
    finally:
        made.with_name(f"{made.name}.lock").unlink(missing_ok=True)


def _epoch_of(store: Path) -> int:
    """Return the epoch of a store; 0 if it isn't there, or can't be read any more."""
    with suppress(sqlite3.DatabaseError), closing(connect(store)) as db:
        return epoch_in(_body(db, EPOCH))
    return 0


def _body(db: sqlite3.Connection, path: str) -> Body | None:
    row = db.execute("SELECT body FROM documents WHERE path = ?", (path,)).fetchone()
    return row and decode(row[0])


@contextmanager
def _copy(source: Path, mode: str, beside: Path) -> Iterator[tuple[Path, int]]:
    """Copy a store whole to a file beside another one; yield that and its revision.

    The file is removed afterwards, if it still has that name. `mode` is that of opening: the last user of a store must
    be able to write, to tidy it up.
    """
    made = beside_of(beside, f"{os.getpid()}.copy")
    os.close(make_private(made))
    try:
        with _open(source, mode) as db, closing(connect(made)) as target:
            db.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
            revision = _revision_of(source, target)
        yield made, revision
    finally:
        remove(made)


@contextmanager
def _open(source: Path, mode: str) -> Iterator[sqlite3.Connection]:
    with unavailable(source), _catch_damage(source):
        db = connect(source, mode)
    with closing(db):
        with unavailable(source), _catch_damage(source):
            require_store(source, db)
        yield db


@contextmanager
def _catch_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if error_code(error) & 0xFF != sqlite3.SQLITE_CORRUPT:
            raise
        raise _make_damage_error(path, "the file is damaged", str(error)) from error


def _revision_of(path: Path, db: sqlite3.Connection) -> int:
    """Return the store's revision.

    Raises:
        StateFileError: The store isn't whole: it is damaged, or has gaps in its audit.
    """
    with _catch_damage(path):
        found = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
    if found != "ok":
        raise _make_damage_error(path, "the file is damaged", found)
    count, last = db.execute("SELECT count(*), ifnull(max(revision), 0) FROM audit").fetchone()
    expected = last - find_last_pruned(_body(db, PRUNED))
    if count != expected:
        raise _make_damage_error(path, "audit records are missing", f"{count} of {expected}")
    return int(last)


def _make_damage_error(path: Path, message: str, value: str) -> StateFileError:
    return make_refusal(path, "Damaged", message, value, "a store that is whole")


def _keep(store: Path) -> Path | None:
    """Give the store a second name, under which it stays when it is replaced; None if there is none."""
    if not store.exists():
        return None
    with suppress(sqlite3.DatabaseError), closing(connect(store)) as db:  # a damaged one is kept as it is
        if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise make_refusal(store, "InUse", "another program has the store open", expected=UNUSED)
    former = store.with_name(f"{store.name}.before-restore")
    remove(former)
    os.link(store, former)
    for ending in ("-wal", "-shm"):
        store.with_name(store.name + ending).unlink(missing_ok=True)
    return former

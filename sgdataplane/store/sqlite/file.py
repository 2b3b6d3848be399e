"""The file of an SqliteStore: made whole or not at all, held while it is used, copied and put back.

Owns its tables, its version, and who may use or replace it when. Must not know what rows say.

FILE.lock says who uses it: each store holds a shared lock as long as it is open, and `restore` needs an exclusive one.
The lock is not on the file itself: if a process closes any descriptor of it, SQLite loses its own locks there.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.host.files import beside_of, make_private, sync_folder
from sgdataplane.store.interface import FullError, UnavailableError

BUSY_S = 10.0  # how long a writer waits for the others
APPLICATION, VERSION = 0x53474450, 2
SUMMARIES = "CREATE TABLE summaries (relay TEXT PRIMARY KEY, body TEXT NOT NULL, until REAL NOT NULL)"
STEPS = {1: SUMMARIES}  # from each former version to the next one
# For a file that nobody knows yet: it is put on disk once, when all is in it.
SCHEMA = f"""
PRAGMA synchronous = OFF;
PRAGMA journal_mode = MEMORY;
BEGIN;
CREATE TABLE documents (path TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE guards (name TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE changes (revision INTEGER PRIMARY KEY, puts TEXT NOT NULL, deletes TEXT NOT NULL, guards TEXT NOT NULL);
CREATE TABLE audit (revision INTEGER PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE tokens (
    name TEXT PRIMARY KEY, digest TEXT NOT NULL, answer TEXT NOT NULL, until REAL NOT NULL, revision INTEGER NOT NULL
);
CREATE INDEX tokens_by_until ON tokens (until);
{SUMMARIES};
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
PRAGMA journal_mode = WAL;
"""


@dataclass(frozen=True, slots=True)
class UsedFile:
    """A store's file while it is used."""

    path: Path
    lock: IO[bytes]  # an open file that holds the shared lock
    inode: tuple[int, int]  # device and number

    def connect(self, synchronous: str = "FULL") -> sqlite3.Connection:
        """Return a connection to the file."""
        return connect(self.path, synchronous=synchronous)

    def require_there(self) -> None:
        """Refuse to write to a file that was moved or removed.

        What is written to it would be lost with the last connection.

        Raises:
            UnavailableError: The file was moved or removed.
        """
        with suppress(FileNotFoundError):
            if _inode(self.path) == self.inode:
                return
        raise UnavailableError(f"{self.path}: the store's file was moved or removed while it is in use")

    def close(self) -> None:
        """Let go of the lock."""
        self.lock.close()


def use(path: Path, *, create: bool) -> UsedFile:
    """Begin to use a store's file, or the one that a link leads to. With `create`, make it if it isn't there.

    Raises:
        StateFileError: There is no store, or it is being restored.
        UnavailableError: The file can't be read or written.
    """
    path = path.resolve()  # its log and its lock lie beside the file itself, whatever leads to it
    if create and not path.exists():
        _make(path)
    require_exists(path)
    lock = take_lock(path, fcntl.LOCK_SH, "a store that is not being restored: try again when that is done")
    try:
        with closing(connect(path)) as db:
            require_store(path, db)
            _renew(db)
        return UsedFile(path, lock, _inode(path))
    except BaseException:
        lock.close()
        raise


def connect(path: Path, mode: str = "rw", synchronous: str = "FULL") -> sqlite3.Connection:
    """Return a connection that any thread may use, one at a time. Transactions are begun and ended by hand.

    `synchronous` is NORMAL for what may be lost with the machine.
    """
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"PRAGMA synchronous = {synchronous}")
    except BaseException:
        db.close()
        raise
    return db


def require_exists(path: Path) -> None:
    """Refuse a file that isn't there.

    Raises:
        StateFileError: It isn't.
    """
    if not path.exists():
        expected = "a store that `sgdp api` or `sgdp api keys create` has made"
        raise make_refusal(path, "NotFound", "there is no such store", expected=expected)


def require_store(path: Path, db: sqlite3.Connection) -> None:
    """Refuse a file unless it is a store that this version reads, or can convert.

    Raises:
        StateFileError: It isn't.
    """
    if _number(db, "application_id") != APPLICATION:
        raise _not_a_store(path)
    if (version := _number(db, "user_version")) not in (*STEPS, VERSION):
        words = "the store was made by another version of sgdataplane"
        raise make_refusal(path, "Version", words, str(version), f"version {VERSION} of the store, or an older one")


def _renew(db: sqlite3.Connection) -> None:
    """Convert an older store to this version, whole or not at all. Processes that have it open may go on."""
    if _number(db, "user_version") == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        while (version := _number(db, "user_version")) in STEPS:  # somebody else may have been first
            db.execute(STEPS[version])
            db.execute(f"PRAGMA user_version = {version + 1}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def error_code(error: sqlite3.Error) -> int:
    """Return SQLite's number of an error.

    What Python itself finds wrong, such as text that isn't UTF-8, has none: that is damage, too.
    """
    found: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return found


@contextmanager
def unavailable(path: Path) -> Iterator[None]:
    """Turn errors of the disk and of SQLite into the store's own. Errors in our own calls stay as they are.

    Raises:
        UnavailableError: The disk or SQLite refuses something.
        StateFileError: The file isn't SQLite's.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.InternalError):
        raise
    except sqlite3.DatabaseError as error:
        if error_code(error) == sqlite3.SQLITE_NOTADB:
            raise _not_a_store(path) from error
        kind = FullError if error_code(error) == sqlite3.SQLITE_FULL else UnavailableError
        raise kind(f"{path}: {error}") from error
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror or error}") from error


def _make(path: Path) -> None:
    """Make a store beside its place, and link it there whole, so that nobody ever sees half a store.

    Somebody else may be first.
    """
    beside = beside_of(path, f"{os.getpid()}.{threading.get_native_id()}")
    made = make_private(beside)
    try:
        with closing(connect(beside)) as db:
            db.executescript(SCHEMA)
        os.fsync(made)
        with suppress(FileExistsError):
            os.link(beside, path)
    finally:
        os.close(made)
        remove(beside)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a database that nobody uses, with all files that belong to it."""
    for ending in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def take_lock(path: Path, kind: int, expected: str) -> IO[bytes]:
    """Lock the FILE.lock of a store without waiting.

    Raises:
        StateFileError: Others hold it.
    """
    file = path.with_name(f"{path.name}.lock")
    with suppress(FileExistsError):
        os.close(make_private(file))
    lock = os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    owner = os.fstat(lock.fileno()).st_uid
    if owner not in (os.geteuid(), path.parent.stat().st_uid):
        lock.close()
        expected = "a lock that belongs to us, or to the owner of the folder"
        raise make_refusal(file, "Owner", f"the lock belongs to user {owner}", expected=expected)
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise make_refusal(path, "InUse", "the store is in use", expected=expected) from None
    return lock


def _number(db: sqlite3.Connection, pragma: str) -> int:
    found: int = db.execute(f"PRAGMA {pragma}").fetchone()[0]
    return found


def _inode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _not_a_store(path: Path) -> StateFileError:
    expected = "a file that `sgdp api` has made, or a name where no file is yet"
    return make_refusal(path, "Format", "the file is not a store", expected=expected)


def make_refusal(path: Path, code: str, message: str, value: str = "", expected: str = "") -> StateFileError:
    """Return the error of a store that is refused."""
    return StateFileError((Problem(Where(str(path)), f"InvalidStore.{code}", message, value, expected),))

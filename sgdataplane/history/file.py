"""The file of history: an SQLite database that only its owner can use, made whole or not at all.

Owns its tables, its version and how it is opened. Is given a path. Must not know what rows mean.

Texts are stored once, in `names`, and rows have their numbers; but an address as the other end stands in the row, since
there may be very many that come once.

Writers and readers use it at the same time (write-ahead log). A transaction is there whole or not at all, also after
`kill -9`; a loss of power may cost the last ones, and never breaks the file.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from sgdataplane.errors import HostError
from sgdataplane.host.files import beside_of, make_private

NAME = "history.db"
EXAMPLE = 'history = { keep = "30d", max_mb = 256 }'  # of the configuration that keeps it
APPLICATION, VERSION = 0x53474448, 1  # "SGDH"
PAGE_BYTES = 4096
BUSY_S = 5.0
LOG_BYTES = 4 << 20  # what is left of the write-ahead log
ENDINGS = ("", "-wal", "-shm", "-journal")
SCHEMA = f"""
PRAGMA page_size = {PAGE_BYTES};
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE flows (
    start INTEGER, width INTEGER, eni INTEGER, direction INTEGER, end, protocol INTEGER, port INTEGER,
    fate INTEGER, cause INTEGER, grp INTEGER, rule INTEGER,
    packets INTEGER NOT NULL, bytes INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    PRIMARY KEY (start, width, eni, direction, end, protocol, port, fate, cause, grp, rule)
) WITHOUT ROWID;
CREATE TABLE totals (
    start INTEGER, width INTEGER, scope INTEGER, direction INTEGER, fate INTEGER, cause INTEGER, grp INTEGER,
    rule INTEGER, priority INTEGER,
    packets INTEGER NOT NULL, bytes INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (start, width, scope, direction, fate, cause, grp, rule)
) WITHOUT ROWID;
CREATE TABLE gaps (
    start INTEGER, width INTEGER, scope INTEGER, fate INTEGER, absence INTEGER, number INTEGER NOT NULL,
    PRIMARY KEY (start, width, scope, fate, absence)
) WITHOUT ROWID;
CREATE TABLE bases (
    cookie TEXT, counter TEXT, made TEXT NOT NULL, packets INTEGER NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (cookie, counter)
) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""


def require_history(path: Path) -> None:
    """Raise HostError if no history is kept there."""
    if not path.exists():
        raise HostError(str(path), "no history is kept here; to keep it, add to the agent's configuration: " + EXAMPLE)


def make(path: Path) -> None:
    """Make an empty history if none is there. OSError, or sqlite3.Error, if the disk refuses."""
    if path.exists():
        return
    beside = beside_of(path, str(os.getpid()))
    remove(beside)
    os.close(make_private(beside))
    try:
        with closing(connect(beside)) as db:
            db.executescript(SCHEMA)
        with suppress(FileExistsError):
            os.link(beside, path)
    finally:
        remove(beside)


def connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    """Return a connection for one thread; transactions are begun and ended by hand.

    Errors are those of sqlite3; `refusals` makes a HostError of them.
    """
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        db.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        db.close()
        raise
    return db


def require_ours(path: Path, db: sqlite3.Connection) -> None:
    """Raise HostError unless it is a history of this version, in a file that only its owner can use."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise HostError(str(path), "other users can write to it, so it isn't trusted")
    if _number(db, "application_id") != APPLICATION or _number(db, "user_version") != VERSION:
        raise HostError(str(path), f"not a history file of version {VERSION}")


def remove(path: Path) -> None:
    """Remove a history, with all files that belong to it."""
    for ending in ENDINGS:
        path.with_name(path.name + ending).unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Return its bytes on disk, with the write-ahead log."""
    found = 0
    for ending in ENDINGS:
        with suppress(FileNotFoundError):
            found += path.with_name(path.name + ending).stat().st_size
    return found


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Raise HostError for what the disk or SQLite refuses in the block.

    Misuse of SQLite is raised as it is.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise
    except sqlite3.Error as error:
        raise HostError(str(path), str(error)) from error
    except OSError as error:
        raise HostError(str(path), error.strerror or str(error)) from error


def _number(db: sqlite3.Connection, pragma: str) -> int:
    found: int = db.execute(f"PRAGMA {pragma}").fetchone()[0]
    return found

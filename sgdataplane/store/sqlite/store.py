"""The store in one file of SQLite, for one machine: several processes may use it at a time.

Owns the file, its tables and its transactions. Must not know what documents say.

The file is in WAL mode with synchronous=FULL: a commit that was answered survives the end of the process and of the
machine. A commit is one IMMEDIATE transaction, so writers queue for it, and none sees half of another's. Every commit
leaves one row in `audit` and one in `changes`; the number of the last row of `audit` is the store's revision. `changes`
keeps the last revisions only, for watches.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path as File

from sgdataplane.store.encoded import Decoded, decode, decode_names, encode, encode_each, encode_names, join, split
from sgdataplane.store.interface import (
    KEPT,
    SUMMARY_S,
    Answered,
    AuditRecord,
    Body,
    ConflictError,
    GoneError,
    NewSummaries,
    Reading,
    Revision,
    Snapshot,
    SummaryMark,
    Token,
    UnavailableError,
    Write,
    require_writable,
)
from sgdataplane.store.sqlite import file
from sgdataplane.store.sqlite.file import unavailable
from sgdataplane.store.summaries import MAX_RELAYS, SummaryReader, compress

POLL_S = 0.02  # how soon a watch notices the commit of another process; those of this process wake it at once
AT_ONCE = 100  # revisions that a watch reads at once
FORGOTTEN_AT_ONCE = 100  # tokens that one commit removes, so that none takes long


class SqliteStore:
    """A Store in the file `path`, which is made if it isn't there, unless `create` is false.

    `kept` is how many revisions a watch can go back, and `clock` returns seconds since 1970.

    Raises:
        StateFileError: The file is no store.
        UnavailableError: It can't be read or written.
    """

    def __init__(
        self, path: File, *, create: bool = True, kept: int = KEPT, clock: Callable[[], float] = time.time
    ) -> None:
        self._kept, self._clock = kept, clock
        with unavailable(path):
            self._file = file.use(path, create=create)
            self._writer = self._file.connect()
        self._summary_reader = SummaryReader()
        self._writing = threading.Lock()
        self._news = threading.Condition()
        self._readers: list[sqlite3.Connection] = []  # idle ones; each reader takes one out
        self._told = 0  # how often this process has told its watches
        self._is_closed = False

    def snapshot(self) -> Snapshot:
        """Return everything, read in one transaction."""
        with self._borrow_connection() as db, _transaction(db, "DEFERRED"):
            documents = Decoded[str](dict(db.execute("SELECT path, body FROM documents")), str)
            return Snapshot(_revision(db), documents, dict(db.execute("SELECT name, revision FROM guards")))

    @contextmanager
    def open_reading(self) -> Iterator[Reading]:
        """Read the documents one by one, in one transaction."""
        with self._borrow_connection() as db, _transaction(db, "DEFERRED"):
            revision = _revision(db)
            with closing(db.execute("SELECT path, body FROM documents")) as rows:
                yield Reading(revision, ((path, decode(body)) for path, body in rows))

    def commit(self, write: Write) -> int:
        """Commit by one IMMEDIATE transaction."""
        require_writable(write)
        puts = encode_each(write.puts)
        record = encode(write.audit)
        with self._writing, unavailable(self._file.path), _transaction(self._get_writer(), "IMMEDIATE"):
            self._file.require_there()
            self._require_fresh(write)
            revision = _revision(self._writer) + 1
            _write(self._writer, write, puts, revision)
            self._writer.execute("DELETE FROM audit WHERE revision <= ?", (min(write.forget_audit, revision - 1),))
            self._writer.execute("INSERT INTO audit VALUES (?, ?)", (revision, record))
            self._compact(revision)
        self._tell()
        return revision

    def watch(self, after: int, *, timeout: float | None = None) -> Iterator[Revision]:
        """Yield revisions as any process commits them."""
        with self._borrow_connection() as db:
            last = after
            while changes := self._await_changes(db, last, timeout):
                yield from changes
                last = changes[-1].revision

    def find_answer(self, token: str) -> Answered | None:
        """Return what was answered to a request with this token; None if it is unknown or forgotten."""
        with self._borrow_connection() as db:
            return _find_answer(db, token, self._clock())

    def events(self, after: int = 0, limit: int = 1000) -> list[AuditRecord]:
        """Return audit records in order, from revision `after` + 1 on."""
        with self._borrow_connection() as db:
            query = "SELECT revision, record FROM audit WHERE revision > ? ORDER BY revision LIMIT ?"
            return [AuditRecord(revision, decode(record)) for revision, record in db.execute(query, (after, limit))]

    def put_summary(self, relay: str, body: Body) -> int:
        """Write a relay's summary without waiting for the disk, and remove those that are too old. Return its bytes."""
        value = compress(encode(body))
        relay.encode()  # ValueError if it isn't Unicode
        with self._writing, unavailable(self._file.path):
            self._require_open()
            self._file.require_there()
            with closing(self._file.connect("NORMAL")) as db, _transaction(db, "IMMEDIATE"):
                row = (relay, value, self._clock() + SUMMARY_S)
                db.execute("INSERT OR REPLACE INTO summaries VALUES (?, ?, ?)", row)
                db.execute("DELETE FROM summaries WHERE until <= ?", (self._clock(),))
        return len(value)

    def summaries(self) -> Mapping[str, Body]:
        """Return the last summary of each relay."""
        return self.new_summaries().bodies

    def await_summaries(self, mark: SummaryMark, timeout: float) -> None:
        """Return at once: a file tells nobody who writes what."""

    def new_summaries(self, mark: SummaryMark = None) -> NewSummaries:
        """Return the summaries that aren't among those of the reading before, whose hashes are the mark."""
        before = mark if isinstance(mark, frozenset) else frozenset()
        seen = set[int]()

        def is_new(row: tuple[str, object]) -> bool:
            seen.add(hash(row))
            return hash(row) not in before

        with self._borrow_connection() as db:
            query = "SELECT relay, body FROM summaries WHERE until > ?"
            with closing(db.execute(query, (self._clock(),))) as rows:
                return NewSummaries(
                    self._summary_reader.read_all(filter(is_new, islice(rows, MAX_RELAYS + 1))), frozenset(seen)
                )

    def summary(self, relay: str) -> Body | None:
        """Return the last summary of one relay."""
        with self._borrow_connection() as db:
            query = "SELECT relay, body FROM summaries WHERE until > ? AND relay = ?"
            return self._summary_reader.read_all(db.execute(query, (self._clock(), relay))).get(relay)

    def close(self) -> None:
        """End all watches, and close the file."""
        with self._news:
            self._is_closed = True
            for db in self._readers:
                db.close()
            self._readers.clear()
        self._tell()
        with self._writing:
            self._writer.close()
        self._file.close()

    def _tell(self) -> None:
        """Wake all watches in this process."""
        with self._news:
            self._told += 1
            self._news.notify_all()

    @contextmanager
    def _borrow_connection(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection that nobody else uses meanwhile."""
        with unavailable(self._file.path):
            db = self._take_reader()
            try:
                yield db
            finally:
                self._give_back(db)

    def _get_writer(self) -> sqlite3.Connection:
        self._require_open()
        return self._writer

    def _require_open(self) -> None:
        if self._is_closed:
            raise UnavailableError("the store is closed")

    def _take_reader(self) -> sqlite3.Connection:
        with self._news:
            self._require_open()
            if self._readers:
                return self._readers.pop()
        return self._file.connect()

    def _give_back(self, db: sqlite3.Connection) -> None:
        with self._news:
            if self._is_closed:
                db.close()
            else:
                self._readers.append(db)

    def _require_fresh(self, write: Write) -> None:
        for guard, revision in write.guards.items():
            row = self._writer.execute("SELECT revision FROM guards WHERE name = ?", (guard,)).fetchone()
            if (row[0] if row else 0) != revision:
                raise ConflictError(f"{guard} was changed meanwhile")
        if write.token is not None and _find_answer(self._writer, write.token.name, self._clock()):
            raise ConflictError("the token was used meanwhile")

    def _compact(self, revision: int) -> None:
        self._writer.execute("DELETE FROM changes WHERE revision <= ?", (revision - self._kept,))
        forgotten = "SELECT name FROM tokens WHERE until <= ? LIMIT ?"
        limits = (self._clock(), FORGOTTEN_AT_ONCE)
        self._writer.execute(f"DELETE FROM tokens WHERE name IN ({forgotten})", limits)

    def _await_changes(self, db: sqlite3.Connection, after: int, timeout: float | None) -> list[Revision]:
        """Wait for the next changes after `after`; none if the time is over, or the store is closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._is_closed:
            seen = self._change_marks(db)
            if found := _changes(db, after):
                return found
            while self._change_marks(db) == seen:
                left = POLL_S if deadline is None else min(POLL_S, deadline - time.monotonic())
                if left <= 0:
                    return []
                self._await_telling(seen[0], left)
        return []

    def _change_marks(self, db: sqlite3.Connection) -> tuple[int, int]:
        """Return a value that differs once this process has committed or closed, or another one has committed."""
        return self._told, _data_version(db)

    def _await_telling(self, told: int, timeout: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._told != told, timeout)


def _revision(db: sqlite3.Connection) -> int:
    found: int = db.execute("SELECT ifnull(max(revision), 0) FROM audit").fetchone()[0]
    return found


def _data_version(db: sqlite3.Connection) -> int:
    """Return a number that differs once another connection has committed."""
    found: int = db.execute("PRAGMA data_version").fetchone()[0]
    return found


def _find_answer(db: sqlite3.Connection, token: str, now: float) -> Answered | None:
    query = "SELECT digest, answer, revision FROM tokens WHERE name = ? AND until > ?"
    row = db.execute(query, (token, now)).fetchone()
    return row and Answered(row[0], decode(row[1]), row[2])


def _write(db: sqlite3.Connection, write: Write, puts: dict[str, str], revision: int) -> None:
    db.executemany("DELETE FROM documents WHERE path = ?", ((path,) for path in write.deletes))
    db.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?)", puts.items())
    db.executemany("INSERT OR REPLACE INTO guards VALUES (?, ?)", ((guard, revision) for guard in write.guards))
    change = (join(puts), encode_names(write.deletes), encode_names(write.guards))
    db.execute("INSERT INTO changes VALUES (?, ?, ?, ?)", (revision, *change))
    if write.token is not None:
        _write_token(db, write.token, revision)


def _write_token(db: sqlite3.Connection, token: Token, revision: int) -> None:
    row = (token.name, token.digest, encode(token.answer), token.until, revision)
    db.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?, ?)", row)


def _changes(db: sqlite3.Connection, after: int) -> list[Revision]:
    """Return the next revisions after `after`, at most `AT_ONCE` of them.

    Raises:
        GoneError: The next one isn't kept any more, or `after` hasn't happened.
    """
    query = "SELECT revision, puts, deletes, guards FROM changes WHERE revision > ? ORDER BY revision LIMIT ?"
    found = [_change(*row) for row in db.execute(query, (after, AT_ONCE))]
    if found and found[0].revision != after + 1:
        raise GoneError(f"what changed in revision {after + 1} isn't kept any more")
    if not found and after > (last := _revision(db)):
        raise GoneError(f"revision {after} hasn't happened: the last one is {last}")
    return found


def _change(revision: int, puts: str, deletes: str, guards: str) -> Revision:
    return Revision(revision, split(puts), decode_names(deletes), decode_names(guards))


@contextmanager
def _transaction(db: sqlite3.Connection, kind: str) -> Iterator[None]:
    """Run the block as a transaction of that kind. If anything fails, nothing of it is written."""
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite may have rolled back itself
            db.execute("ROLLBACK")
        raise

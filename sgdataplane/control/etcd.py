"""The store in an etcd cluster, for several machines.

Owns how a commit, a snapshot and a watch are made of etcd's transactions. Must not know what documents say.

A commit is one transaction that compares the head, the guards and the token, and puts everything. It is sent again
until somebody answers: its log has a number that is its alone, so a commit that was made without our hearing of it is
recognized, and none is made twice. A watch reads the log by revision; etcd's own watch, on the head, is no more than a
bell. So nothing that a watch of etcd's may do to its events (lose, split, or compact them) changes what is read.

A commit that is too large for one transaction is written as a parcel first, which nobody reads. Then one transaction
commits it and marks it as pending, and further ones put its documents. Whoever reads meanwhile takes them from the
parcel; whoever commits next puts what is missing, if we can't any more.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sgdataplane.control import etcdkeys
from sgdataplane.control.etcdaccess import EtcdAccess
from sgdataplane.control.etcdclient import PAUSE_S, Cluster, EtcdError, pages
from sgdataplane.control.etcdkeys import Keys, LogEntry, delete, get, is_of, is_there, is_value, packed, put, read_value
from sgdataplane.control.etcdmessages import Message, make
from sgdataplane.control.store import (
    KEPT,
    Answered,
    AuditRecord,
    ConflictError,
    GoneError,
    Path,
    Revision,
    Snapshot,
    Token,
    UnavailableError,
    Write,
    require_writable,
)
from sgdataplane.errors import LimitError

AT_ONCE = 16  # revisions that a watch reads at once; each may have half a megabyte
LARGEST = 3 << 19  # bytes of a request
A_PAGE = 1_000  # keys
BUSY_S = 10.0  # how long a commit tries again while others commit
LEASE_S, LONGEST_S = 3_600, 10 * 365 * 86_400  # tokens whose time ends within the same hour share a lease

LOGGER = logging.getLogger("sgdataplane.control.etcd")


@dataclass(frozen=True, slots=True)
class Found:
    """What a transaction found that wasn't made."""

    head: int
    pending: str
    is_ours: bool  # the revision that it was to make is this very commit's: it was made before
    guards: dict[str, int]
    token: Answered | None
    token_at: int  # etcd's revision of the token, 0 if there is none


class EtcdStore:
    """A Store. `kept`: how many revisions a watch can go back; `clock`: seconds since 1970.
    StateFileError if another version wrote it; UnavailableError; HostError if a file of TLS can't be read."""

    def __init__(self, access: EtcdAccess, *, kept: int = KEPT, clock: Callable[[], float] = time.time) -> None:
        self._keys, self._kept, self._clock = Keys(access.name), kept, clock
        self._cluster = Cluster(access)
        self._writing = threading.Lock()
        self._leases: dict[int, int] = {}  # the hour in which tokens end -> lease
        self._is_restored = False
        self._bell = Bell(self._cluster, self._keys.of("head"))
        try:
            self._head = self._read_head()  # the last one that we know
        except BaseException:
            self.close()
            raise

    def snapshot(self) -> Snapshot:
        while True:
            try:
                return self._snapshot()
            except EtcdError as error:
                if error.code != "OUT_OF_RANGE":  # compacted while we read
                    raise

    def commit(self, write: Write) -> int:
        require_writable(write)
        entry = LogEntry.of(write, secrets.token_hex(8))
        with self._writing:
            return self._commit(write, entry)

    def watch(self, after: int, *, timeout: float | None = None) -> Iterator[Revision]:
        self._cluster.require_open()
        while changes := self._await_changes(after, timeout):
            yield from changes
            after = changes[-1].revision

    def answered(self, token: str) -> Answered | None:
        pairs = self._get(get(self._keys.of("token", token)))[0]
        return etcdkeys.answered_of(pairs, self._clock())

    def events(self, after: int = 0, limit: int = 1000) -> list[AuditRecord]:
        first, (_, end) = self._keys.of("audit", after + 1), self._keys.folder("audit")
        records = []
        for pair in pages(self._cluster.call, first, end, min(limit, A_PAGE), 0):
            records.append(AuditRecord(int(self._keys.name_in(pair.key, "audit")), read_value(pair.value)))
            if len(records) == limit:
                break
        return records

    def close(self) -> None:
        self._bell.is_closed = True
        self._cluster.close()
        self._bell.close()

    def _get(self, *operations: Message) -> list[list[Message]]:
        """The keys and values that each finds, all at one revision."""
        answer = self._cluster.call(make("TxnRequest", success=operations))
        return _pairs(answer)

    def _read_head(self) -> int:
        return etcdkeys.head_of(self._get(get(self._keys.of("head")))[0])

    def _noted(self, head: int, known: int) -> int:
        """The last revision, as etcd says it now. `known`: what we knew when we asked. UnavailableError if it has gone
        back: then what this process has seen isn't what there was."""
        self._is_restored = self._is_restored or head < known
        if self._is_restored:
            raise UnavailableError("etcd was restored from an older copy: restart whatever uses the store")
        self._head = max(self._head, head)
        return head

    # snapshots

    def _snapshot(self) -> Snapshot:
        known, questions = self._head, [get(self._keys.of(key)) for key in ("head", "pending")]
        answer = self._cluster.call(make("TxnRequest", success=questions))
        (head, pending), at = _pairs(answer), answer.header.revision
        revision = self._noted(etcdkeys.head_of(head), known)
        values: dict[Path, bytes] = {}
        values |= {self._keys.name_in(pair.key, "doc"): pair.value for pair in self._folder(at, "doc")}
        guards = {self._keys.name_in(pair.key, "guard"): int(pair.value) for pair in self._folder(at, "guard")}
        if pending:
            change = self._parcel(pending[0].value.decode(), at)
            values = {path: value for path, value in values.items() if path not in change.deletes}
            values |= change.puts
        documents = {path: read_value(value) for path, value in values.items()}
        return Snapshot(revision, documents, guards)

    def _folder(self, at: int, *parts: str | int) -> Iterator[Message]:
        return pages(self._cluster.call, *self._keys.folder(*parts), A_PAGE, at)

    # commits

    def _commit(self, write: Write, entry: LogEntry) -> int:
        known, token_at, parcel = self._head, 0, ""
        deadline = time.monotonic() + BUSY_S
        while True:
            if not entry.is_small and not parcel:
                parcel = self._post(entry, known + 1)
            found = self._try(write, entry, parcel, known + 1, token_at)
            if found is None or found.is_ours:
                break
            self._noted(found.head, known)
            _require_fresh(write, found, deadline)
            if found.pending:
                self._unpack(found.pending)
            elif (known, token_at) == (found.head, found.token_at):
                parcel = ""  # somebody has cleared it away
            known, token_at = found.head, found.token_at
        self._noted(known + 1, known)
        self._finish(parcel, known + 1)
        return known + 1

    def _try(self, write: Write, entry: LogEntry, parcel: str, revision: int, token_at: int) -> Found | None:
        """Make one transaction; None if it was made now."""
        request = make(
            "TxnRequest",
            compare=list(self._compares(write, parcel, revision, token_at)),
            success=list(self._operations(write, entry, parcel, revision)),
            failure=list(self._questions(write, revision)),
        )
        if (size := request.ByteSize()) > LARGEST:
            raise LimitError("a commit with its answer and audit record (bytes in etcd)", LARGEST, size)
        try:
            answer = self._cluster.call(request)
        except EtcdError as error:
            if error.code != "NOT_FOUND" or not self._leases:
                raise
            self._leases.clear()  # somebody has revoked the token's lease
            return self._try(write, entry, parcel, revision, token_at)
        return None if answer.succeeded else self._found(write, entry, _pairs(answer))

    def _compares(self, write: Write, parcel: str, revision: int, token_at: int) -> Iterator[Message]:
        head = self._keys.of("head")
        yield is_value(head, etcdkeys.head_value(revision - 1)) if revision > 1 else is_of(head, 0)
        yield is_of(self._keys.of("pending"), 0)
        for name, read in write.guards.items():
            key = self._keys.of("guard", name)
            yield is_value(key, b"%d" % read) if read else is_of(key, 0)
        if write.token:
            yield is_of(self._keys.of("token", write.token.name), token_at)
        if parcel:
            yield is_there(self._keys.of(parcel, 0))

    def _operations(self, write: Write, entry: LogEntry, parcel: str, revision: int) -> Iterator[Message]:
        keys = self._keys
        yield put(keys.of("head"), etcdkeys.head_value(revision))
        yield put(keys.of("audit", revision), packed(write.audit))
        if forgotten := min(write.forget_audit, revision - 1):
            yield delete(keys.of("audit"), keys.of("audit", forgotten + 1))
        yield from (put(keys.of("guard", name), b"%d" % revision) for name in write.guards)
        if token := write.token:
            yield put(keys.of("token", token.name), etcdkeys.token_value(token, revision), self._lease(token))
        if parcel:
            yield put(keys.of("log", revision), packed({"nonce": entry.nonce, "parcel": parcel}))
            yield put(keys.of("pending"), parcel.encode())
        else:
            yield put(keys.of("log", revision), entry.log)
            yield from entry.operations(keys)
        for folder in ("log", "parcel"):
            yield delete(keys.of(folder), keys.of(folder, max(0, revision - self._kept + 1)))

    def _questions(self, write: Write, revision: int) -> Iterator[Message]:
        yield from (get(self._keys.of(key)) for key in ("head", "pending"))
        yield get(self._keys.of("log", revision))
        yield get(self._keys.of("token", write.token.name if write.token else ""))
        yield from (get(self._keys.of("guard", name)) for name in write.guards)

    def _found(self, write: Write, entry: LogEntry, pairs: list[list[Message]]) -> Found:
        head, pending, log, token, *guards = pairs
        return Found(
            etcdkeys.head_of(head),
            pending[0].value.decode() if pending else "",
            bool(log) and read_value(log[0].value)["nonce"] == entry.nonce,
            {name: int(one[0].value) if one else 0 for name, one in zip(write.guards, guards, strict=True)},
            etcdkeys.answered_of(token, self._clock()) if write.token else None,
            token[0].mod_revision if token and write.token else 0,
        )

    def _lease(self, token: Token) -> int:
        """One that ends some time after the token."""
        hour = int(token.until // LEASE_S) + 1
        if hour not in self._leases:
            seconds = min(max(hour * LEASE_S - self._clock(), 0) + LEASE_S, LONGEST_S)
            self._leases = {hour: self._cluster.call(make("LeaseGrantRequest", TTL=int(seconds))).ID}
        return self._leases[hour]

    def _finish(self, parcel: str, revision: int) -> None:
        """What follows a commit; it is made, also if this fails."""
        try:
            if parcel:
                self._unpack(parcel)
            if revision % self._kept == 0:
                self._compact()
        except UnavailableError as error:
            LOGGER.warning("revision %d is committed, but not tidied up: %s", revision, error)

    def _compact(self) -> None:
        """etcd needn't know what was before the oldest revision that is kept."""
        oldest = self._get(get(*self._keys.folder("log"), 1))[0]
        if oldest:
            self._cluster.call(make("CompactionRequest", revision=oldest[0].mod_revision))

    # parcels

    def _post(self, entry: LogEntry, revision: int) -> str:
        parcel = f"parcel/{revision:020d}/{entry.nonce}"
        for number, piece in enumerate(entry.pieces()):
            key = self._keys.of(parcel, number)
            self._cluster.call(make("PutRequest", key=key, value=piece))
        return parcel

    def _parcel(self, parcel: str, at: int) -> LogEntry:
        """Its text, at a revision of etcd's, 0 for now."""
        return LogEntry.read(b"".join(pair.value for pair in self._folder(at, parcel)))

    def _unpack(self, parcel: str) -> None:
        """Put what the commit of a parcel puts. Another one may do it at the same time."""
        pending = self._keys.of("pending")
        entry = self._parcel(parcel, 0)
        for batch in (*entry.batches(self._keys), [delete(pending)]):
            is_pending = is_value(pending, parcel.encode())
            if not self._cluster.call(make("TxnRequest", compare=[is_pending], success=batch)).succeeded:
                return

    # watches

    def _await_changes(self, after: int, timeout: float | None) -> list[Revision]:
        """The next changes after `after`; none if the time is over, or the store closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while True:
                rung = self._bell.rung
                if found := self._changes(after):
                    return found
                if not self._bell.wait(rung, None if deadline is None else deadline - time.monotonic()):
                    return []
        except UnavailableError:
            if self._bell.is_closed:
                return []
            raise

    def _changes(self, after: int) -> list[Revision]:
        """The next ones after `after`, some at a time. GoneError."""
        first, (_, end) = self._keys.of("log", after + 1), self._keys.folder("log")
        known = self._head
        head, logs = self._get(get(self._keys.of("head")), get(first, end, AT_ONCE))
        revision = self._noted(etcdkeys.head_of(head), known)
        if after > revision:
            raise GoneError(f"revision {after} hasn't happened: the last one is {revision}")
        numbers = [int(self._keys.name_in(pair.key, "log")) for pair in logs]
        if after < revision and numbers[:1] != [after + 1]:
            raise GoneError(f"what changed in revision {after + 1} isn't kept any more")
        return [self._change(number, pair.value) for number, pair in zip(numbers, logs, strict=True)]

    def _change(self, number: int, log: bytes) -> Revision:
        parcel = read_value(log).get("parcel")
        if parcel is not None:
            log = b"".join(pair.value for pair in self._folder(0, parcel))
            if not log:
                raise GoneError(f"what changed in revision {number} isn't kept any more")
        return etcdkeys.revision_of(number, log)


class Bell:
    """Rings when the head may have moved: etcd says so, or doesn't say anything any more. Its thread begins with the
    first that waits."""

    def __init__(self, cluster: Cluster, key: bytes) -> None:
        self._cluster = cluster
        self._create = make("WatchCreateRequest", key=key, fragment=True)
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self.is_closed = False
        self.rung = 0

    def wait(self, rung: int, timeout: float | None) -> bool:
        """Until it has rung more often than that; False if the time is over, or it is closed."""
        if timeout is not None and timeout <= 0:
            return False
        with self._news:
            if self._thread is None and not self.is_closed:
                self._thread = threading.Thread(target=self._listen, daemon=True)
                self._thread.start()
            self._news.wait_for(lambda: self.rung != rung or self.is_closed, timeout)
            return self.rung != rung and not self.is_closed

    def close(self) -> None:
        with self._news:
            self.is_closed = True
            self._news.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _listen(self) -> None:
        while not self.is_closed:
            try:
                self._cluster.watch(self._create, self._heard)
            except UnavailableError:  # closed
                return
            self._ring()
            with self._news:
                self._news.wait_for(lambda: self.is_closed, PAUSE_S)

    def _heard(self, answer: Message) -> None:
        if answer.created or answer.events:
            self._ring()

    def _ring(self) -> None:
        with self._news:
            self.rung += 1
            self._news.notify_all()


def _pairs(answer: Message) -> list[list[Message]]:
    """What each question of a transaction found."""
    return [list(one.response_range.kvs) for one in answer.responses]


def _require_fresh(write: Write, found: Found, deadline: float) -> None:
    for name, read in write.guards.items():
        if found.guards[name] != read:
            raise ConflictError(f"{name} was changed meanwhile")
    if found.token is not None:
        raise ConflictError("the token was used meanwhile")
    if time.monotonic() > deadline:
        raise ConflictError("others commit all the time")

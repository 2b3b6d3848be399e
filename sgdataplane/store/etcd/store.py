"""The store in an etcd cluster, for several machines.

Owns how a commit, a snapshot and a watch are made of etcd's transactions. Must not know what documents say.

A commit is one transaction that compares the head, the guards and the token, and puts everything. It is sent again
until somebody answers: its log has a number that is its alone, so a commit that was made without our hearing of it is
recognized, and none is made twice. A watch reads the log by revision; etcd's own watch, on the head, only says that
there may be news. So nothing that a watch of etcd's may do to its events (lose, split, or compact them) changes what is
read.

A commit that is too large for one transaction is written in chunks first, which nobody reads. Then one transaction
commits it and marks it as pending, and further ones put its documents. Processes that read meanwhile take them from the
chunks; the one that commits next puts what is missing, if we can't any more.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sgdataplane.errors import LimitError
from sgdataplane.store.encoded import Decoded
from sgdataplane.store.etcd import keys as layout
from sgdataplane.store.etcd.access import EtcdAccess
from sgdataplane.store.etcd.chunks import CHUNK, ChunkedWrites
from sgdataplane.store.etcd.client import Cluster, EtcdError, WatchNotifier, pages, pairs
from sgdataplane.store.etcd.keys import Keys, LogEntry, delete, get, is_of, is_there, is_value, pack, put, read_value
from sgdataplane.store.etcd.messages import Message, make
from sgdataplane.store.etcd.summaries import Summaries, compact
from sgdataplane.store.interface import (
    KEPT,
    Answered,
    AuditRecord,
    Body,
    ConflictError,
    GoneError,
    NewSummaries,
    Path,
    Reading,
    Revision,
    Snapshot,
    SummaryMark,
    Token,
    UnavailableError,
    Write,
    require_writable,
)

AT_ONCE = 16  # revisions that a watch reads at once; each may have half a megabyte
LARGEST = 3 << 19  # bytes of a request
A_PAGE = 1_000  # keys
BUSY_S = 10.0  # how long a commit tries again while others commit
LEASE_S, LONGEST_S = 3_600, 10 * 365 * 86_400  # tokens whose time ends within the same hour share a lease

LOGGER = logging.getLogger("sgdataplane.store.etcd")


@dataclass(frozen=True, slots=True)
class Found:
    """What a transaction found that wasn't made."""

    head: int
    pending: bytes
    is_ours: bool  # the revision that it was to make is this very commit's: it was made before
    guards: dict[str, int]
    token: Answered | None
    token_at: int  # etcd's revision of the token, 0 if there is none


@dataclass
class Proposal:
    """A commit to be made."""

    write: Write
    entry: LogEntry
    audit: bytes  # the value of its record
    chunked_at: str = ""  # where its log is, if that is too large for one transaction
    token_at: int = 0  # etcd's revision of an older token of that name, whose time is over; 0: none


class EtcdStore:
    """A Store in etcd. Without `private` it is for reading alone.

    Args:
        access: Where etcd is.
        kept: How many revisions a watch can go back.
        clock: Returns seconds since 1970.
        private: Whether access keys are read. A relay's role needn't allow that.

    Raises:
        StateFileError: Another version wrote the store.
        UnavailableError: etcd can't be reached.
        HostError: A file of TLS can't be read.
    """

    def __init__(
        self, access: EtcdAccess, *, kept: int = KEPT, clock: Callable[[], float] = time.time, private: bool = True
    ) -> None:
        self._private = private
        self._keys, self._kept, self._clock = Keys(access.name), kept, clock
        self._cluster = Cluster(access)
        self._chunks = ChunkedWrites(self._cluster, self._keys)
        self._summaries = Summaries(self._cluster, self._keys, clock)
        self._writing = threading.Lock()
        self._leases: dict[int, int] = {}  # the hour in which tokens end -> lease
        self._is_restored = False
        self._notifier = WatchNotifier(self._cluster, self._keys.of("head"))
        try:
            self._head = self._read_head()  # the last one that we know
        except BaseException:
            self.close()
            raise

    def snapshot(self) -> Snapshot:
        """Return everything at one revision. If etcd compacts it meanwhile, begin anew."""
        while True:
            with suppress(GoneError):
                return self._snapshot()

    @contextmanager
    def open_reading(self) -> Iterator[Reading]:
        """Read the documents at one revision of etcd's, page by page."""
        revision, pending, at = self._look()
        values = self._values(at, self._chunks.pending(pending, at).entry)
        yield Reading(revision, ((path, read_value(value)) for path, value in values))

    def commit(self, write: Write) -> int:
        """Commit by one transaction, or by a chunked write if it is too large for one."""
        require_writable(write)
        entry = LogEntry.of(write, secrets.token_hex(8))
        with self._writing:
            return self._commit(write, entry)

    def watch(self, after: int, *, timeout: float | None = None) -> Iterator[Revision]:
        """Yield revisions from the log, each time the watch tells of new ones."""
        self._cluster.require_open()
        notices: int | None = None
        while True:
            changes, notices = self._await_changes(after, timeout, notices)
            if not changes:
                return
            yield from changes
            after = changes[-1].revision

    def find_answer(self, token: str) -> Answered | None:
        """Return what was answered to a request with this token; None if it is unknown or forgotten."""
        found = self._get(get(self._keys.of("token", token)))[0]
        return layout.find_answer(found, self._clock())

    def events(self, after: int = 0, limit: int = 1000) -> list[AuditRecord]:
        """Return audit records in order, from revision `after` + 1 on."""
        first, (_, end) = self._keys.of("audit", after + 1), self._keys.folder("audit")
        records = []
        for pair in pages(self._cluster.call, first, end, min(limit, A_PAGE), 0):
            record = read_value(self._chunks.whole(pair.value))
            records.append(AuditRecord(int(self._keys.name_in(pair.key, "audit")), record))
            if len(records) == limit:
                break
        return records

    def put_summary(self, relay: str, body: Body) -> int:
        """Write a relay's summary, outside the revisions. Return its bytes."""
        return self._summaries.put(relay, body)

    def summaries(self) -> Mapping[str, Body]:
        """Return the last summary of each relay."""
        return self._summaries.new().bodies

    def new_summaries(self, mark: SummaryMark = None) -> NewSummaries:
        """Return the summaries that were written after the reading that gave this mark."""
        return self._summaries.new(mark)

    def await_summaries(self, mark: SummaryMark, timeout: float) -> None:
        """Return once summaries may have been written after the reading that gave this mark, in seconds at most."""
        self._summaries.wait(mark, timeout)

    def summary(self, relay: str) -> Body | None:
        """Return the last summary of one relay. The role needn't allow reading others."""
        return self._summaries.of(relay)

    def close(self) -> None:
        """End all watches and calls, and close the connections."""
        notifiers = self._notifier, self._summaries.notifier
        for notifier in notifiers:
            notifier.is_closed = True
        self._cluster.close()
        for notifier in notifiers:
            notifier.close()

    def _get(self, *operations: Message) -> list[list[Message]]:
        """Return the keys and values that each operation finds, all at one revision."""
        answer = self._cluster.call(make("TxnRequest", success=operations))
        return pairs(answer)

    def _read_head(self) -> int:
        return layout.head_of(self._get(get(self._keys.of("head")))[0])

    def _note_head(self, head: int, known: int) -> int:
        """Note and return the last revision, as etcd says it now. `known` is what we knew when we asked.

        Raises:
            UnavailableError: The revision has gone back: what this process has seen isn't what there was.
        """
        self._is_restored = self._is_restored or head < known
        if self._is_restored:
            raise UnavailableError("etcd was restored from an older copy: restart whatever uses the store")
        self._head = max(self._head, head)
        return head

    # snapshots

    def _snapshot(self) -> Snapshot:
        revision, pending, at = self._look()
        number, entry = self._chunks.pending(pending, at)
        guards = self._guards(at) | dict.fromkeys(entry.guards, number)
        return Snapshot(revision, Decoded(dict(self._values(at, entry)), layout.unpack), guards)

    def _values(self, at: int, pending: LogEntry) -> Iterator[tuple[Path, bytes]]:
        """Yield path and value of all documents, at a revision of etcd's and with what is pending there."""
        changed = {*pending.puts, *pending.deletes}
        for folder in ("doc", "private/doc") if self._private else ("doc",):
            for pair in self._chunks.folder(at, folder):
                path = self._keys.name_in(pair.key, folder)
                if path not in changed:
                    yield path, pair.value
        yield from pending.puts.items()

    def _look(self) -> tuple[int, bytes, int]:
        """Return the last revision, the value of what is pending, and etcd's own revision of both.

        The value is b"" if nothing is pending.
        """
        known, questions = self._head, [get(self._keys.of(key)) for key in ("head", "pending")]
        answer = self._cluster.call(make("TxnRequest", success=questions))
        head, pending = pairs(answer)
        return self._note_head(layout.head_of(head), known), first_value(pending), answer.header.revision

    def _guards(self, at: int) -> dict[str, int]:
        """Return the guards at a revision of etcd's."""
        return {self._keys.name_in(pair.key, "guard"): int(pair.value) for pair in self._chunks.folder(at, "guard")}

    # commits

    def _commit(self, write: Write, entry: LogEntry) -> int:
        known, deadline = self._head, time.monotonic() + BUSY_S
        if len(audit := pack(write.audit)) > CHUNK:
            audit = layout.encode_place(self._chunks.post(audit, "record", known + 1, entry.nonce))
        proposal = Proposal(write, entry, audit)
        while True:
            if not entry.is_small:
                known = self._prepare(proposal)
            found = self._try(proposal, known + 1)
            if found is None or found.is_ours:
                break
            self._learn(proposal, found, known)
            if time.monotonic() > deadline:
                raise ConflictError("others commit all the time")
            known = found.head
        self._note_head(known + 1, known)
        self._finish(proposal, known + 1)
        return known + 1

    def _prepare(self, proposal: Proposal) -> int:
        """Write the chunks if needed, and compare the guards. Return the revision at which they were as read.

        A transaction can't compare so many guards. As long as the head is the same, the guards are, too.
        """
        while True:
            revision, pending, at = self._look()
            if pending:
                self._chunks.unpack(pending)
                continue
            with suppress(GoneError):
                _require_unmoved(proposal.write, self._guards(at))
                break
        if not proposal.chunked_at:
            entry = proposal.entry
            proposal.chunked_at = self._chunks.post(entry.log, "parcel", revision + 1, entry.nonce)
        return revision

    def _learn(self, proposal: Proposal, found: Found, known: int) -> None:
        """Find out why a transaction wasn't made, so that the next one may be.

        Raises:
            ConflictError: It must be decided anew.
        """
        self._note_head(found.head, known)
        if found.pending:  # its guards aren't moved yet
            self._chunks.unpack(found.pending)
            return
        if not proposal.chunked_at:
            _require_unmoved(proposal.write, found.guards)
        if found.token is not None:
            raise ConflictError("the token was used meanwhile")
        if (known, proposal.token_at) == (found.head, found.token_at):  # somebody has cleared it away
            proposal.chunked_at = ""
        proposal.token_at = found.token_at

    def _try(self, proposal: Proposal, revision: int) -> Found | None:
        """Make one transaction; None if it was made now, else what it found."""
        request = make(
            "TxnRequest",
            compare=list(self._compares(proposal, revision)),
            success=list(self._operations(proposal, revision)),
            failure=list(self._questions(proposal, revision)),
        )
        if request.ByteSize() > LARGEST:
            raise LimitError("a commit with its answer (bytes in etcd)", LARGEST, request.ByteSize())
        try:
            answer = self._cluster.call(request)
        except EtcdError as error:
            if error.code != "NOT_FOUND" or not self._leases:
                raise
            self._leases.clear()  # somebody has revoked the token's lease
            return self._try(proposal, revision)
        return None if answer.succeeded else self._find(proposal, pairs(answer))

    def _compares(self, proposal: Proposal, revision: int) -> Iterator[Message]:
        head, token = self._keys.of("head"), proposal.write.token
        yield is_value(head, layout.head_value(revision - 1)) if revision > 1 else is_of(head, 0)
        yield is_of(self._keys.of("pending"), 0)
        if token:
            yield is_of(self._keys.of("token", token.name), proposal.token_at)
        if proposal.chunked_at:
            yield is_there(self._keys.of(proposal.chunked_at, 0))
            return
        for name, read in proposal.write.guards.items():
            key = self._keys.of("guard", name)
            yield is_value(key, b"%d" % read) if read else is_of(key, 0)

    def _operations(self, proposal: Proposal, revision: int) -> Iterator[Message]:
        keys, entry, token, chunked_at = self._keys, proposal.entry, proposal.write.token, proposal.chunked_at
        yield put(keys.of("head"), layout.head_value(revision))
        yield put(keys.of("audit", revision), proposal.audit)
        if forgotten := min(proposal.write.forget_audit, revision - 1):
            for folder in ("audit", "record"):
                yield delete(keys.of(folder), keys.of(folder, forgotten + 1))
        if token:
            yield put(keys.of("token", token.name), layout.token_value(token, revision), self._lease(token))
        if chunked_at:
            yield put(keys.of("log", revision), layout.encode_place(chunked_at))
            yield put(keys.of("pending"), layout.pending_value(chunked_at, revision))
            yield from entry.private_operations(keys)
        else:
            yield put(keys.of("log", revision), entry.log)
            yield from entry.operations(keys, revision)
        if entry.private:
            yield put(keys.of("private/log", revision), entry.private)
        for folder in ("log", "private/log", "parcel"):
            yield delete(keys.of(folder), keys.of(folder, max(0, revision - self._kept + 1)))

    def _questions(self, proposal: Proposal, revision: int) -> Iterator[Message]:
        token = proposal.write.token
        yield from (get(self._keys.of(key)) for key in ("head", "pending"))
        yield get(self._keys.of("log", revision))
        yield get(self._keys.of("token", token.name if token else ""))
        if not proposal.chunked_at:
            yield from (get(self._keys.of("guard", name)) for name in proposal.write.guards)

    def _find(self, proposal: Proposal, found: list[list[Message]]) -> Found:
        head, pending, log, token, *guards = found
        write = proposal.write
        return Found(
            layout.head_of(head),
            first_value(pending),
            bool(log) and layout.nonce_of(log[0].value) == proposal.entry.nonce,
            {name: int(first_value(one) or 0) for name, one in zip(write.guards, guards, strict=False)},
            layout.find_answer(token, self._clock()) if write.token else None,
            token[0].mod_revision if token and write.token else 0,
        )

    def _lease(self, token: Token) -> int:
        """Return a lease that ends some time after the token."""
        hour = int(token.until // LEASE_S) + 1
        if hour not in self._leases:
            seconds = min(max(hour * LEASE_S - self._clock(), 0) + LEASE_S, LONGEST_S)
            self._leases = {hour: self._cluster.call(make("LeaseGrantRequest", TTL=int(seconds))).ID}
        return self._leases[hour]

    def _finish(self, proposal: Proposal, revision: int) -> None:
        """Do what follows a commit. If it fails, that is logged, as the commit is made."""
        try:
            if proposal.chunked_at:
                self._chunks.unpack(layout.pending_value(proposal.chunked_at, revision))
            if revision % self._kept == 0:
                self._compact()
        except UnavailableError as error:
            LOGGER.warning("revision %d is committed, but not tidied up: %s", revision, error)

    def _compact(self) -> None:
        """Make etcd forget everything before the oldest revision that is kept."""
        oldest = self._get(get(*self._keys.folder("log"), 1))[0]
        if oldest:
            compact(self._cluster, oldest[0].mod_revision)

    # watches

    def _await_changes(self, after: int, timeout: float | None, known: int | None) -> tuple[list[Revision], int | None]:
        """Wait for the next changes after `after`; none if the time is over, or the store is closed.

        `known` is how many notices there were before all up to `after` was read, when that was the last revision; None
        if there may be more to read. The same about what is read now comes with the changes.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while True:
                left = None if deadline is None else deadline - time.monotonic()
                if known is not None and not self._notifier.wait(known, left):
                    return [], None
                notices = self._notifier.notices
                found, is_all = self._changes(after)
                if found:
                    return found, notices if is_all else None
                known = notices
        except UnavailableError:
            if self._notifier.is_closed:
                return [], None
            raise

    def _changes(self, after: int) -> tuple[list[Revision], bool]:
        """Return the next revisions after `after`, at most `AT_ONCE` of them, and whether there are no more.

        Raises:
            GoneError: The next one isn't kept any more, or `after` hasn't happened.
        """
        folders = ("log", "private/log") if self._private else ("log",)
        ranges = [get(self._keys.of(one, after + 1), self._keys.folder(one)[1], AT_ONCE) for one in folders]
        known = self._head
        head, logs, *private = self._get(get(self._keys.of("head")), *ranges)
        revision = self._note_head(layout.head_of(head), known)
        if after > revision:
            raise GoneError(f"revision {after} hasn't happened: the last one is {revision}")
        numbers = [int(self._keys.name_in(pair.key, "log")) for pair in logs]
        if after < revision and numbers[:1] != [after + 1]:
            raise GoneError(f"what changed in revision {after + 1} isn't kept any more")
        apart = {int(self._keys.name_in(pair.key, "private/log")): pair.value for some in private for pair in some}
        values = zip(numbers, (pair.value for pair in logs), strict=True)
        found = [self._change(number, log, apart.get(number, b"")) for number, log in values]
        return found, numbers[-1:] in ([], [revision])

    def _change(self, number: int, log: bytes, private: bytes) -> Revision:
        whole = self._chunks.whole(log)
        if not whole:
            raise GoneError(f"what changed in revision {number} isn't kept any more")
        return layout.revision_of(number, whole, private)


def first_value(found: list[Message]) -> bytes:
    """Return the value of a key; b"" if it isn't there."""
    return bytes(found[0].value) if found else b""


def _require_unmoved(write: Write, guards: Mapping[str, int]) -> None:
    for name, read in write.guards.items():
        if guards.get(name, 0) != read:
            raise ConflictError(f"{name} was changed meanwhile")

"""A store that ends with its process.

Owns the simplest code that does what a store must. Must not know any other store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from sgdataplane.store.encoded import Decoded, decode, encode, encode_each
from sgdataplane.store.interface import (
    KEPT,
    SUMMARY_S,
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
    UnavailableError,
    Write,
    require_writable,
)


class MemoryStore:
    """A Store in memory.

    `kept` is how many revisions a watch can go back, and `clock` returns seconds since 1970.
    """

    def __init__(self, *, kept: int = KEPT, clock: Callable[[], float] = time.time) -> None:
        self._kept, self._clock = kept, clock
        self._revision = 0
        self._documents: dict[Path, str] = {}  # as texts: nobody can change what was committed
        self._guards: dict[str, int] = {}
        self._tokens: dict[str, tuple[Answered, float]] = {}  # with the time until which each is kept
        self._changes: dict[int, tuple[dict[Path, str], frozenset[Path], frozenset[str]]] = {}
        self._audit: dict[int, str] = {}
        self._summaries: dict[str, tuple[str, float]] = {}  # with the time until which each is kept
        self._news = threading.Condition()
        self._is_closed = False

    def snapshot(self) -> Snapshot:
        """Return everything, at one revision."""
        with self._open():
            revision, documents, guards = self._revision, dict(self._documents), dict(self._guards)
        return Snapshot(revision, Decoded[str](documents, str), guards)

    @contextmanager
    def open_reading(self) -> Iterator[Reading]:
        """Read the documents of a snapshot, one by one."""
        seen = self.snapshot()
        yield Reading(seen.revision, iter(seen.documents.items()))

    def commit(self, write: Write) -> int:
        """Commit, and wake all watches."""
        require_writable(write)
        puts = encode_each(write.puts)
        record = encode(write.audit)
        with self._open():
            self._require_fresh(write)
            self._revision += 1
            self._write(write, puts, record)
            self._news.notify_all()
            return self._revision

    def watch(self, after: int, *, timeout: float | None = None) -> Iterator[Revision]:
        """Yield revisions as they come."""
        with self._open():
            pass
        while self._has_news(after, timeout):
            after += 1
            yield self._change(after)

    def find_answer(self, token: str) -> Answered | None:
        """Return what was answered to a request with this token; None if it is unknown or forgotten."""
        with self._open():
            found, until = self._tokens.get(token, (None, 0.0))
        return found if until > self._clock() else None

    def events(self, after: int = 0, limit: int = 1000) -> list[AuditRecord]:
        """Return audit records in order, from revision `after` + 1 on."""
        with self._open():
            kept = [(revision, record) for revision, record in self._audit.items() if revision > after]
        return [AuditRecord(revision, decode(record)) for revision, record in kept[:limit]]

    def put_summary(self, relay: str, body: Body) -> int:
        """Keep a relay's summary in place of the one before. Return its bytes."""
        relay.encode()  # ValueError if it isn't Unicode
        text = encode(body)
        with self._open():
            self._summaries[relay] = (text, self._clock() + SUMMARY_S)
        return len(text)

    def summaries(self) -> Mapping[str, Body]:
        """Return the last summary of each relay."""
        return self.new_summaries().bodies

    def await_summaries(self, mark: SummaryMark, timeout: float) -> None:
        pass

    def new_summaries(self, mark: SummaryMark = None) -> NewSummaries:
        """Return the summaries that aren't among those of the reading before, which are the mark."""
        before = mark if isinstance(mark, dict) else {}
        with self._open():
            now = self._clock()
            last = {relay: one for relay, one in self._summaries.items() if one[1] > now}
        new = {relay: decode(one[0]) for relay, one in last.items() if before.get(relay) != one}
        return NewSummaries(new, last)

    def summary(self, relay: str) -> Body | None:
        """Return the last summary of one relay."""
        return self.summaries().get(relay)

    def close(self) -> None:
        """End all watches. Everything is lost."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Hold the lock while the block runs.

        Raises:
            UnavailableError: The store is closed.
        """
        with self._news:
            if self._is_closed:
                raise UnavailableError("the store is closed")
            yield

    def _require_fresh(self, write: Write) -> None:
        for guard, revision in write.guards.items():
            if self._guards.get(guard, 0) != revision:
                raise ConflictError(f"{guard} was changed meanwhile")
        if write.token is not None and self.find_answer(write.token.name) is not None:
            raise ConflictError("the token was used meanwhile")

    def _write(self, write: Write, puts: dict[Path, str], record: str) -> None:
        for path in write.deletes:
            self._documents.pop(path, None)
        self._documents |= puts
        self._guards |= dict.fromkeys(write.guards, self._revision)
        for revision in [revision for revision in self._audit if revision <= write.forget_audit]:
            del self._audit[revision]
        self._audit[self._revision] = record
        self._changes[self._revision] = (puts, write.deletes, frozenset(write.guards))
        self._changes.pop(self._revision - self._kept, None)
        if token := write.token:
            answered = Answered(token.digest, decode(encode(token.answer)), self._revision)
            self._tokens[token.name] = (answered, token.until)

    def _has_news(self, after: int, timeout: float | None) -> bool:
        with self._news:
            if after > self._revision:
                raise GoneError(f"revision {after} hasn't happened: the last one is {self._revision}")
            self._news.wait_for(lambda: self._revision > after or self._is_closed, timeout)
            return self._revision > after and not self._is_closed

    def _change(self, revision: int) -> Revision:
        with self._news:
            found = self._changes.get(revision)
        if found is None:
            raise GoneError(f"what changed in revision {revision} isn't kept any more")
        puts, deletes, guards = found
        return Revision(revision, {path: decode(text) for path, text in puts.items()}, deletes, guards)

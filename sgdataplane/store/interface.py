"""What a store of the control plane does, whatever keeps it: SQLite, etcd, or memory.

Owns the interface and its values. Must not know actions, HTTP, or how anything is kept. Every store passes the same
conformance suite (tests/control/test_store.py).

A store holds documents. A commit puts and deletes some of them, moves its guards and writes one audit record, all at
once or not at all; its revision is one more than the last. A guard is a name, usually a VPC's id, that every commit of
its realm compares and moves: whoever read the realm before somebody else's commit gets ConflictError, reads again and
decides again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, TypeAlias

from sgdataplane.errors import SgDataplaneError
from sgdataplane.visible import visible

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Body: TypeAlias = Mapping[str, Json]  # of a document, an answer or an audit record: what JSON can hold
Path: TypeAlias = str  # of a document: "kind/id", such as "security_group/sg-1"

NOTHING: Mapping[str, Body] = MappingProxyType({})
KEPT = 1_000  # revisions that a watch can go back, unless a store is told otherwise
SUMMARY_S = 86_400.0  # a summary that wasn't put again for so long is forgotten


class StoreError(SgDataplaneError):
    """Base of what a store raises on purpose."""

    def __str__(self) -> str:
        return visible(" ".join(map(str, self.args)))


class ConflictError(StoreError):
    """A guard has moved since it was read, or the token was used meanwhile. Nothing was written."""


class GoneError(StoreError):
    """The revision that a watch starts from isn't kept any more: take a snapshot instead. Or the one that is being read
    isn't: read again."""


class UnavailableError(StoreError):
    """The store can't be reached, or can't write (a full disk). It isn't known whether a commit under way was written;
    its token tells."""


class FullError(UnavailableError):
    """The store has no space left: nothing can be written until somebody makes some, but it can be read."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one revision. `guards`: the revision at which each was moved last; one that isn't there is 0."""

    revision: int
    documents: Mapping[Path, Body]
    guards: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Reading:
    """The documents at one revision, one after the other, each once and in no order that means anything."""

    revision: int
    documents: Iterator[tuple[Path, Body]]


@dataclass(frozen=True, slots=True)
class Answered:
    """What was answered to a request with a token. `digest`: of the request. `revision`: of its commit."""

    digest: str
    answer: Body
    revision: int


@dataclass(frozen=True, slots=True)
class Token:
    """Makes a request happen once. `name`: unique for a key and its ClientToken. `until`: when it may be forgotten, in
    seconds since 1970."""

    name: str
    digest: str
    answer: Body
    until: float


@dataclass(frozen=True, slots=True)
class Write:
    """A commit to be made. `guards`: at which revision each was read. A path that isn't there may be deleted; one that
    is put must not be. `audit`: the record of who did what. `forget_audit`: the records of revisions up to this one are
    removed; never its own."""

    guards: Mapping[str, int]
    puts: Mapping[Path, Body] = field(default_factory=lambda: NOTHING)
    deletes: frozenset[Path] = frozenset()
    audit: Body = field(default_factory=lambda: MappingProxyType({}))
    token: Token | None = None
    forget_audit: int = 0


@dataclass(frozen=True, slots=True)
class Revision:
    """One committed revision. `guards`: those that it moved."""

    revision: int
    puts: Mapping[Path, Body]
    deletes: frozenset[Path]
    guards: frozenset[str]


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """The audit record of one revision."""

    revision: int
    record: Body


class Store(Protocol):
    """Safe for use by several threads and several processes."""

    def snapshot(self) -> Snapshot:
        """Everything, at one revision."""

    def reading(self) -> AbstractContextManager[Reading]:
        """The documents of a snapshot for who needs each but once: they never are in memory all at once. GoneError,
        while they come, if so much was committed meanwhile that they can't be read on."""

    def commit(self, write: Write) -> int:
        """Write it, durably; its revision. All of its guards move. ConflictError, UnavailableError; LimitError for what
        is larger than this store can hold, ValueError for what none can."""

    def watch(self, after: int, *, timeout: float | None = None) -> Iterator[Revision]:
        """Whole revisions in order, from `after` + 1 on, as they come. Ends when none has come for `timeout` seconds
        (0: it never waits), or the store is closed. GoneError, on the first step or a later one, if the next revision
        isn't kept any more, or `after` hasn't happened yet."""

    def answered(self, token: str) -> Answered | None:
        """What was answered to a request with a token that isn't forgotten yet."""

    def events(self, after: int = 0, limit: int = 1000) -> list[AuditRecord]:
        """Audit records in order, from revision `after` + 1 on, or from the first one that is kept."""

    def put_summary(self, relay: str, body: Body) -> None:
        """What a relay says of its hosts now, instead of what it said before. It is no revision: no watch and no audit
        has it, and it may be lost with the machine. ValueError as for a commit; LimitError, UnavailableError."""

    def summaries(self) -> Mapping[str, Body]:
        """What each relay said last, by the relay's name; not of one that has said nothing for SUMMARY_S, nor of one
        that wrote anything but a summary."""

    def summary(self, relay: str) -> Body | None:
        """What this relay said last, in the same way."""

    def close(self) -> None:
        """Let go of files and connections. Nothing is lost."""


def require_writable(write: Write) -> None:
    """ValueError if it contradicts itself, or a name isn't Unicode (a lone surrogate)."""
    if both := write.deletes & write.puts.keys():
        raise ValueError(f"put and deleted in one commit: {sorted(both)}")
    for name in (*write.guards, *write.puts, *write.deletes, *((write.token.name,) if write.token else ())):
        name.encode()

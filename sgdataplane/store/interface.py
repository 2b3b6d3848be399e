"""The interface of a store of the control plane, whatever keeps it: SQLite, etcd, or memory.

Owns the interface and its values. Must not know actions, HTTP, or how anything is kept. Every store passes the same
conformance suite (tests/control/test_store.py).

A store holds documents. A commit puts and deletes some of them, moves its guards and writes one audit record, all at
once or not at all; its revision is one more than the last. A guard is a name, usually a VPC's id, that every commit of
its realm compares and moves. A commit that was decided on what was there before somebody else's commit gets
ConflictError; its caller reads again and decides again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeAlias

from sgdataplane.errors import SgDataplaneError
from sgdataplane.visible import visible

# What JSON can hold, as its readers see it: nobody changes a value through this type, so a list of texts is one, too.
# At run time lists are `list`, and objects are `dict`: a tuple is no list to whoever compares or looks.
Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Body: TypeAlias = Mapping[str, Json]  # of a document, an answer or an audit record: what JSON can hold
Path: TypeAlias = str  # of a document: "kind/id", such as "security_group/sg-1"
SummaryMark: TypeAlias = object  # how far a reading of summaries went; only the store that has given it understands it

NOTHING: Mapping[str, Body] = MappingProxyType({})
KEPT = 1_000  # revisions that a watch can go back, unless a store is told otherwise
SUMMARY_S = 86_400.0  # a summary that wasn't put again for so long is forgotten


class StoreError(SgDataplaneError):
    """The base of what a store raises on purpose."""

    def __str__(self) -> str:
        return visible(" ".join(map(str, self.args)))


class ConflictError(StoreError):
    """A guard has moved since it was read, or the token was used meanwhile. Nothing was written."""


class GoneError(StoreError):
    """The revision that a watch starts from isn't kept any more: take a snapshot instead.

    Or the one that is being read isn't kept: read again.
    """


class UnavailableError(StoreError):
    """The store can't be reached, or can't write.

    It isn't known whether a commit under way was written; its token tells.
    """


class FullError(UnavailableError):
    """The store has no space left: nothing can be written until somebody makes some, but it can be read."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one revision."""

    revision: int
    documents: Mapping[Path, Body]
    guards: Mapping[str, int]  # the revision at which each was moved last; one that isn't there is 0


class NewSummaries(NamedTuple):
    """What a reading of summaries has found."""

    bodies: Mapping[str, Body]  # relay -> its last summary
    mark: SummaryMark  # for the next reading


@dataclass(frozen=True, slots=True)
class Reading:
    """The documents at one revision, one after the other, each once and in no order that means anything."""

    revision: int
    documents: Iterator[tuple[Path, Body]]


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer that was given to a request with a token."""

    digest: str  # the request's
    answer: Body
    revision: int  # the revision of its commit


@dataclass(frozen=True, slots=True)
class Token:
    """A token, which makes a request happen only once."""

    name: str  # unique for a key and its ClientToken
    digest: str  # the request's
    answer: Body
    until: float  # when it may be forgotten, in seconds since 1970


@dataclass(frozen=True, slots=True)
class Write:
    """A commit to be made."""

    guards: Mapping[str, int]
    """The revision at which each was read."""
    puts: Mapping[Path, Body] = field(default_factory=lambda: NOTHING)
    """Documents to write; none of them may be in `deletes`."""
    deletes: frozenset[Path] = frozenset()
    """Paths to delete; they needn't be there."""
    audit: Body = field(default_factory=lambda: MappingProxyType({}))
    """The record of who did what."""
    token: Token | None = None
    forget_audit: int = 0
    """The audit records of revisions up to this one are removed, but never the commit's own."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One committed revision."""

    revision: int
    puts: Mapping[Path, Body]
    deletes: frozenset[Path]
    guards: frozenset[str]  # those that it moved


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """The audit record of one revision."""

    revision: int
    record: Body


class Store(Protocol):
    """A store. Several threads and several processes may use it."""

    def snapshot(self) -> Snapshot:
        """Return everything, at one revision."""

    def open_reading(self) -> AbstractContextManager[Reading]:
        """Read the documents of a snapshot one by one, so that they are never in memory all at once.

        Raises:
            GoneError: While they come, so much was committed that they can't be read on.
        """

    def commit(self, write: Write) -> int:
        """Commit, durably, and return the revision. All guards of the commit move.

        Raises:
            ConflictError: A guard has moved, or the token was used.
            UnavailableError: It isn't known whether it was written.
            LimitError: It is larger than this store can hold.
            ValueError: No store can hold it.
        """

    def watch(self, after: int, *, timeout: float | None = None) -> Iterator[Revision]:
        """Yield whole revisions in order, from `after` + 1 on, as they come.

        It ends when none has come for `timeout` seconds (0: it never waits), or the store is closed.

        Raises:
            GoneError: On the first step or a later one: the next revision isn't kept any more, or `after` hasn't
                happened.
        """

    def find_answer(self, token: str) -> Answered | None:
        """Return what was answered to a request with a token; None if that is unknown or forgotten."""

    def events(self, after: int = 0, limit: int = 1000) -> list[AuditRecord]:
        """Return audit records in order, from revision `after` + 1 on, or from the first one that is kept."""

    def put_summary(self, relay: str, body: Body) -> int:
        """Write what a relay says of its hosts now, in place of what it said before.

        It is no revision: no watch and no audit has it, and it may be lost with the machine.

        Returns:
            How many bytes the store has written. A large summary is compressed.

        Raises:
            ValueError: No store can hold it.
            LimitError: It is larger than this store can hold.
            UnavailableError: It can't be written.
        """

    def summaries(self) -> Mapping[str, Body]:
        """Return the last summary of each relay, by the relay's name.

        Relays that have written none for `SUMMARY_S`, or anything but a summary, are left out.
        """

    def new_summaries(self, mark: SummaryMark = None) -> NewSummaries:
        """Return the summaries that were written after the reading that gave this mark; all of them without a mark.

        Those that are left out of `summaries` are left out here, too.
        """

    def await_summaries(self, mark: SummaryMark, timeout: float) -> None:
        """Return once summaries may have been written after the reading that gave this mark, in seconds at most.

        A store that isn't told when somebody writes returns at once. So who calls this rests between two readings.
        """

    def summary(self, relay: str) -> Body | None:
        """Return the last summary of one relay; None if there is none that counts."""

    def close(self) -> None:
        """Let go of files and connections. Nothing is lost."""


def require_writable(write: Write) -> None:
    """Refuse a commit that contradicts itself.

    Raises:
        ValueError: It does, or a name isn't Unicode (a lone surrogate).
    """
    if both := write.deletes & write.puts.keys():
        raise ValueError(f"put and deleted in one commit: {sorted(both)}")
    for name in (*write.guards, *write.puts, *write.deletes, *((write.token.name,) if write.token else ())):
        name.encode()

"""What the agent knows of hits: when counters are read, and the answer to who asks.

Owns the times of reading and writing, and the keys of the answer. Is given reports of cycles. Must not know how cycles
work, or how rows are shown.

    kept        counters that our tables have by themselves, and no others, whatever they are called
    read        all namespaces at a start, by the timer, at a reload and a resync, at the end; one whose rules changed,
                then; those that somebody asks about. What a rule's counter had when it was removed, its removal tells.
    written     after readings of all; after one whose rules changed WRITE_S later, or 20 times what writing took last:
                who is killed in between has forgotten what rules counted that are gone

    at          now, as in RFC 3339
    error       why counts aren't kept on disk, or null
    scopes      one for each that the kernel counts for itself: {namespace, placement, enis, at, counters}; at: when it
                was read; namespace is null for one that has ended; the rows of counters: pydoc sgdataplane.observe.hits
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from sgdataplane.attach.report import Key, NamespaceReport
from sgdataplane.daemon.ledgerfile import LedgerFile
from sgdataplane.daemon.logs import event
from sgdataplane.daemon.readings import own_counters, place_of
from sgdataplane.daemon.reconcile import LOOKING, CycleReport
from sgdataplane.daemon.status import now
from sgdataplane.errors import SgDataplaneError
from sgdataplane.host.identity import identity_of
from sgdataplane.host.netns import path_of
from sgdataplane.nft.counters import Counted
from sgdataplane.observe.hits import decisions, of_causes, read_own, rows
from sgdataplane.observe.ledger import Ledger, Sum

WRITE_S, WRITE_SHARE = 1.0, 20
MAX_S, CHANGED_S = 2.0, 0.1  # of a reading, of one after a change; what it hasn't come to is first the next time
MAX_ROWS = 200_000  # of an answer
NEVER = (float("-inf"), "")

Read = Callable[[NamespaceReport], tuple[int, Mapping[str, Counted]]]


class TooMuchError(Exception):
    """More rows than an answer may have; for the other end to read."""


class Counts:
    """What the kernel or the disk refuses is not raised: who counts must not harm who enforces."""

    def __init__(self, file: LedgerFile, clock: Callable[[], float] = time.monotonic, read: Read | None = None) -> None:
        self._file, self._clock, self._read = file, clock, read or read_namespace
        self._ledger: Ledger | None = None
        self._read_at: dict[Key, tuple[float, str]] = {}  # by the clock, and for people
        self._namespaces: tuple[NamespaceReport, ...] = ()
        self._write_due: float | None = None
        self._write_took = 0.0
        self._told = ""

    @property
    def ledger(self) -> Ledger:
        """Read from disk when first asked for."""
        if self._ledger is None:
            self._ledger = self._file.load()
            self._tell()
        return self._ledger

    def note_cycle(self, report: CycleReport) -> None:
        """Read what has to be read after it."""
        if report.host is None:
            return
        before = {entry.key: entry for entry in self._namespaces}
        self._namespaces = tuple(entry for entry in report.host.namespaces if entry.desired is not None)
        for entry in self._namespaces:
            if entry.applied is not None and entry.applied.counted:
                self._note_removed(entry, entry.applied.counted, before.get(entry.key))
        if LOOKING & report.causes:
            self._refresh(self._namespaces)
            self._forget_ended(report.host.namespaces)
            self.store()
            return
        changed = [entry for entry in self._namespaces if entry.applied is not None and entry.applied.changed]
        if changed:
            self._refresh(changed, CHANGED_S)
            self._touch()

    def _note_removed(
        self, entry: NamespaceReport, counted: Mapping[str, Counted], before: NamespaceReport | None
    ) -> None:
        """Of those that were ours, as what is known of them says, or the policy before: others make some, too."""
        known = self.ledger.scopes.get(scope_of(entry), {}).keys() | (own_counters(before) if before else frozenset())
        ours = {name: last for name, last in of_causes(counted).items() if name in known}
        with suppress(SgDataplaneError, OSError):
            self.ledger.note_last(cookie_of(entry), scope_of(entry), ours, now())

    def _refresh(self, namespaces: Sequence[NamespaceReport], seconds: float = MAX_S) -> None:
        """Read these, the longest unread first, as far as there is time."""
        until = self._clock() + seconds
        for entry in sorted(namespaces, key=lambda entry: self._read_at.get(entry.key, NEVER)):
            if self._clock() >= until:
                return
            try:
                cookie, counters = self._read(entry)
            except Exception:  # noqa: BLE001  # it has ended, or the kernel refuses, or says odd things: a cycle tells why
                continue
            self._read_at[entry.key] = self._clock(), now()
            self.ledger.note(cookie, scope_of(entry), counters, now())

    def _forget_ended(self, namespaces: Iterable[NamespaceReport]) -> None:
        """`namespaces`: all, read or not."""
        there = {entry.key: entry for entry in namespaces}
        self._read_at = {key: at for key, at in self._read_at.items() if key in there}
        cookies = set()
        for entry in there.values():
            with suppress(SgDataplaneError, OSError):
                cookies.add(cookie_of(entry))
        self.ledger.keep_only(frozenset(cookies))

    # the disk

    def _touch(self) -> None:
        if self._write_due is None:
            self._write_due = self._clock() + max(WRITE_S, WRITE_SHARE * self._write_took)

    @property
    def wait_s(self) -> float | None:
        """How long nothing has to be written; None: for ever, if nothing happens."""
        return None if self._write_due is None else max(0.0, self._write_due - self._clock())

    def store_if_due(self) -> None:
        if self.wait_s == 0.0:
            self.store()

    def store(self) -> None:
        began, self._write_due = self._clock(), None
        self.ledger.trim()
        self._file.store(self.ledger)
        self._write_took = self._clock() - began
        self._tell()

    def close(self) -> None:
        """At the end of the agent: what was counted until now."""
        if self._ledger is not None:
            self._refresh(self._namespaces)
            self.store()

    def _tell(self) -> None:
        if self._file.error and self._file.error != self._told:
            event(logging.WARNING, "counts-not-kept", error=self._file.error)
        self._told = self._file.error

    # the answer

    @property
    def enis(self) -> frozenset[str]:
        """All whose hits are known, attached still or not."""
        here = (eni for entry in self._namespaces for eni in _enis(entry))
        return frozenset((*here, *(eni for scope in self.ledger.scopes for eni in enis_of(scope))))

    def as_json(self, eni_id: str = "") -> dict[str, object]:
        """Of all scopes, or of those with this ENI, read now. TooMuchError if that is too much for one answer."""
        asked = [entry for entry in self._namespaces if not eni_id or eni_id in _enis(entry)]
        self._refresh(asked)
        here = {scope_of(entry): entry for entry in asked}
        there = {scope_of(entry) for entry in self._namespaces}
        ended = [s for s in self.ledger.scopes if s not in there and (not eni_id or eni_id in enis_of(s))]
        if sum(len(self.ledger.scopes.get(scope, ())) for scope in (*here, *ended)) > MAX_ROWS:
            raise TooMuchError("that is too much for one answer; ask for one ENI's counters")
        found = [self._scope(scope, entry) for scope, entry in here.items()]
        return {
            "at": now(),
            "error": self._file.error or None,
            "scopes": [*found, *(_ended_scope(scope, self.ledger.scopes[scope]) for scope in ended)],
        }

    def _scope(self, scope: str, entry: NamespaceReport) -> dict[str, object]:
        assert entry.desired is not None
        known = decisions(entry.desired.state, entry.desired.interfaces)
        return {
            "namespace": entry.named,
            "placement": entry.desired.placement.value,
            "enis": sorted(entry.desired.interfaces),
            "at": self._read_at.get(entry.key, NEVER)[1] or None,
            "counters": list(rows(known, self.ledger.scopes.get(scope, {}))),
        }


def _ended_scope(scope: str, sums: Mapping[str, Sum]) -> dict[str, object]:
    enis = enis_of(scope)
    return {
        "namespace": None if enis else scope.removeprefix(ROUTER),
        "placement": "instance" if enis else "host",
        "enis": enis,
        "at": None,
        "counters": list(rows({}, sums)),
    }


ROUTER, SEPARATOR = "@", "\n"  # neither can be in an id


def scope_of(entry: NamespaceReport) -> str:
    """A router's name, or the ENIs of a workload's namespace."""
    return ROUTER + entry.key if isinstance(entry.key, str) else SEPARATOR.join(sorted(_enis(entry)))


def enis_of(scope: str) -> list[str]:
    """None of a router's, whose ENIs come and go."""
    return [] if scope.startswith(ROUTER) else scope.split(SEPARATOR)


def _enis(entry: NamespaceReport) -> Iterable[str]:
    return () if entry.desired is None else entry.desired.interfaces


def cookie_of(entry: NamespaceReport) -> int:
    """HostError if it is gone."""
    return identity_of(str(path_of(entry.key))).cookie if isinstance(entry.key, str) else entry.key.cookie


def read_namespace(entry: NamespaceReport) -> tuple[int, Mapping[str, Counted]]:
    """Its cookie and counters. HostError if it is gone, OSError if the kernel refuses."""
    with place_of(entry) as place:
        return cookie_of(entry), of_causes(read_own(place, own_counters(entry)))

"""Hits per rule in the agent: when counters are read and stored, and the answer to a client.

Owns the times of reading and writing, and the keys of the answer. Its input is reports of cycles. Must not know how
cycles work, or how rows are shown.

    kept        only the counters that our own tables need, whatever others are called
    read        all namespaces at a start, on the timer, at a reload or resync, and at the end; those whose rules have
                changed, before that is written; those that somebody asks about. A rule's last value comes with its
                removal, and is noted before anybody hears that the cycle is over.
    written     after all were read; else WRITE_S after rules changed, or 20 times what writing took last. An agent that
                is killed in between loses what removed rules had counted.

    at          now, as in RFC 3339
    error       why counts aren't kept on disk, or null
    scopes      one for each namespace that the kernel counts separately: {namespace, placement, enis, at, counters};
                at: when it was read; namespace: null if it has ended; counters: see pydoc sgdataplane.observe.hits
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from sgdataplane.attach.report import Key, NamespaceReport
from sgdataplane.daemon.cycle import LOOKING, CycleReport
from sgdataplane.daemon.ledgerfile import LedgerFile
from sgdataplane.daemon.logs import event
from sgdataplane.daemon.readings import own_counters, place_of, read_while_time
from sgdataplane.daemon.status import now
from sgdataplane.errors import SgDataplaneError
from sgdataplane.host.identity import identity_of
from sgdataplane.host.netns import path_of
from sgdataplane.nft.counters import Counted
from sgdataplane.observe.hits import audits, decisions, eni_of_counter, of_causes, read_own, rows
from sgdataplane.observe.ledger import Ledger, Sum

WRITE_S, WRITE_SHARE = 1.0, 20
MAX_S, CHANGED_S = 2.0, 0.1  # for a reading, for one after a change; what is left comes first the next time
MAX_ROWS = 200_000  # in an answer
NEVER = (float("-inf"), "")

Read = Callable[[NamespaceReport], tuple[int, Mapping[str, Counted]]]


class AnswerTooLargeError(Exception):
    """The answer would have too many rows. The message is for the client."""


class Counts:
    """The counts of hits. Errors of the kernel or the disk are never raised: counting must not harm enforcing."""

    def __init__(self, file: LedgerFile, clock: Callable[[], float] = time.monotonic, read: Read | None = None) -> None:
        self._file, self._clock, self._read = file, clock, read or read_namespace
        self._ledger: Ledger | None = None
        self._read_at: dict[Key, tuple[float, str]] = {}  # by the clock, and for people
        self._namespaces: tuple[NamespaceReport, ...] = ()
        self._write_due: float | None = None
        self._write_took = 0.0
        self._changed: set[Key] = set()  # whose rules have changed since the ledger was written
        self._told = ""

    @property
    def ledger(self) -> Ledger:
        """The ledger, which is read from disk on first use."""
        if self._ledger is None:
            self._ledger = self._file.load()
            self._tell()
        return self._ledger

    def note_cycle(self, report: CycleReport) -> None:
        """Take over where a cycle counts, and add the last values of counters that it removed."""
        if report.host is None:
            return
        previous = {entry.key: entry for entry in self._namespaces}
        self._namespaces = tuple(entry for entry in report.host.namespaces if entry.desired is not None)
        for entry in self._namespaces:
            if entry.applied is not None and entry.applied.counted:
                self._note_removed(entry, entry.applied.counted, previous.get(entry.key))

    def read_after(self, report: CycleReport, between: Callable[[], None] = lambda: None) -> None:
        """Read the counters that have to be read after this cycle, which was noted.

        `between` is called before each namespace's; it may ask for an answer.
        """
        if report.host is None:
            return
        if LOOKING & report.causes:
            self._refresh(self._namespaces, between=between, is_settled=True)
            self._forget_ended(report.host.namespaces)
            self.store()
            return
        changed = {entry.key for entry in self._namespaces if entry.applied is not None and entry.applied.changed}
        if changed:
            self._changed |= changed
            self._touch()

    def _note_removed(
        self, entry: NamespaceReport, counted: Mapping[str, Counted], previous: NamespaceReport | None
    ) -> None:
        """Add the last values of removed counters that were ours.

        Ours are those in the ledger or the previous policy. Others may have made more.
        """
        known = self.ledger.scopes.get(scope_of(entry), {}).keys() | (
            own_counters(previous) if previous else frozenset()
        )
        ours = {name: last for name, last in of_causes(counted).items() if name in known}
        with suppress(SgDataplaneError, OSError):
            self.ledger.note_last(cookie_of(entry), scope_of(entry), ours, now())

    def _refresh(
        self,
        namespaces: Sequence[NamespaceReport],
        seconds: float = MAX_S,
        between: Callable[[], None] = lambda: None,
        *,
        is_settled: bool = False,
    ) -> None:
        """Read these, the longest unread first, while there is time. Each is noted before `between` is called again.

        `is_settled`: no cycle is under way, which could have removed counters whose last values haven't been noted yet.
        """
        until = self._clock() + seconds

        def read(entry: NamespaceReport) -> tuple[int, Mapping[str, Counted]]:
            between()
            return self._read(entry)

        found = read_while_time(
            namespaces, read, lambda entry: self._read_at.get(entry.key, NEVER)[0], lambda: self._clock() < until
        )
        for entry, (cookie, counters) in found:
            self._read_at[entry.key] = self._clock(), now()
            self.ledger.note(cookie, scope_of(entry), counters, now(), is_settled=is_settled)

    def _forget_ended(self, namespaces: Iterable[NamespaceReport]) -> None:
        """Forget all but these namespaces, whether they could be read or not."""
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
        """The seconds until the ledger has to be written; None if it hasn't."""
        return None if self._write_due is None else max(0.0, self._write_due - self._clock())

    def store_if_due(self, between: Callable[[], None] = lambda: None) -> None:
        """Read the counters of namespaces whose rules have changed, and write the ledger, if it is time.

        `between` is called before each namespace's; it may ask for an answer.
        """
        if self.wait_s == 0.0:
            self._write_due = None  # a bug in a reading isn't repeated at once
            self._refresh([entry for entry in self._namespaces if entry.key in self._changed], CHANGED_S, between)
            self.store()

    def store(self) -> None:
        """Write the ledger, and note how long that took."""
        began, self._write_due = self._clock(), None
        self._changed.clear()
        self.ledger.trim()
        self._file.store(self.ledger)
        self._write_took = self._clock() - began
        self._tell()

    def close(self) -> None:
        """Store what was counted until now, as the agent ends."""
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
        """All ENIs whose hits are known, attached or not."""
        here = (eni for entry in self._namespaces for eni in _enis(entry))
        return frozenset((*here, *(eni for scope in self.ledger.scopes for eni in enis_of(scope))))

    def as_json(self, eni_id: str = "") -> dict[str, object]:
        """Return the answer for all scopes, or those with this ENI, read now.

        Raises:
            AnswerTooLargeError: It has too many rows.
        """
        asked = [entry for entry in self._namespaces if not eni_id or eni_id in _enis(entry)]
        self._refresh(asked)
        here = {scope_of(entry): entry for entry in asked}
        there = {scope_of(entry) for entry in self._namespaces}
        ended = [s for s in self.ledger.scopes if s not in there and (not eni_id or eni_id in enis_of(s))]
        if sum(len(self.ledger.scopes.get(scope, ())) for scope in (*here, *ended)) > MAX_ROWS:
            raise AnswerTooLargeError("that is too much for one answer; ask for one ENI's counters")
        found = [self._scope(scope, entry) for scope, entry in here.items()]
        return {
            "at": now(),
            "error": self._file.error or None,
            "scopes": [*found, *(_describe_ended_scope(scope, self.ledger.scopes[scope]) for scope in ended)],
        }

    def read_audited(self) -> dict[str, Sum]:
        """Return what passed at each ENI in audit mode that its rules would have dropped, read now."""
        here = [entry for entry in self._namespaces if entry.desired is not None and entry.desired.state.audited]
        self._refresh(here, CHANGED_S)
        found: dict[str, Sum] = {}
        for entry in here:
            assert entry.desired is not None
            sums = self.ledger.scopes.get(scope_of(entry), {})
            for name, (eni_id, _) in audits(entry.desired.state, entry.desired.interfaces).items():
                known, more = found.setdefault(eni_id, Sum(0, 0, "")), sums.get(name, Sum(0, 0, ""))
                since = min(filter(None, (known.since, more.since)), default="")
                found[eni_id] = Sum(known.packets + more.packets, known.bytes + more.bytes, since)
        return found

    def _scope(self, scope: str, entry: NamespaceReport) -> dict[str, object]:
        assert entry.desired is not None
        place = entry.desired.state, entry.desired.interfaces
        known = decisions(*place)
        return {
            "namespace": entry.named,
            "placement": entry.desired.placement.value,
            "enis": sorted(entry.desired.interfaces),
            "at": self._read_at.get(entry.key, NEVER)[1] or None,
            "counters": list(rows(known, self.ledger.scopes.get(scope, {}), eni_of_counter(*place))),
        }


def _describe_ended_scope(scope: str, sums: Mapping[str, Sum]) -> dict[str, object]:
    enis = enis_of(scope)
    return {
        "namespace": None if enis else scope.removeprefix(ROUTER),
        "placement": "instance" if enis else "host",
        "enis": enis,
        "at": None,
        "counters": list(rows({}, sums)),
    }


ROUTER, SEPARATOR = "@", "\n"  # no id contains either


def scope_of(entry: NamespaceReport) -> str:
    """Return the scope of a namespace: a router's name, or the ENIs of a workload's namespace."""
    return ROUTER + entry.key if isinstance(entry.key, str) else SEPARATOR.join(sorted(_enis(entry)))


def enis_of(scope: str) -> list[str]:
    """Return the ENIs of a scope; none for a router, whose ENIs come and go."""
    return [] if scope.startswith(ROUTER) else scope.split(SEPARATOR)


def _enis(entry: NamespaceReport) -> Iterable[str]:
    return () if entry.desired is None else entry.desired.interfaces


def cookie_of(entry: NamespaceReport) -> int:
    """Return the namespace's cookie.

    Raises:
        HostError: The namespace has ended.
    """
    return identity_of(str(path_of(entry.key))).cookie if isinstance(entry.key, str) else entry.key.cookie


def read_namespace(entry: NamespaceReport) -> tuple[int, Mapping[str, Counted]]:
    """Return the namespace's cookie and counters.

    Raises:
        HostError: The namespace has ended.
        OSError: The kernel refuses.
    """
    with place_of(entry) as place:
        return cookie_of(entry), of_causes(read_own(place, own_counters(entry)))

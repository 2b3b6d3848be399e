"""Keeping what was found: it waits in memory, goes into the file, and old rows make room.

Owns what waits, how much that may be, and what happens if the disk takes none. Is given what was found. Must not know
places or packets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sgdataplane.errors import HostError
from sgdataplane.history import file
from sgdataplane.history.budget import CpuBudget, SteadyClock
from sgdataplane.history.deltas import Deltas, Grown
from sgdataplane.history.merge import HistoryRoom, finish, steps
from sgdataplane.history.rows import BUCKET_S, Fate, FlowCount
from sgdataplane.history.sample import is_own
from sgdataplane.history.write import BucketOfRows, GapKey, HistoryWriter, PendingRows, TotalKey
from sgdataplane.model.decision import Decision

MAX_SILENT, MAX_WHY = 20, 200  # places that are told of, since a message has an end; characters of each reason
AGAIN_S, ALIVE_S = 30.0, 60.0  # until the file is tried again; between two writes, if there is nothing to write
MAX_PENDING = 50_000  # rows that wait for a disk that takes none; then they are given up


@dataclass(slots=True)
class RecorderStatus:
    """What is told about history. `error`: why nothing is written, "" if it is. `since`: the start of the first bucket,
    seconds since 1970. `bytes`: of the file. `unlogged`: packets and sessions that came too fast to be recorded one by
    one, since the start; `forged`: log messages that weren't our rules'. `places`: where it listens; `silent`: where it
    can't, and why (MAX_SILENT of them are told). `cpu_s`: processor time that it took."""

    path: str
    error: str = ""
    since: int | None = None
    bytes: int = 0
    unlogged: int = 0
    forged: int = 0
    given_up: int = 0
    places: int = 0
    silent: dict[str, str] = field(default_factory=dict)
    cpu_s: float = 0.0
    written: float = 0.0

    def as_json(self) -> dict[str, object]:
        silent = {name: why[:MAX_WHY] for name, why in list(self.silent.items())[:MAX_SILENT]}
        return {**asdict(self), "silent": silent}


class Keeper:
    """What was found and isn't written yet, and the file. `deltas`: the last readings of counters."""

    def __init__(self, path: Path, room: HistoryRoom, boot: str, clock: Callable[[], float] = time.time) -> None:
        self._path, self._room, self._boot, self._clock = path, room, boot, clock
        self.status = RecorderStatus(str(path))
        self.deltas, self._is_begun = Deltas({}), False
        self.pending = PendingRows()
        self._writer: HistoryWriter | None = None
        self._due = self._written = float("-inf")
        self._steady = SteadyClock()
        self._open()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    @property
    def now(self) -> int:
        """The time of day, in seconds since 1970."""
        return int(self._clock())

    @property
    def bucket(self) -> BucketOfRows:
        """The present one."""
        return self.pending.at(self.now // BUCKET_S * BUCKET_S, BUCKET_S)

    def add_totals(
        self, scope: str, grown: Grown, decisions: Mapping[str, Decision], of_enis: Mapping[str, tuple[str, Decision]]
    ) -> None:
        """Add what counters have counted. `of_enis`: those that count for one ENI."""
        now, totals = self.now, self.bucket.totals
        for name, (packets, size) in grown.items():
            whose, decision = of_enis.get(name) or (scope, decisions.get(name))
            if decision is not None:
                _add(totals, TotalKey(whose, decision), FlowCount(packets, size, now, now))

    def write(self) -> None:
        """Write what there is, if there is something or nothing was written for a while."""
        self._steady.note(self._clock())
        self._open()
        changed = self.deltas.take_changed()
        self.pending.bases |= {base: read for base, read in changed.items() if not is_own(base[1])}
        is_due = time.monotonic() >= self._written + ALIVE_S
        if self._writer is None:
            self._give_up()
        elif self.pending.size or is_due:
            self._write(self._writer)

    def _write(self, writer: HistoryWriter) -> None:
        try:
            writer.write(self.pending, self.now)
            self.status.since = writer.since
        except HostError as error:
            self._fail(error)
            self._give_up()
            return
        self.pending, self._written = PendingRows(), time.monotonic()
        self.status.error, self.status.written = "", self._clock()
        self.status.bytes = file.size_of(self._path)

    def merge(self, budget: CpuBudget) -> None:
        """Make old rows wider, and room. As long as the clock has jumped lately, nobody knows what is old."""
        if self._writer is None:
            return
        now = self.now if self._steady.is_steady else None
        try:
            with file.refusals(self._path):
                has_gone = False
                for _ in steps(self._writer.db, self._room, now):
                    has_gone = True
                    budget.keep()
                if has_gone:
                    finish(self._writer.db)
                    self._writer.forget_names()
        except HostError as error:
            self._fail(error)

    def _open(self) -> None:
        if self._writer is not None or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + AGAIN_S
        try:
            self._writer = HistoryWriter(self._path, self._room.max_bytes, self._boot)
            if not self._is_begun:
                self.deltas = Deltas(self._writer.bases())
            self._note_absence(self._writer.alive)
        except HostError as error:
            self._fail(error)
        self._is_begun = True  # from now on, the last readings are ours

    def _note_absence(self, alive: int | None) -> None:
        """Nobody recorded from then on until now."""
        if alive is not None and self.now - alive > 2 * BUCKET_S:
            bucket = self.pending.at(alive // BUCKET_S * BUCKET_S, BUCKET_S)
            bucket.gaps[GapKey("", Fate.DROP, is_absence=True)] = self.now - alive

    def _give_up(self) -> None:
        """What can't be written and is too much to wait: flows, and when each total was counted."""
        if self.pending.size <= MAX_PENDING:
            return
        self.status.given_up += sum(len(some.flows) for some in self.pending.buckets.values())
        totals: dict[TotalKey, FlowCount] = {}
        for bucket in self.pending.buckets.values():
            for key, count in bucket.totals.items():
                _add(totals, key, count)
        latest = max(self.pending.buckets, default=(0, BUCKET_S))
        self.pending = PendingRows({latest: BucketOfRows(totals=totals)}, self.pending.bases)

    def _fail(self, error: HostError) -> None:
        self.status.error = str(error)
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _add(totals: dict[TotalKey, FlowCount], key: TotalKey, more: FlowCount) -> None:
    found = totals.setdefault(key, FlowCount(0, 0, more.first, more.last))
    found.packets, found.bytes = found.packets + more.packets, found.bytes + more.bytes
    found.first, found.last = min(found.first, more.first), max(found.last, more.last)

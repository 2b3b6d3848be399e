"""The keeper of what was found: it waits in memory, goes into the file, and old rows make room.

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
from sgdataplane.history.merge import HistoryLimits, finish, steps
from sgdataplane.history.rows import BUCKET_S, Fate, FlowCount
from sgdataplane.history.sample import is_own
from sgdataplane.history.write import BucketOfRows, GapKey, HistoryWriter, PendingRows, TotalKey
from sgdataplane.model.decision import Decision

MAX_SILENT, MAX_WHY = 20, 200  # places that are told of, since a message has an end; characters of each reason
AGAIN_S, ALIVE_S = 30.0, 60.0  # until the file is tried again; between two writes, if there is nothing to write
MAX_PENDING = 50_000  # rows that wait for a disk that takes none; then they are given up


@dataclass(slots=True)
class RecorderStatus:
    """The status of history, as the recorder sends it to the agent."""

    path: str
    """The file."""
    error: str = ""
    """Why nothing is written; empty if it is."""
    since: int | None = None
    """The start of the first bucket with flows, in seconds since 1970; None if there is none."""
    bytes: int = 0
    """The size of the file."""
    unlogged: int = 0
    """Packets and sessions that came too fast to be recorded one by one, since the start."""
    forged: int = 0
    """Log messages that weren't our rules', since the start."""
    given_up: int = 0
    """Flow rows that were given up because the disk took none, since the start."""
    places: int = 0
    """How many places it listens in."""
    silent: dict[str, str] = field(default_factory=dict)
    """Where it can't listen, and why. MAX_SILENT of these are sent."""
    cpu_s: float = 0.0
    """The processor time that it took, in seconds."""
    written: float = 0.0
    """When something was written last, in seconds since 1970; 0 for never."""

    def as_json(self) -> dict[str, object]:
        """Return the fields by name, with few and short reasons, because a message has an end."""
        silent = {name: why[:MAX_WHY] for name, why in list(self.silent.items())[:MAX_SILENT]}
        return {**asdict(self), "silent": silent}


class Keeper:
    """The rows that were found and aren't written yet, and the file.

    Attributes:
        status: What is sent to the agent.
        deltas: The last readings of counters.
        pending: What waits for the file.
    """

    def __init__(self, path: Path, limits: HistoryLimits, boot: str, clock: Callable[[], float] = time.time) -> None:
        self._path, self._limits, self._boot, self._clock = path, limits, boot, clock
        self.status = RecorderStatus(str(path))
        self.deltas, self._is_begun = Deltas({}), False
        self.pending = PendingRows()
        self._writer: HistoryWriter | None = None
        self._due = self._written = float("-inf")
        self._steady = SteadyClock()
        self._open()

    def close(self) -> None:
        """Close the file. What waits is lost."""
        if self._writer is not None:
            self._writer.close()

    @property
    def now(self) -> int:
        """The time of day, in seconds since 1970."""
        return int(self._clock())

    @property
    def bucket(self) -> BucketOfRows:
        """The present bucket."""
        return self.pending.at(self.now // BUCKET_S * BUCKET_S, BUCKET_S)

    def add_totals(
        self, scope: str, grown: Grown, decisions: Mapping[str, Decision], of_enis: Mapping[str, tuple[str, Decision]]
    ) -> None:
        """Add what counters have counted.

        Args:
            scope: The scope of the counters that count for no single ENI.
            grown: What each counter has counted.
            decisions: What each counter stands for; others are ignored.
            of_enis: The counters that count for one ENI, with it.
        """
        now, totals = self.now, self.bucket.totals
        for name, (packets, size) in grown.items():
            whose, decision = of_enis.get(name) or (scope, decisions.get(name))
            if decision is not None:
                _add(totals, TotalKey(whose, decision), FlowCount(packets, size, now, now))

    def write(self) -> None:
        """Write what waits, if there is something, or if nothing was written for ALIVE_S."""
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
        """Write what waits; keep it, within bounds, if that fails."""
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
        """Widen old rows' buckets, and make room.

        While the clock has jumped lately, nobody knows what is old; then only room is made.
        """
        if self._writer is None:
            return
        now = self.now if self._steady.is_steady else None
        try:
            with file.refusals(self._path):
                has_gone = False
                for _ in steps(self._writer.db, self._limits, now):
                    has_gone = True
                    budget.keep()
                if has_gone:
                    finish(self._writer.db)
                    self._writer.forget_names()
        except HostError as error:
            self._fail(error)

    def _open(self) -> None:
        """Open the file, if it isn't open and AGAIN_S have passed since the last try."""
        if self._writer is not None or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + AGAIN_S
        try:
            self._writer = HistoryWriter(self._path, self._limits.max_bytes, self._boot)
            if not self._is_begun:
                self.deltas = Deltas(self._writer.bases())
            self._note_absence(self._writer.alive)
        except HostError as error:
            self._fail(error)
        self._is_begun = True  # from now on, the last readings are ours

    def _note_absence(self, alive: int | None) -> None:
        """Note that nobody recorded from then on until now."""
        if alive is not None and self.now - alive > 2 * BUCKET_S:
            bucket = self.pending.at(alive // BUCKET_S * BUCKET_S, BUCKET_S)
            bucket.gaps[GapKey("", Fate.DROP, is_absence=True)] = self.now - alive

    def _give_up(self) -> None:
        """Give up what can't be written and is too much to wait: flows, and when each total was counted."""
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
        """Note why the file can't be written, and close it."""
        self.status.error = str(error)
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _add(totals: dict[TotalKey, FlowCount], key: TotalKey, more: FlowCount) -> None:
    """Add a count to a total."""
    found = totals.setdefault(key, FlowCount(0, 0, more.first, more.last))
    found.packets, found.bytes = found.packets + more.packets, found.bytes + more.bytes
    found.first, found.last = min(found.first, more.first), max(found.last, more.last)

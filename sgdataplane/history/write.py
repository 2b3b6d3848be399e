"""The writer of history: what was gathered goes into the file in one transaction.

Owns that transaction: rows, totals, gaps and the counters' last readings are there together or not at all. So after
`kill -9` no packet is counted twice, and what the counters counted meanwhile comes into the next bucket. Must not know
how anything was gathered.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sgdataplane.history import file
from sgdataplane.history.read import DIRECTIONS, FATES, MERGED, SAMPLED
from sgdataplane.history.rows import Fate, FlowCount, FlowKey
from sgdataplane.model.decision import Decision
from sgdataplane.nft.counters import Counted

MAX_NAMES = 100_000  # whose numbers are remembered
ALIVE, FORGOTTEN, BOOT = "alive", "forgotten", "boot"


class TotalKey(NamedTuple):
    """A total of one scope."""

    scope: str
    decision: Decision
    """Its priority is only shown."""


class GapKey(NamedTuple):
    """Everything that tells a gap from others of its bucket; the fields are those of Gap."""

    scope: str
    fate: Fate
    is_absence: bool = False


@dataclass(slots=True)
class BucketOfRows:
    """The additions to one bucket."""

    flows: dict[FlowKey, FlowCount] = field(default_factory=dict)
    totals: dict[TotalKey, FlowCount] = field(default_factory=dict)
    gaps: dict[GapKey, int] = field(default_factory=dict)


@dataclass(slots=True)
class PendingRows:
    """Everything that is to be written."""

    buckets: dict[tuple[int, int], BucketOfRows] = field(default_factory=dict)
    """The buckets, by start and width in seconds."""
    bases: dict[tuple[int, str], Counted | None] = field(default_factory=dict)
    """Readings of counters that have changed, by cookie and counter; None for one that is forgotten."""

    def at(self, start: int, width: int) -> BucketOfRows:
        """Return the bucket with that start and width; an empty one if there is none yet."""
        return self.buckets.setdefault((start, width), BucketOfRows())

    @property
    def size(self) -> int:
        """How many rows wait."""
        rows = (len(some.flows) + len(some.totals) + len(some.gaps) for some in self.buckets.values())
        return sum(rows) + len(self.bases)


class HistoryWriter:
    """A writer of a history. Errors are HostError.

    One process writes at a time; the file's own locks see to that.
    """

    def __init__(self, path: Path, max_bytes: int, boot: str) -> None:
        """Open the file, and make it if there is none.

        `boot` is the id of this boot, for which bases are valid.
        """
        self._path, self._max_bytes = path, max_bytes
        self._names: dict[str, int] = {}
        self._forgotten = 0
        with file.refusals(path):
            file.make(path)
            self._db = file.connect(path)
            try:
                file.require_ours(path, self._db)
                self._begin(boot)
            except BaseException:
                self._db.close()
                raise

    def _begin(self, boot: str) -> None:
        """Limit the file's size, and forget the bases of another boot."""
        self._db.execute(f"PRAGMA max_page_count = {max(64, self._max_bytes // file.PAGE_BYTES)}")
        self._db.execute("BEGIN IMMEDIATE")
        if self._fact(BOOT) != boot:
            self._db.execute("DELETE FROM bases")
            self._set_fact(BOOT, boot)
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        with suppress(sqlite3.Error):
            self._db.close()

    @property
    def db(self) -> sqlite3.Connection:
        """The connection, for merge.py."""
        return self._db

    @property
    def since(self) -> int | None:
        """The start of the first bucket with flows, in seconds since 1970; None if there is none."""
        with file.refusals(self._path):
            found: int | None = self._db.execute("SELECT min(start) FROM flows").fetchone()[0]
        return found

    @property
    def alive(self) -> int | None:
        """When something was written last, in seconds since 1970; None for never."""
        with file.refusals(self._path):
            found = self._fact(ALIVE)
        return int(str(found)) if found is not None else None

    def bases(self) -> dict[tuple[int, str], Counted]:
        """Return the last readings of counters that were written, by cookie and name."""
        with file.refusals(self._path):
            rows = self._db.execute("SELECT cookie, counter, made, packets, bytes FROM bases")
            return {(int(cookie), name): Counted(packets, size, made) for cookie, name, made, packets, size in rows}

    def write(self, pending: PendingRows, now: int) -> None:
        """Write all of it; HostError if that fails, and then nothing is written."""
        with file.refusals(self._path):
            if not self._path.exists():
                raise OSError(2, "the file was moved or removed")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._write(pending, now)
                self._db.execute("COMMIT")
            except BaseException:
                self._names.clear()
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def _write(self, pending: PendingRows, now: int) -> None:
        self._heed_forgetting()
        for (start, width), some in pending.buckets.items():
            self._db.executemany(ADD_FLOW, (self._flow(start, width, *item) for item in some.flows.items()))
            self._db.executemany(ADD_TOTAL, (self._total(start, width, *item) for item in some.totals.items()))
            gaps = (
                (start, width, self._name(key.scope), FATES.index(key.fate), key.is_absence, number)
                for key, number in some.gaps.items()
            )
            self._db.executemany(ADD_GAP, gaps)
        self._write_bases(pending.bases)
        self._set_fact(ALIVE, now)

    def _write_bases(self, bases: Mapping[tuple[int, str], Counted | None]) -> None:
        """Write the readings that have changed, and remove those that are forgotten."""
        gone = [(str(cookie), name) for (cookie, name), counted in bases.items() if counted is None]
        self._db.executemany("DELETE FROM bases WHERE cookie = ? AND counter = ?", gone)
        there: Iterable[tuple[object, ...]] = (
            (str(cookie), name, counted.made, counted.packets, counted.bytes)
            for (cookie, name), counted in bases.items()
            if counted is not None
        )
        self._db.executemany("INSERT OR REPLACE INTO bases VALUES (?, ?, ?, ?, ?)", there)

    def _heed_forgetting(self) -> None:
        """Forget the numbers of names if somebody has removed rows (forget.py): names may be gone, too."""
        forgotten = int(str(self._fact(FORGOTTEN) or 0))
        if forgotten != self._forgotten or len(self._names) > MAX_NAMES:
            self._names.clear()
        self._forgotten = forgotten

    def forget_names(self) -> None:
        """Forget the numbers of names, after names were removed by this process."""
        self._names.clear()

    def _flow(self, start: int, width: int, key: FlowKey, count: FlowCount) -> tuple[object, ...]:
        """Return the values of a flow row."""
        texts = (self._name(key.cause), self._name(key.group_id), self._name(key.rule_id))
        end = key.end if is_address(key.end) else self._name(key.end)
        whose = (self._name(key.eni_id), DIRECTIONS.index(key.direction), end)
        flags = SAMPLED * count.is_sampled | MERGED * count.is_merged
        counts = (count.packets, count.bytes, count.first, count.last, flags)
        return (start, width, *whose, key.protocol, key.port, FATES.index(key.fate), *texts, *counts)

    def _total(self, start: int, width: int, key: TotalKey, count: FlowCount) -> tuple[object, ...]:
        """Return the values of a total."""
        of, fate = key.decision.enforced, FATES.index(Fate.of(key.decision))
        texts = (self._name(of.cause), self._name(of.security_group_id), self._name(of.security_group_rule_id))
        what = (self._name(key.scope), DIRECTIONS.index(of.direction), fate, *texts, of.priority)
        return (start, width, *what, count.packets, count.bytes, count.first, count.last)

    def _name(self, text: str) -> int:
        """Return the number of a name, which it gets if it has none."""
        found = self._names.get(text)
        if found is None:
            self._db.execute("INSERT OR IGNORE INTO names (text) VALUES (?)", (text,))
            found = self._db.execute("SELECT id FROM names WHERE text = ?", (text,)).fetchone()[0]
            self._names[text] = found
        return found

    def _fact(self, name: str) -> object:
        found = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return found[0] if found else None

    def _set_fact(self, name: str, value: object) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))


def is_address(end: str) -> bool:
    """Return whether an other end is stored as it is, and not by a number."""
    return end[:1].isdigit() or ":" in end


# What is added to a row that is there: merge.py adds rows the same way.
SUMMED = """packets = packets + excluded.packets, bytes = bytes + excluded.bytes,
    first = min(first, excluded.first), last = max(last, excluded.last)"""
MERGE_FLOW = f"ON CONFLICT DO UPDATE SET {SUMMED}, flags = flags | excluded.flags"
MERGE_TOTAL = f"ON CONFLICT DO UPDATE SET {SUMMED}, priority = max(priority, excluded.priority)"
MERGE_GAP = "ON CONFLICT DO UPDATE SET number = number + excluded.number"
ADD_FLOW = f"INSERT INTO flows VALUES ({', '.join('?' * 16)}) {MERGE_FLOW}"
ADD_TOTAL = f"INSERT INTO totals VALUES ({', '.join('?' * 13)}) {MERGE_TOTAL}"
ADD_GAP = f"INSERT INTO gaps VALUES (?, ?, ?, ?, ?, ?) {MERGE_GAP}"

"""Old history takes less room: buckets become wider, and go.

Owns when that happens. Is given an open file and the time. Must not know what rows mean.

    rows                       after a day     after a week     after `keep`
    buckets of 60 s            become hours    days             go
    totals of 60 s             after two hours, so that sums of a day are made of few
    if there is no room for that, sooner: hours after an hour, days after a day; then the oldest days go, too

Each step is a transaction about one wide bucket, so it is short, and done or not done if we are killed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sgdataplane.history.rows import BUCKET_S, DAY_S, HOUR_S
from sgdataplane.history.write import MERGE_FLOW, MERGE_GAP, MERGE_TOTAL

WEEK_S, TOTALS_S = 7 * DAY_S, 2 * HOUR_S
HIGH, LOW = 0.8, 0.6  # of the room: when it is made, and until when
TABLES = ("flows", "totals", "gaps")
# how each table's rows are added up in one of its wider buckets
WIDER = {
    "flows": f"""INSERT INTO flows SELECT :start, :width, eni, direction, end, protocol, port, fate, cause, grp, rule,
        sum(packets), sum(bytes), min(first), max(last), max(flags & 1) | max(flags & 2) FROM flows
        WHERE start >= :start AND start < :start + :width AND width = :narrow
        GROUP BY eni, direction, end, protocol, port, fate, cause, grp, rule {MERGE_FLOW}""",
    "totals": f"""INSERT INTO totals SELECT :start, :width, scope, direction, fate, cause, grp, rule, max(priority),
        sum(packets), sum(bytes), min(first), max(last) FROM totals
        WHERE start >= :start AND start < :start + :width AND width = :narrow
        GROUP BY scope, direction, fate, cause, grp, rule {MERGE_TOTAL}""",
    "gaps": f"""INSERT INTO gaps SELECT :start, :width, scope, fate, absence, sum(number) FROM gaps
        WHERE start >= :start AND start < :start + :width AND width = :narrow
        GROUP BY scope, fate, absence {MERGE_GAP}""",
}


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """How long history is kept, and how much it may take."""

    keep_s: int
    """For how many seconds rows are kept."""
    max_bytes: int


def steps(db: sqlite3.Connection, limits: HistoryLimits, now: int | None) -> Iterator[bool]:
    """Do what is due, a transaction at a time; yield True after each.

    `now` is in seconds since 1970; None if nobody knows, so that only room is made.
    """
    if now is not None:
        yield from _widen(db, BUCKET_S, HOUR_S, now - TOTALS_S, ("totals",))
        yield from _widen(db, BUCKET_S, HOUR_S, now - DAY_S)
        yield from _widen(db, HOUR_S, DAY_S, now - WEEK_S)
        yield from _drop(db, now - limits.keep_s)
    if _count_used(db) <= HIGH * limits.max_bytes:
        return
    now = _latest(db) if now is None else now
    for part in (
        _widen(db, BUCKET_S, HOUR_S, now - HOUR_S),
        _widen(db, HOUR_S, DAY_S, now - DAY_S),
        _drop_oldest(db),
    ):
        for has_gone in part:
            yield has_gone
            if _count_used(db) <= LOW * limits.max_bytes:
                return


def finish(db: sqlite3.Connection) -> None:
    """Give room back to the file system, once rows went."""
    db.execute("PRAGMA incremental_vacuum(2000)")


def _widen(
    db: sqlite3.Connection, narrow: int, width: int, until: int, tables: Sequence[str] = TABLES
) -> Iterator[bool]:
    """Make wider buckets of those that ended before `until`, whole ones only; yield after each."""
    last = until // width * width
    while True:
        oldest = [_oldest(db, table, narrow, last) for table in tables]
        starts = [start for start in oldest if start is not None]
        if not starts:
            return
        asked = {"start": min(starts) // width * width, "width": width, "narrow": narrow}
        with _transaction(db):
            for table in tables:
                # `WHERE` of its own, or SQLite takes ON CONFLICT for a join's
                db.execute(WIDER[table], asked)
                where = "start >= :start AND start < :start + :width AND width = :narrow"
                db.execute(f"DELETE FROM {table} WHERE {where}", asked)  # one of ours
        yield True


def _drop(db: sqlite3.Connection, until: int) -> Iterator[bool]:
    """Remove buckets that ended before `until`, then names that no row has any more; yield after each start."""
    has_gone = False
    for table in TABLES:
        while _drop_first(db, table, until):
            has_gone = True
            yield True
    if has_gone:
        with _transaction(db):
            remove_unused_names(db)


def _drop_first(db: sqlite3.Connection, table: str, until: int) -> bool:
    """Remove rows with the first start of the table that ended before `until`; return whether there were any."""
    with _transaction(db):
        found = db.execute(f"SELECT min(start) FROM {table}").fetchone()[0]
        if found is None or found + BUCKET_S > until:
            return False
        where = "start = ? AND start + width <= ?"
        return db.execute(f"DELETE FROM {table} WHERE {where}", (found, until)).rowcount > 0


def _drop_oldest(db: sqlite3.Connection) -> Iterator[bool]:
    """Remove the oldest buckets, one start after the other; yield after each."""
    while True:
        found = [db.execute(f"SELECT min(start) FROM {table}").fetchone()[0] for table in TABLES]
        starts = [start for start in found if start is not None]
        if not starts:
            return
        with _transaction(db):
            for table in TABLES:
                db.execute(f"DELETE FROM {table} WHERE start = ?", (min(starts),))
        yield True


def _oldest(db: sqlite3.Connection, table: str, narrow: int, until: int) -> int | None:
    """Return the first start of a bucket of that width before `until`; None if there is none."""
    query = f"SELECT start FROM {table} WHERE start < ? AND width = ? ORDER BY start LIMIT 1"
    found = db.execute(query, (until, narrow)).fetchone()
    return None if found is None else int(found[0])


def _latest(db: sqlite3.Connection) -> int:
    """Return the start of the latest bucket; 0 if there is none."""
    found = [db.execute(f"SELECT max(start) FROM {table}").fetchone()[0] for table in TABLES]
    return max((int(start) for start in found if start is not None), default=0)


NAMED = {
    "flows": ("eni", "end", "cause", "grp", "rule"),
    "totals": ("scope", "cause", "grp", "rule"),
    "gaps": ("scope",),
}


def remove_unused_names(db: sqlite3.Connection) -> None:
    """Remove names that are in no row. Call it within a transaction."""
    columns = ((table, column) for table, some in NAMED.items() for column in some)
    used = " UNION ".join(f"SELECT DISTINCT {column} FROM {table}" for table, column in columns)
    db.execute(f"DELETE FROM names WHERE id NOT IN ({used})")


def _count_used(db: sqlite3.Connection) -> int:
    """Return the bytes in use: free pages take new rows."""
    numbers = [
        int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
    ]
    return (numbers[0] - numbers[1]) * numbers[2]


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Do all of the block, or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise

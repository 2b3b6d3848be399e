"""Reading history: flow rows, totals and gaps of a time.

Owns the questions, as SQL. Is given the file's path. Must not know who asks. It holds no lock: the agent goes on
writing.

    with open_history(path) as history:
        for row in history.flows(HistoryQuery(since, until, fates=(Fate.ACCEPT,))): ...
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sgdataplane.history import file
from sgdataplane.history.rows import Fate, FlowCount, FlowKey, Gap, HistoryRow, TotalRow
from sgdataplane.model.decision import Decision
from sgdataplane.net.values import Direction, Verdict

FATES, DIRECTIONS = tuple(Fate), tuple(Direction)  # kept by their place here
SAMPLED, MERGED = 1, 2  # flags
FAR = 1 << 40  # seconds; later than all

OF_KEY = ("eni", "direction", "end", "protocol", "port", "fate", "cause", "grp", "rule")
_TEXTS = ("eni", "end", "cause", "grp", "rule")  # an address as the other end stands in the row


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Conditions on rows; all that are set must hold."""

    since: float = 0
    """The row's bucket must have time after that, in seconds since 1970."""
    until: float = FAR
    """The row's bucket must have time before that, in seconds since 1970."""
    eni_id: str | None = None
    direction: Direction | None = None
    ends: tuple[str, ...] | None = None
    """The other end must be one of these texts, as the row has them."""
    protocol: int | None = None
    port: int | None = None
    fates: tuple[Fate, ...] | None = None
    group_id: str | None = None
    rule_id: str | None = None


class History:
    """An open history, as it was when it was opened."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def flows(self, asked: HistoryQuery = HistoryQuery(), *, most: int = -1) -> Iterator[HistoryRow]:  # frozen
        """Yield rows that are equal but for their bucket summed up, the latest first; at most `most`."""
        grouped = ", ".join(f"f.{column}" for column in OF_KEY)
        yield from self._flows(asked, f"GROUP BY {grouped}", most)

    def buckets(self, asked: HistoryQuery = HistoryQuery(), *, most: int = -1) -> Iterator[HistoryRow]:
        """Yield rows bucket by bucket, the latest first; at most `most`."""
        grouped = ", ".join(f"f.{column}" for column in ("start", "width", *OF_KEY))
        yield from self._flows(asked, f"GROUP BY {grouped}", most)

    def sums(
        self, asked: HistoryQuery, by: Sequence[str], *, most: int = -1
    ) -> Iterator[tuple[tuple[object, ...], FlowCount]]:
        """Yield the sum of all rows with equal columns `by` (some of OF_KEY), the largest first; at most `most`."""
        where, values = self._conditions(asked)
        columns = ", ".join(f"f.{column}" for column in by)
        query = f"""
            SELECT {columns}, sum(f.packets), sum(f.bytes), min(f.first), max(f.last), max(f.flags & 1),
            max(f.flags & 2) FROM flows f WHERE {where} GROUP BY {columns} ORDER BY sum(f.packets) DESC LIMIT ?"""
        for row in self._db.execute(query, (*values, most)):
            shown = tuple(self._readable(column, value) for column, value in zip(by, row, strict=False))
            packets, size, first, last, sampled, merged = row[len(by) :]
            yield shown, FlowCount(packets, size, first, last, bool(sampled), bool(merged))

    def totals(self, asked: HistoryQuery = HistoryQuery(), *, is_summed: bool = True) -> Iterator[TotalRow]:
        """Yield totals of rules and causes, summed up over the time or, unless `is_summed`, bucket by bucket.

        Only two conditions count: the time, and `eni_id`, which selects the scopes with that ENI.
        """
        buckets = "" if is_summed else ", t.start, t.width"
        conditions, values = _in_time("t", asked)
        query = f"""
            WITH found AS (
                SELECT min(t.start) AS start, max(t.start + t.width) - min(t.start) AS seconds, t.scope, t.direction,
                t.fate, t.cause, t.grp, t.rule, max(t.priority) AS priority, sum(t.packets) AS packets,
                sum(t.bytes) AS bytes, min(t.first) AS first, max(t.last) AS last FROM totals t WHERE {conditions}
                GROUP BY t.scope, t.direction, t.fate, t.cause, t.grp, t.rule{buckets}
            )
            SELECT f.start, f.seconds, n.text, f.direction, f.fate, c.text, g.text, r.text, f.priority, f.packets,
            f.bytes, f.first, f.last FROM found f JOIN names n ON n.id = f.scope JOIN names c ON c.id = f.cause
            JOIN names g ON g.id = f.grp JOIN names r ON r.id = f.rule"""
        for start, seconds, scope, side, fate, cause, group, rule, priority, *counts in self._db.execute(query, values):
            if asked.eni_id is None or asked.eni_id in scope.split("\n"):
                verdict = Verdict.ACCEPT if FATES[fate] is Fate.ACCEPT else Verdict.DROP
                decision = Decision(DIRECTIONS[side], verdict, cause, group, rule, priority)
                yield TotalRow(start, seconds, scope, FATES[fate], decision, *counts)

    def gaps(self, asked: HistoryQuery = HistoryQuery()) -> Iterator[Gap]:
        """Yield what wasn't recorded one by one in that time."""
        conditions, values = _in_time("g", asked)
        query = f"""
            SELECT g.start, g.width, n.text, g.fate, g.number, g.absence FROM gaps g JOIN names n ON n.id = g.scope
            WHERE {conditions} ORDER BY g.start"""
        for start, seconds, scope, fate, number, absence in self._db.execute(query, values):
            yield Gap(start, seconds, scope, FATES[fate], number, bool(absence))

    @property
    def size(self) -> int:
        """How many rows there are, without gaps."""
        found: int = self._db.execute("SELECT (SELECT count(*) FROM flows) + (SELECT count(*) FROM totals)").fetchone()[
            0
        ]
        return found

    @property
    def since(self) -> int | None:
        """The start of the first bucket, in seconds since 1970; None if there is none."""
        found: tuple[int | None] = self._db.execute("SELECT min(start) FROM totals").fetchone()
        flows: tuple[int | None] = self._db.execute("SELECT min(start) FROM flows").fetchone()
        starts = [start for start in (*found, *flows) if start is not None]
        return min(starts, default=None)

    def _flows(self, asked: HistoryQuery, grouped: str, most: int) -> Iterator[HistoryRow]:
        where, values = self._conditions(asked)
        query = f"""
            WITH found AS (
                SELECT min(f.start) AS start, max(f.start + f.width) AS until, f.eni, f.direction, f.end, f.protocol,
                f.port, f.fate, f.cause, f.grp, f.rule, sum(f.packets) AS packets, sum(f.bytes) AS bytes,
                min(f.first) AS first, max(f.last) AS last, max(f.flags & 1) AS sampled, max(f.flags & 2) AS merged
                FROM flows f WHERE {where} {grouped} ORDER BY max(f.last) DESC LIMIT ?
            )
            SELECT f.start, f.until, e.text, f.direction, coalesce(o.text, f.end), f.protocol, f.port, f.fate, c.text,
            g.text, r.text, f.packets, f.bytes, f.first, f.last, f.sampled, f.merged
            FROM found f JOIN names e ON e.id = f.eni JOIN names c ON c.id = f.cause
            LEFT JOIN names o ON typeof(f.end) = 'integer' AND o.id = f.end
            JOIN names g ON g.id = f.grp JOIN names r ON r.id = f.rule ORDER BY f.last DESC"""
        for start, until, eni, side, end, protocol, port, fate, cause, group, rule, *counts in self._db.execute(
            query, (*values, most)
        ):
            key = FlowKey(eni, DIRECTIONS[side], end, protocol, port, FATES[fate], cause, group, rule)
            packets, size, first, last, sampled, merged = counts
            count = FlowCount(packets, size, first, last, bool(sampled), bool(merged))
            yield HistoryRow(start, until - start, key, count)

    def _conditions(self, asked: HistoryQuery) -> tuple[str, list[object]]:
        """Return the conditions as SQL, with their values.

        A name that is in no row becomes a condition that nothing meets.
        """
        conditions, values = _in_time("f", asked)
        named = {"eni": asked.eni_id, "grp": asked.group_id, "rule": asked.rule_id}
        exact: dict[str, object] = {column: self._id(name) for column, name in named.items() if name is not None}
        if asked.direction is not None:
            exact["direction"] = DIRECTIONS.index(asked.direction)
        exact |= {
            column: value for column, value in (("protocol", asked.protocol), ("port", asked.port)) if value is not None
        }
        for column, value in exact.items():
            conditions += f" AND f.{column} = ?"
            values.append(value)
        several = {
            "end": None if asked.ends is None else [*asked.ends, *map(self._id, asked.ends)],
            "fate": None if asked.fates is None else [FATES.index(fate) for fate in asked.fates],
        }
        for column, some in several.items():
            if some is not None:
                conditions += f" AND f.{column} IN ({', '.join('?' * len(some))})"
                values += some
        return conditions, values

    def _id(self, name: str) -> int:
        """Return the number of a name; -1, which no row has, if it has none."""
        found = self._db.execute("SELECT id FROM names WHERE text = ?", (name,)).fetchone()
        return found[0] if found else -1

    def _readable(self, column: str, value: int | str) -> object:
        """Return a column's value as people read it."""
        if isinstance(value, str):
            return value
        if column in _TEXTS:
            return self._db.execute("SELECT text FROM names WHERE id = ?", (value,)).fetchone()[0]
        return {"direction": DIRECTIONS, "fate": FATES}[column][value] if column in ("direction", "fate") else value


def _in_time(table: str, asked: HistoryQuery) -> tuple[str, list[object]]:
    """Return the condition that a bucket has time in the query's, as SQL, with its values.

    It has if it begins before the end, and ends after the beginning. The first condition, with the widest bucket, lets
    SQLite begin there.
    """
    conditions = f"{table}.start > ? AND {table}.start + {table}.width > ? AND {table}.start < ?"
    return conditions, [asked.since - 86400, asked.since, asked.until]


@contextmanager
def open_history(path: Path) -> Iterator[History]:
    """Open a history for reading while the block runs. HostError if there is none, or it can't be read."""
    file.require_history(path)
    with file.refusals(path), closing(file.connect(path, "ro")) as db:
        file.require_ours(path, db)
        db.execute("BEGIN")  # one look at everything, whatever is written meanwhile
        yield History(db)

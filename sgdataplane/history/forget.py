"""Forgetting: rows that must not be kept any longer go for good.

Owns that. Is given the file's path. Must not know why. The writer may be at work meanwhile; what it sees afterwards is
recorded as always.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sgdataplane.history import file
from sgdataplane.history.merge import TABLES, remove_unused_names
from sgdataplane.history.write import FORGOTTEN

OF_ENI = {"flows": ("eni", "end"), "totals": ("scope",), "gaps": ("scope",)}


def forget(path: Path, eni_id: str | None, before: float | None) -> int:
    """Remove rows for good; return how many. What is deleted is overwritten on the disk.

    Args:
        path: The file.
        eni_id: Remove rows of this ENI, also where it is the other end; None for all ENIs.
        before: Remove rows that ended before that time, in seconds since 1970; None for whenever.

    Raises:
        HostError: It fails; then nothing is gone.
    """
    file.require_history(path)
    with file.refusals(path), closing(file.connect(path)) as db:
        file.require_ours(path, db)
        db.execute("PRAGMA secure_delete = ON")
        db.execute("BEGIN IMMEDIATE")
        gone = sum(_forget(db, table, eni_id, before) for table in TABLES)
        remove_unused_names(db)
        db.execute("INSERT INTO facts VALUES (?, 1) ON CONFLICT DO UPDATE SET value = value + 1", (FORGOTTEN,))
        db.execute("COMMIT")
        db.execute("VACUUM")  # pages may have copies of rows that were moved
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # and the log has older versions of the pages
    return gone


def _forget(db: sqlite3.Connection, table: str, eni_id: str | None, before: float | None) -> int:
    """Remove such rows of one table; return how many."""
    conditions, values = ["1"], list[object]()
    if before is not None:
        conditions.append("start + width <= ?")
        values.append(before)
    if eni_id is not None:
        found = db.execute("SELECT id FROM names WHERE text = ?", (eni_id,)).fetchone()
        columns = OF_ENI[table]
        conditions.append("(" + " OR ".join(f"{column} IN (?, ?)" for column in columns) + ")")
        values += [found[0] if found else -1, eni_id] * len(columns)
    removed: int = db.execute(f"DELETE FROM {table} WHERE {' AND '.join(conditions)}", values).rowcount
    return removed

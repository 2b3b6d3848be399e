r"""Rows of texts by name, in a table.

Owns how a row is written, and which rows are remembered as they were read. Must not know what a row means.

The rows of a name follow each other: fields with "\t" between them, and "\r" at the end. Only this module changes the
table, and it forgets what it remembers of a name whose rows change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sgdataplane.relay.spill import SpillFile
from sgdataplane.relay.table import ESCAPE, ROW, TAB, Lines, LinesLoader, read_name, write_name

REMEMBERED = 20_000  # fields, some 80 bytes each


class FactRow(NamedTuple):
    """A row of a name."""

    name: str
    fields: tuple[str, ...]


class FactRows:
    """A table of rows. One thread at a time may use it."""

    def __init__(self, file: SpillFile, table: Lines) -> None:
        self._file, self._table = file, table
        self._remembered: dict[str, tuple[str, ...]] = {}
        self._size = 0  # the number of fields that are remembered, and of names

    @staticmethod
    def of(rows: Iterable[FactRow], file: SpillFile) -> FactRows:
        """Return the table of these rows, in a file. A row that comes twice is there once."""
        loader = LinesLoader(file)
        for row in rows:
            loader.add(row.name, make_row(*row.fields))
        return FactRows(file, loader.build())

    def items(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield all names that have rows, with the fields of these. It remembers none."""
        return ((name, read_fields(rows)) for name, rows in self._table.items())

    def fields(self, name: str) -> tuple[str, ...]:
        """Return the fields of all rows of a name, one row after the other."""
        self._file.require_whole()
        found = self._remembered.get(name)
        if found is None:
            found = read_fields(self._table.get(name) or b"")
            self._remember(name, found)
        return found

    def _remember(self, name: str, fields: tuple[str, ...]) -> None:
        self._size += 1 + len(fields)
        if self._size > REMEMBERED:
            self._remembered.clear()
            self._size = 1 + len(fields)
        if self._size <= REMEMBERED:
            self._remembered[name] = fields

    def replace(self, before: set[FactRow], after: set[FactRow]) -> None:
        """Remove rows, and add others. Rows that are among both stay."""
        values = dict[str, bytes]()
        for name, fields in before - after:
            values[name] = without_row(self._rows(values, name), make_row(*fields))
        for name, fields in after - before:
            values[name] = self._rows(values, name) + make_row(*fields)
        for name in values:
            self._remembered.pop(name, None)
        self._table.change({name: value or None for name, value in values.items()})

    def _rows(self, values: dict[str, bytes], name: str) -> bytes:
        found = values.get(name)
        return found if found is not None else self._table.get(name) or b""


def make_row(*fields: str) -> bytes:
    """Return a row as it is written."""
    return TAB.join(map(write_name, fields)) + ROW


def read_fields(rows: bytes) -> tuple[str, ...]:
    """Return the fields of rows, one row after the other."""
    fields = rows.replace(ROW, TAB)
    if ESCAPE in fields:
        return (*map(read_name, fields.split(TAB)[:-1]),)
    return (*fields.decode("utf-8", "surrogatepass").split("\t")[:-1],)


def without_row(rows: bytes, row: bytes) -> bytes:
    """Return rows without one of them.

    Raises:
        ValueError: The row isn't among them.
    """
    at = (ROW + rows).index(ROW + row)
    return rows[:at] + rows[at + len(row) :]

"""What a load leaves for the next one of the same path: an object that is at the same place and says the same is kept.

Owns what is remembered. Only accepted loads are remembered, so that each problem is found each time. Is given objects
with their places. Must not know how any of it is read: tests/property/test_reload.py compares it with a load from
nothing.

A record that is kept isn't checked again if what its checks ask about other records is the same, too. What only all
records together say (addresses that are taken, quotas) is checked anew each time.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.source import SourceText

D = TypeVar("D")
R = TypeVar("R")
Place = tuple[str, str]


@dataclass
class _Kept:
    """What one load leaves for the next."""

    documents: dict[SourceText, object] = field(default_factory=dict)
    """The document that each text made."""
    objects: dict[Place, tuple[Mapping[str, object], bytes, Fields]] = field(default_factory=dict)
    """By place, an object's raw values, the same as bytes, and the object with its keys checked."""
    records: dict[int, tuple[Fields, object]] = field(default_factory=dict)
    """By the identity of the fields, the fields and what was read from them."""
    passed: dict[int, object] = field(default_factory=dict)
    """By their own identity, the records that passed their checks."""
    basis: object = None
    """What those checks asked about other records."""


class Memory:
    """What loads of one path remember."""

    def __init__(self) -> None:
        self._old, self._new = _Kept(), _Kept()

    def begin(self) -> None:
        """Start a load."""
        self._new = _Kept()

    def accept(self) -> None:
        """End a load that found nothing wrong: the next one builds on it."""
        self._old = self._new

    def document(self, source: SourceText, parse: Callable[[], D]) -> D:
        """Return the document of a text, which `parse` makes if it isn't known."""
        found = self._old.documents.get(source)
        document = parse() if found is None else cast(D, found)
        self._new.documents[source] = document
        return document

    def recall_checked(self, raw: Fields, make: Callable[[], Fields]) -> Fields:
        """Return the object whose keys have been checked, which `make` makes if it isn't known."""
        place = raw.file, raw.pointer
        old = self._old.objects.get(place)
        if old is None or old[0] is not raw.values:
            said = marshal.dumps(dict(raw.values), 0)  # here 1 is neither true nor 1.0, as it is for ==
            old = raw.values, said, old[2] if old is not None and old[1] == said else make()
        self._new.objects[place] = old
        return old[2]

    def record(self, fields: Fields, read: Callable[[], R], odd: Callable[[], object]) -> R:
        """Return the record that `read` makes, or the one of the load before.

        `odd` returns what was noted so far: a record about which something is noted is read each time.
        """
        old = self._old.records.get(id(fields))
        if old is not None:
            self._new.records[id(fields)] = old
            return cast(R, old[1])
        before = odd()
        record = read()
        if odd() == before:
            self._new.records[id(fields)] = fields, record
        return record

    def find_unchecked(self, basis: object, records: Iterable[R]) -> list[R]:
        """Return the records that haven't passed their checks yet beside the same `basis`.

        The basis is all that their checks ask about other records. It is one for all records of a load.
        """
        known = self._old.passed if self._old.basis == basis else {}
        found = {id(record): record for record in records}
        self._new.basis = basis
        self._new.passed.update(found)
        return [record for key, record in found.items() if key not in known]

"""What a load leaves for the next one of the same path: an object that is at the same place and says the same is kept.

Owns what is remembered. Only accepted loads are, so that each problem is found each time. Is given objects with their
places. Must not know how any of it is read: tests/property/test_reload.py holds it to a load from nothing.

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
    documents: dict[SourceText, object] = field(default_factory=dict)
    objects: dict[Place, tuple[Mapping[str, object], bytes, Fields]] = field(default_factory=dict)
    records: dict[int, tuple[Fields, object]] = field(default_factory=dict)  # by the identity of the fields
    passed: dict[int, object] = field(default_factory=dict)  # by their own identity
    basis: object = None


class Memory:
    """What loads of one path remember. `begin` starts a load, and `accept` ends one that found nothing wrong."""

    def __init__(self) -> None:
        self._old, self._new = _Kept(), _Kept()

    def begin(self) -> None:
        self._new = _Kept()

    def accept(self) -> None:
        self._old = self._new

    def document(self, source: SourceText, parse: Callable[[], D]) -> D:
        """The document that the text makes."""
        found = self._old.documents.get(source)
        document = parse() if found is None else cast(D, found)
        self._new.documents[source] = document
        return document

    def checked(self, raw: Fields, make: Callable[[], Fields]) -> Fields:
        """The object whose keys have been checked."""
        place = raw.file, raw.pointer
        old = self._old.objects.get(place)
        if old is None or old[0] is not raw.values:
            said = marshal.dumps(dict(raw.values), 0)  # here 1 is neither true nor 1.0, as it is for ==
            old = raw.values, said, old[2] if old is not None and old[1] == said else make()
        self._new.objects[place] = old
        return old[2]

    def record(self, fields: Fields, read: Callable[[], R], odd: Callable[[], object]) -> R:
        """The record. `odd`: what was noted so far. A record about which something is noted is read each time."""
        old = self._old.records.get(id(fields))
        if old is not None:
            self._new.records[id(fields)] = old
            return cast(R, old[1])
        before = odd()
        record = read()
        if odd() == before:
            self._new.records[id(fields)] = fields, record
        return record

    def unchecked(self, basis: object, records: Iterable[R]) -> list[R]:
        """Those that haven't passed their checks yet, beside the same `basis`: all that these ask about other records.
        It is one basis for all records of a load."""
        known = self._old.passed if self._old.basis == basis else {}
        found = {id(record): record for record in records}
        self._new.basis = basis
        self._new.passed.update(found)
        return [record for key, record in found.items() if key not in known]

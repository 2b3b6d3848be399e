"""A state that has the records of the one before where these are equal.

Owns nothing but that. Records that are the same objects are compared in no time, and stand in memory once.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import fields, replace
from typing import TypeVar

from sgdataplane.model.state import CloudState

Record = TypeVar("Record", bound=Hashable)


def sharing(state: CloudState, before: CloudState) -> CloudState:
    """An equal state; the same object as before if they are equal."""
    mine = {field.name: getattr(state, field.name) for field in fields(CloudState)}
    shared = {name: _shared(records, getattr(before, name)) for name, records in mine.items()}
    if all(shared[name] is getattr(before, name) for name in shared):
        return before
    return replace(state, **shared)


def _shared(records: tuple[Record, ...], before: tuple[Record, ...]) -> tuple[Record, ...]:
    """Records of the same place or id are compared; of others there is nothing to share."""
    known = {record_id(record): record for record in before}
    found = tuple(_either(record, known.get(record_id(record))) for record in records)
    is_same = len(found) == len(before) and all(one is other for one, other in zip(found, before, strict=True))
    return before if is_same else found


def _either(record: Record, known: Record | None) -> Record:
    return known if known is not None and known == record else record


def record_id(record: object) -> object:
    """Of any record of a state: its first field, except that a group's rules follow it."""
    return getattr(record, fields(record)[0].name)  # type: ignore[arg-type]

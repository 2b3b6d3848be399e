"""The native format (state-format.md, section A): a document's value -> Sections.

Owns its nesting, and the refusal of unknown keys. Is given parsed documents. Must not know what values mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from sgdataplane.errors import Where
from sgdataplane.policy.findings import Finding
from sgdataplane.statefile.document import Document
from sgdataplane.statefile.fields import Fields, escape
from sgdataplane.statefile.keys import INNER_KEYS, KEYS, TOP_KEYS, UNKNOWN_GROUPS, VERSION, Keys, nearest
from sgdataplane.statefile.memory import Memory
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.sections import Sections

SINGLE = ("connection_tracking", "trial")  # the keys under which there is one object, and no list
OUTER = {outer for outer, _ in INNER_KEYS}


def add_native(documents: Iterable[Document], sections: Sections, problems: Problems) -> list[Finding]:
    """Add the documents' objects to `sections`, which merges them.

    It has no findings: what is odd in this format is a problem.
    """
    for document in documents:
        add_document(document, sections, problems)
    return []


def add_document(document: Document, sections: Sections, problems: Problems) -> None:
    """Add one document's objects to `sections`, and check its top-level keys."""
    top = Fields(document.file, "", document.mapping)
    check_keys(top, TOP_KEYS, problems)
    if not top.values:
        problems.add(top.where(), "InvalidDocument.Empty", "the file is empty", expected="a state")
    value = top.values.get("version", VERSION)
    if value != VERSION or type(value) is not int:  # true is an int to Python, and 1.0 equals 1
        where = top.where("version")
        message = "this version of the format is not known"
        problems.add(where, "InvalidDocument.UnsupportedVersion", message, value=value, expected=str(VERSION))
    for section in KEYS:
        sections.expect(section, check_objects(children(top, section, problems), section, sections.memory, problems))
    sections.unknown_groups.update(texts(top, UNKNOWN_GROUPS, problems))


def check_objects(found: Iterable[Fields], section: str, memory: Memory, problems: Problems) -> Iterator[Fields]:
    """Yield the objects of a section with their keys checked."""
    for fields in found:
        yield memory.recall_checked(fields, partial(as_object, fields, section, problems))


def as_object(fields: Fields, section: str, problems: Problems) -> Fields:
    """Return the object with its keys checked, and with the objects inside it as Fields."""
    check_keys(fields, KEYS[section], problems)
    return with_inner(fields, section, problems)


def with_inner(fields: Fields, parent: str, problems: Problems) -> Fields:
    """Return the object with the objects inside it as Fields. `parent` is the section or the key that it is under."""
    values = dict(fields.values)
    for (outer, key), keys in INNER_KEYS.items():
        if outer == parent and key in values:
            values[key] = inner_objects(fields, key, keys, problems)
    return Fields(fields.file, fields.pointer, values)


def inner_objects(fields: Fields, key: str, keys: Keys, problems: Problems) -> tuple[Fields, ...]:
    """Return the objects inside an object, under one key, with their keys checked."""
    if key in SINGLE:
        value = fields.values[key]
        if not isinstance(value, dict):
            refuse_type(fields.where(key), value, "a mapping", problems)
            return ()
        found: tuple[Fields, ...] = (Fields(fields.file, f"{fields.pointer}/{key}", value),)
    else:
        found = tuple(children(fields, key, problems))
    for child in found:
        check_keys(child, keys, problems)
    return tuple(with_inner(child, key, problems) for child in found) if key in OUTER else found


def children(fields: Fields, key: str, problems: Problems) -> Iterable[Fields]:
    """Yield the mappings of a list; note a problem for everything else in it."""
    values = fields.values.get(key, [])
    if not isinstance(values, list):
        refuse_type(fields.where(key), values, "a list of mappings", problems)
        return
    if not problems.takes(values, partial(fields.where, key)):
        return
    for index, value in enumerate(values):
        if isinstance(value, dict):
            yield Fields(fields.file, f"{fields.pointer}/{key}/{index}", value)
        else:
            refuse_type(fields.where(key, index), value, "a mapping", problems)


def texts(fields: Fields, key: str, problems: Problems) -> list[str]:
    """Return a list of texts; an empty one and a problem if it is something else."""
    values = fields.values.get(key, [])
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return values
    refuse_type(fields.where(key), values, "a list of ids", problems)
    return []


def refuse_type(where: Where, value: object, expected: str, problems: Problems) -> None:
    """Note that a value has the wrong type."""
    problems.add(where, "InvalidDocument.WrongType", "the value has the wrong type", value=value, expected=expected)


def check_keys(fields: Fields, known: Keys, problems: Problems) -> None:
    """Refuse every unknown key, and name the nearest known one."""
    for key in fields.values:
        if key not in known:
            near = nearest(key, known)
            expected = f"{near}, which is the nearest known key" if near else "one of " + ", ".join(known)
            where = fields.where(escape(key))
            problems.add(where, "InvalidDocument.UnknownKey", "this key is unknown", value=key, expected=expected)

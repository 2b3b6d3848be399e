"""Which store a text names: `sqlite:FILE`, or FILE alone.

Owns the grammar of `--store`. Must not know how a store works.
"""

from __future__ import annotations

import re
from pathlib import Path

from sgdataplane.control.sqlite import SqliteStore
from sgdataplane.control.store import Store
from sgdataplane.errors import Problem, StateFileError, Where

SQLITE = "sqlite:"
OTHER = re.compile(r"[a-z][a-z0-9+.-]*:")
EXPECTED = "sqlite:FILE or FILE"


def open_store(text: str, *, create: bool = True) -> Store:
    """`create`: whether to make it if it isn't there. StateFileError if the text names no store, or the file is none;
    UnavailableError."""
    return SqliteStore(file_of(text), create=create)


def file_of(text: str) -> Path:
    """The file of a store that is one. StateFileError."""
    name = text.removeprefix(SQLITE)
    if text.startswith("etcd:"):
        raise _refused("Unsupported", "this version can't use etcd", text)
    if name == text and OTHER.match(text):
        raise _refused("Unsupported", "there is no such kind of store", text)
    if not name:
        raise _refused("Format", "the store has no file", text)
    return Path(name)


def key_file_of(text: str) -> Path:
    """Where the key lies that seals the secrets in a store, unless the user says otherwise: beside the store's file."""
    file = file_of(text)
    return file.with_name(f"{file.name}.key")


def _refused(code: str, message: str, text: str) -> StateFileError:
    return StateFileError((Problem(Where(), f"InvalidStore.{code}", message, text, EXPECTED),))

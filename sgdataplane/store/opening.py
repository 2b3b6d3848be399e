"""The texts that name a store: `sqlite:FILE`, FILE alone, or `etcd://HOST:PORT,...`.

Owns the grammar of `--store`. Must not know how a store works.
"""

from __future__ import annotations

import re
from pathlib import Path

from sgdataplane.errors import ExtraError, Problem, StateFileError, Where
from sgdataplane.settings import ValueKind
from sgdataplane.store.etcd.access import ETCD, EtcdAccess
from sgdataplane.store.interface import Store

SQLITE = "sqlite:"
OTHER = re.compile(r"[a-z][a-z0-9+.-]*:")
EXPECTED = "sqlite:FILE, FILE or etcd://HOST:PORT,..."


def open_store(text: str, *, create: bool = True, private: bool = True) -> Store:
    """Open the store that a text names.

    Args:
        text: What `--store` gives.
        create: Whether to make a file if it isn't there. In etcd there is always a store, perhaps an empty one.
        private: Whether access keys are read. In etcd, a role can do without them.

    Raises:
        StateFileError: The text names no store, or what it names is none.
        UnavailableError: It can't be reached.
        ExtraError: The packages for etcd aren't installed.
    """
    if not text.startswith(ETCD):
        from sgdataplane.store.sqlite.store import SqliteStore  # noqa: PLC0415  (a relay of etcd's needs none of it)

        return SqliteStore(file_of(text), create=create)
    access = EtcdAccess.of(text)
    try:
        from sgdataplane.store.etcd.store import EtcdStore  # noqa: PLC0415  (an extra)
    except ModuleNotFoundError as error:
        raise ExtraError((error.name or "").partition(".")[0], "etcd") from error
    return EtcdStore(access, private=private)


def file_of(text: str) -> Path:
    """Return the file of a store that is one.

    Raises:
        StateFileError: The store isn't in a file.
    """
    name = text.removeprefix(SQLITE)
    if text.startswith(ETCD):
        message, expected = "a store in etcd isn't a file: etcd makes its own copies", "etcdctl snapshot save"
        raise _make_refusal("Unsupported", message, text, expected)
    if name == text and OTHER.match(text):
        raise _make_refusal("Unsupported", "there is no such kind of store", text)
    if not name:
        raise _make_refusal("Format", "the store has no file", text)
    return Path(name)


def key_file_of(text: str) -> Path:
    """Return where the key lies by default that seals the secrets in a store: beside the store's file.

    Raises:
        StateFileError: The store isn't in a file.
    """
    if text.startswith(ETCD):
        raise _make_refusal("KeyFile", "a store in etcd has no key file beside it", text, "--key-file FILE")
    file = file_of(text)
    return file.with_name(f"{file.name}.key")


def _make_refusal(code: str, message: str, text: str, expected: str = EXPECTED) -> StateFileError:
    return StateFileError((Problem(Where(), f"InvalidStore.{code}", message, text, expected),))


def _store(value: object) -> str | None:
    if not isinstance(value, str) or not value.removeprefix(SQLITE).startswith(("/", ETCD)):
        return None
    try:
        EtcdAccess.of(value) if value.startswith(ETCD) else file_of(value)
    except StateFileError:
        return None
    return value


STORE = ValueKind(f"{EXPECTED}; FILE from /, and etcd on loopback or with ?ca=FILE", _store)

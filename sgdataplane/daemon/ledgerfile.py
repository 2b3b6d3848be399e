"""The ledger on disk: counters.json in the state directory.

Owns that file: its form, its limits, and when it is refused. Is given a ledger. Must not know what is counted.

    {"version": 1, "boot": "<boot id>",
     "scopes": {"<scope>": {"<counter>": [packets, bytes, since, first, last]}},
     "bases": {"<cookie>": ["<scope>", {"<counter>": ["<made>", packets, bytes]}]}}

A file that isn't a complete ledger is ignored, and a new ledger begins. Counts are only information for people: a full
disk or an unwritable folder stops nothing from being enforced. Bases are valid for one boot.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import TypeVar

from sgdataplane.daemon.statefolder import COUNTERS, make_state_folder
from sgdataplane.errors import HostError
from sgdataplane.host.files import Survives, replace_file
from sgdataplane.host.identity import boot_id
from sgdataplane.host.private import words_of
from sgdataplane.nft.counters import Counted
from sgdataplane.observe.ledger import Base, Ledger, Sum

T = TypeVar("T")
VERSION = 1
MAX_BYTES = 64 << 20


class LedgerFile:
    """`error`: why the ledger isn't on disk, or why the file there was refused; "" if all is well."""

    def __init__(self, folder: Path, boot: str | None = None) -> None:
        self.path = folder / COUNTERS
        self.error = ""
        self._boot = boot_id() if boot is None else boot

    def load(self) -> Ledger:
        """The ledger on disk; a new one, with `error` set, if it can't be read."""
        try:
            found = self.path.stat()
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
                raise ValueError(f"it isn't a file of at most {MAX_BYTES} bytes")
            return _decoded(json.loads(self.path.read_bytes()), self._boot)
        except FileNotFoundError:
            return Ledger()
        except (OSError, ValueError, TypeError, RecursionError, MemoryError) as error:
            self.error = f"{self.path}: the counts in it can't be read, so counting begins anew ({_words(error)})"
            return Ledger()

    def store(self, ledger: Ledger) -> None:
        """Write it in one step. If that fails, the old file stays. After a loss of power an older ledger is good
        enough, but an empty file would lose all counts."""
        text = json.dumps(_encoded(ledger, self._boot), separators=(",", ":"))
        try:
            make_state_folder(self.path.parent)
            replace_file(self.path, text.encode("ascii"), Survives.THE_MACHINE, mode=0o600)
        except (HostError, OSError) as error:
            self.error = f"{self.path}: {words_of(error) if isinstance(error, OSError) else error}"
            return
        self.error = ""


def _encoded(ledger: Ledger, boot: str) -> dict[str, object]:
    return {
        "version": VERSION,
        "boot": boot,
        "scopes": {
            scope: {name: [s.packets, s.bytes, s.since, s.first, s.last] for name, s in sums.items()}
            for scope, sums in ledger.scopes.items()
        },
        "bases": {
            str(cookie): [base.scope, {n: [c.made, c.packets, c.bytes] for n, c in base.counters.items() if c.packets}]
            for cookie, base in ledger.bases.items()
        },
    }


def _decoded(document: object, boot: str) -> Ledger:
    """The ledger in a document. ValueError or TypeError if it isn't one."""
    found = _as(dict, document)
    if found.keys() != {"version", "boot", "scopes", "bases"} or found["version"] != VERSION:
        raise ValueError("it has another version, or no counts")
    scopes = {
        scope: {name: _sum(*_as(list, row)) for name, row in _as(dict, sums).items()}
        for scope, sums in _as(dict, found["scopes"]).items()
    }
    bases = {int(cookie): _base(*_as(list, row)) for cookie, row in _as(dict, found["bases"]).items()}
    return Ledger(scopes, bases if boot and found["boot"] == boot else {})


def _sum(packets: object, size: object, since: object, first: object, last: object) -> Sum:
    return Sum(_count(packets), _count(size), _as(str, since), _as(str, first), _as(str, last))


def _base(scope: object, counters: object) -> Base:
    return Base(_as(str, scope), {name: _counted(*_as(list, row)) for name, row in _as(dict, counters).items()})


def _counted(made: object, packets: object, size: object) -> Counted:
    return Counted(_count(packets), _count(size), _as(str, made))


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 80:  # a bool is an int, too
        raise ValueError(f"{value!r:.40} is not a count")
    return value


def _as(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.40} is not a {kind.__name__}")
    return value


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"

"""The ledger on disk: counters.json in the state directory.

Owns that file: its limits, and when it is refused. Its form is in observe/ledgertext.py. Its input is a ledger. Must
not know what is counted.

A file that isn't a complete ledger is ignored, and a new ledger begins. Counts are only information for people: a full
disk or an unwritable folder stops nothing from being enforced. Bases are valid for one boot.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path

from sgdataplane.daemon.statefolder import COUNTERS, make_state_folder
from sgdataplane.errors import HostError
from sgdataplane.host.files import Survives, replace_file
from sgdataplane.host.identity import boot_id
from sgdataplane.host.private import words_of
from sgdataplane.observe.ledger import Ledger
from sgdataplane.observe.ledgertext import ledger_as_json, ledger_of

MAX_BYTES = 64 << 20


class LedgerFile:
    """The file of the ledger.

    `error` says why the ledger isn't on disk, or why the file there was refused; "" if all is well.
    """

    def __init__(self, folder: Path, boot: str | None = None) -> None:
        self.path = folder / COUNTERS
        self.error = ""
        self._boot = boot_id() if boot is None else boot

    def load(self) -> Ledger:
        """Return the ledger on disk; a new one, with `error` set, if it can't be read."""
        try:
            found = self.path.stat()
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
                raise ValueError(f"it isn't a file of at most {MAX_BYTES} bytes")
            return ledger_of(json.loads(self.path.read_bytes()), self._boot)
        except FileNotFoundError:
            return Ledger()
        except (OSError, ValueError, TypeError, RecursionError, MemoryError) as error:
            self.error = f"{self.path}: the counts in it can't be read, so counting begins anew ({_words(error)})"
            return Ledger()

    def store(self, ledger: Ledger) -> None:
        """Write the ledger in one step. If that fails, the old file stays.

        After a loss of power an older ledger is good enough, but an empty file would lose all counts.
        """
        text = json.dumps(ledger_as_json(ledger, self._boot), separators=(",", ":"))
        try:
            make_state_folder(self.path.parent)
            replace_file(self.path, text.encode("ascii"), Survives.THE_MACHINE, mode=0o600)
        except (HostError, OSError) as error:
            self.error = f"{self.path}: {words_of(error) if isinstance(error, OSError) else error}"
            return
        self.error = ""


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"

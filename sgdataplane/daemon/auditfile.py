"""The latest end of an audit that has passed, on disk: audit-ended in the state directory, one time in a line.

Owns that file: its form, and when it is refused. Must not know which ENIs are audited.

With it, an ENI whose audit has ended isn't audited again because the clock has gone back, also after a restart of the
agent or of the machine. A file that holds anything else is reported and replaced.
"""

from __future__ import annotations

import logging
import stat
from pathlib import Path

from sgdataplane.daemon.logs import event
from sgdataplane.daemon.statefolder import AUDIT_ENDED, make_state_folder
from sgdataplane.errors import HostError
from sgdataplane.host.files import Survives, replace_file
from sgdataplane.host.private import words_of
from sgdataplane.model.modes import parse_until

MAX_BYTES = 64


class AuditEndFile:
    """The file that keeps which audits have ended. `error` says why it isn't as it should be; "" if it is."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / AUDIT_ENDED
        self.error = ""
        self._stored: str | None = None

    def load(self) -> str:
        """Return the time that is kept (modes.py); "" if there is none, or it can't be read."""
        try:
            found = self.path.stat()
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
                raise ValueError(f"it isn't a file of at most {MAX_BYTES} bytes")
            self._stored = parse_until(self.path.read_bytes().decode("ascii").removesuffix("\n"))
        except FileNotFoundError:
            self._stored = ""
        except (OSError, ValueError) as error:
            event(logging.WARNING, "audit-end-unreadable", file=self.path, error=error)
        return self._stored or ""

    def store(self, ended: str) -> None:
        """Keep this time from now on, unless it is kept already.

        It has to survive a loss of power: without it, the next start may audit what is enforced now.
        """
        if ended == self._stored:
            return
        try:
            make_state_folder(self.path.parent)
            if ended:
                replace_file(self.path, f"{ended}\n".encode(), Survives.AS_NEW, mode=0o600)
            else:
                self.path.unlink(missing_ok=True)
        except (HostError, OSError) as error:
            self.error = f"{self.path}: {words_of(error)}" if isinstance(error, OSError) else str(error)
            return
        self._stored, self.error = ended, ""

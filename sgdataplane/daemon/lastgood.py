"""The last good policy on disk: read at start if the state can't be.

Owns that file: `last-good.yaml`, a native state. Is given states. Must not know where they come from.

A policy older than the last good one may open what that one closed. So where the new one can't be written, the old one
is removed, and a start without a readable state is closed then.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sgdataplane.errors import SgDataplaneError
from sgdataplane.host.files import Survives, replace_file
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import dump_native, load

NAME = "last-good.yaml"


class LastGood:
    """`error` says why the last good policy isn't on disk, "" if it is or there is none."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.error = ""
        self._stored: CloudState | None = None

    def load(self) -> CloudState | None:
        """The policy, or None if there is none that can be read; `error` says why not."""
        if not self.path.exists():
            return None
        try:
            self._stored = load(self.path, profile="unlimited").state
        except SgDataplaneError as error:
            self.error = str(error)
        return self._stored

    def store(self, state: CloudState) -> None:
        """Put it on disk in one step, unless it is there. After a loss of power it has to be this one, as an older one
        may be more open."""
        if state == self._stored:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self.path, dump_native(state).encode(), Survives.AS_NEW, mode=0o600)
        except OSError as error:
            self.error = f"{self.path}: {error.strerror or error}"
            self._stored = None
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            return
        self._stored, self.error = state, ""

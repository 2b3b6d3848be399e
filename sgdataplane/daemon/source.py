"""The sources of the agent's policy: the state's file or folder, and the last good policy on disk.

Owns what is watched and read, and the file `last-good.yaml`, a native state. Must not know cycles, or what a state is
for.

The last good policy is read at a start at which the state can't be read. An older policy than the last good one may
allow what that one closed. So if the new one can't be written, the old one is removed, and such a start is closed.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sgdataplane.daemon.pastpolicies import WrittenState
from sgdataplane.daemon.statefolder import LAST_GOOD, make_state_folder
from sgdataplane.errors import HostError, SgDataplaneError
from sgdataplane.host.files import Survives, replace_file
from sgdataplane.host.private import words_of
from sgdataplane.host.watch import PathWatch
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import Memory, SoleOwner, dump_native, load, load_owned

ROOT = 0


class Readable(Protocol):
    """Something that has a state."""

    @property
    def generation(self) -> str:
        """The name of the folder that a link led to when it was read last, also if that was refused.

        It is "" if the state isn't behind a link, or the link was turned meanwhile.
        """

    def read(self, profile: str) -> CloudState:
        """Read and check the state. `profile` names its quotas.

        Raises:
            SgDataplaneError: All that is wrong in it, or why it can't be read. The previous policy stays then.
        """


class StateSource(Readable, Protocol):
    """A source for a selector. It misses no change between two reads."""

    path: Path  # where the state is; a reloaded configuration may set another one, which the next read follows
    owner: int  # the user who wrote what was read last, or root

    def fileno(self) -> int:
        """Return the descriptor that is readable when the state may have changed."""

    def close(self) -> None:
        """End watching."""

    def poll(self) -> bool:
        """Receive events; return whether the state may have changed."""


class WatchedFiles:
    """A file or a folder of files, watched by inotify.

    It doesn't matter in which way they are replaced, or whether they exist. The folder may be a link that is turned to
    the next generation; then one whole generation is read (statefile/source.py). Nobody but root and one user may be
    able to change any of it (statefile/owner.py).
    """

    def __init__(self, path: Path) -> None:
        self.path, self.generation, self.owner = path, "", ROOT
        self._memory, self._watch = Memory(), PathWatch()

    def fileno(self) -> int:
        """Return inotify's descriptor."""
        return self._watch.fileno()

    def close(self) -> None:
        """End watching."""
        self._watch.close()

    def poll(self) -> bool:
        """Receive events; return whether the state may have changed. The next read follows where the path leads."""
        return bool(self._watch.read())

    def read(self, profile: str) -> CloudState:
        """Read and check the state, and note its owner and generation."""
        self._watch.follow((self.path,))
        before, owner = _generation_of(self.path), SoleOwner()
        try:
            return load_owned(self.path, owner, profile=profile, memory=self._memory).state
        finally:
            self.owner = owner.user
            self.generation = before if before == _generation_of(self.path) else ""


def _generation_of(path: Path) -> str:
    """Return the name of the folder that a link leads to; "" if it is no link."""
    try:
        return path.readlink().name
    except OSError:
        return ""


def source_of(path: Path) -> StateSource:
    """Return the source that the agent reads its state from."""
    return WatchedFiles(path)


class LastGood:
    """The last good policy on disk. `error` says why it isn't there; "" if it is, or there is none."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LAST_GOOD
        self.error = self._digest = ""
        self._stored: CloudState | None = None

    def load(self) -> CloudState | None:
        """Return the policy; None if there is none, or it can't be read and `error` says why."""
        if not self.path.exists():
            return None
        try:
            self._stored = load(self.path, profile="unlimited").state
        except SgDataplaneError as error:
            self.error = str(error)
        return self._stored

    def is_stored(self, state: CloudState) -> bool:
        """Whether this state is the one on disk."""
        return state == self._stored

    def find_written(self, state: CloudState) -> WrittenState | None:
        """Return the file, if it has been written here and has this state."""
        return WrittenState(self.path, self._digest) if self._digest and self.is_stored(state) else None

    def store(self, state: CloudState) -> None:
        """Write a state in one step, unless it is there already.

        It has to survive a loss of power, as an older policy may allow more.
        """
        if self.is_stored(state):
            return
        try:
            make_state_folder(self.path.parent)
            text = dump_native(state).encode()
            replace_file(self.path, text, Survives.AS_NEW, mode=0o600)
        except (HostError, OSError) as error:
            self.error = f"{self.path}: {words_of(error)}" if isinstance(error, OSError) else str(error)
            self._stored, self._digest = None, ""
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            return
        self._stored, self._digest, self.error = state, hashlib.sha256(text).hexdigest(), ""

"""Where the agent's policy comes from: the state's file or folder, and the last good policy on disk.

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
    """Something that has a state. `generation`: which folder a link led to when it was read last, also if that was
    refused; "" if the state isn't behind a link, or the link was turned meanwhile."""

    @property
    def generation(self) -> str: ...

    def read(self, profile: str) -> CloudState:
        """Read and check the state. SgDataplaneError: all that is wrong in it, or why it can't be read; then the
        previous policy stays. `profile`: of quotas."""


class StateSource(Readable, Protocol):
    """For a selector. It misses no change between two reads. `path`: where the state is; a reloaded configuration may
    set another one, and the next read follows it. `owner`: the user who wrote what was read last, or root."""

    path: Path
    owner: int

    def fileno(self) -> int: ...

    def close(self) -> None: ...

    def changed(self) -> bool:
        """Receive events; return whether the state may have changed."""


class WatchedFiles:
    """A file or a folder of files, watched by inotify whichever way they are replaced, and also while they don't exist.
    The folder may be a link that is turned to the next generation; then one whole generation is read
    (statefile/source.py). Nobody but root and one user may be able to change any of it (statefile/owner.py)."""

    def __init__(self, path: Path) -> None:
        self.path, self.generation, self.owner = path, "", ROOT
        self._memory, self._watch = Memory(), PathWatch()

    def fileno(self) -> int:
        return self._watch.fileno()

    def close(self) -> None:
        self._watch.close()

    def changed(self) -> bool:
        is_changed = bool(self._watch.read())
        if is_changed:
            self._watch.follow((self.path,))
        return is_changed

    def read(self, profile: str) -> CloudState:
        self._watch.follow((self.path,))
        before, owner = _generation_of(self.path), SoleOwner()
        try:
            return load_owned(self.path, owner, profile=profile, memory=self._memory).state
        finally:
            self.owner = owner.user
            self.generation = before if before == _generation_of(self.path) else ""


def _generation_of(path: Path) -> str:
    """The name of the folder that a link leads to."""
    try:
        return path.readlink().name
    except OSError:
        return ""


def source_of(path: Path) -> StateSource:
    """What the agent reads its state from."""
    return WatchedFiles(path)


class LastGood:
    """The last good policy on disk. `error`: why it isn't there; "" if it is, or there is none."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LAST_GOOD
        self.error = self._digest = ""
        self._stored: CloudState | None = None

    def load(self) -> CloudState | None:
        """The policy; None if there is none, or it can't be read and `error` says why."""
        if not self.path.exists():
            return None
        try:
            self._stored = load(self.path, profile="unlimited").state
        except SgDataplaneError as error:
            self.error = str(error)
        return self._stored

    def is_stored(self, state: CloudState) -> bool:
        return state == self._stored

    def written(self, state: CloudState) -> WrittenState | None:
        """The file, if it has been written here and has this state."""
        return WrittenState(self.path, self._digest) if self._digest and self.is_stored(state) else None

    def store(self, state: CloudState) -> None:
        """Write it in one step, unless it is there already. It has to survive a loss of power, as an older policy may
        allow more."""
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

"""Where the agent's state comes from: the one thing that the agent knows of it.

Owns what is watched and what is read. Must not know cycles, nor what a state is for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sgdataplane.host.watch import PathWatch
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import Memory, load


class Readable(Protocol):
    """Who has a state."""

    def read(self, profile: str) -> CloudState:
        """The checked state of now. SgDataplaneError: all that is wrong in it, or why it can't be read; the policy
        before stays then. `profile`: of quotas."""


class StateSource(Readable, Protocol):
    """For a selector. Between two reads it misses no change."""

    def fileno(self) -> int: ...

    def changed(self) -> bool:
        """Takes what was told; whether the state may be another one now."""


class StateFiles:
    """A file, or a folder of them. The folder may be behind a link, which is turned to the next generation: then one
    whole generation is read (statefile/source.py)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._memory = Memory()

    def read(self, profile: str) -> CloudState:
        return load(self.path, profile=profile, memory=self._memory).state


class WatchedFiles(StateFiles):
    """The same, followed by inotify, by whatever way they are replaced; and while they aren't there, too."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._watch = PathWatch()

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
        return super().read(profile)

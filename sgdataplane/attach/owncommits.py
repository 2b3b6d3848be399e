"""The commits of our own processes, so that the agent doesn't take them for somebody else's.

Owns the file `commits` beside the bindings, one line for a namespace and process. Must not know what was committed.

    COOKIE PROCESS BEFORE AFTER    the process has made commits in that namespace, after the generation BEFORE and up to
                                   AFTER, and nobody else with its number can have made one in between

A name of a program can be forged, and a number of a process is used again. But the kernel counts the commits of a
namespace, and while a process lives nobody else has its number. So a commit is ours if its namespace, its process and
its generation all fit. Only root of the machine can write the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sgdataplane.attach.registry import COMMITS
from sgdataplane.enforce import generation_and_process
from sgdataplane.errors import SgDataplaneError
from sgdataplane.host.identity import identity_of

MAX_BYTES = 1 << 18  # some 6,000 lines; then the older half is forgotten
GENERATIONS = 1 << 32


@dataclass(frozen=True, slots=True)
class OwnCommits:
    """Commits of one process of ours in one namespace."""

    cookie: int  # the namespace's
    process: int  # its id, as commits have it
    before: int  # the generation before the first commit
    after: int  # the generation after the last one

    def include(self, cookie: int, process: int, generation: int) -> bool:
        """Whether that commit is one of them."""
        is_between = 0 < (generation - self.before) % GENERATIONS <= (self.after - self.before) % GENERATIONS
        return (cookie, process) == (self.cookie, self.process) and is_between

    def __str__(self) -> str:
        return f"{self.cookie} {self.process} {self.before} {self.after}\n"


class CommitFile:
    """The file in this folder, which only we can use."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / COMMITS

    @contextmanager
    def note_commits(self, place: str) -> Iterator[None]:
        """Note what this thread commits in that namespace in the block. The caller holds the registry's lock.

        If it can't be noted, the commit may be reported as somebody else's, and nothing worse.
        """
        before = _now(place)
        try:
            yield
        finally:
            after = _now(place)
            if before is not None and after is not None and before[0] != after[0]:
                with suppress(SgDataplaneError, OSError):
                    self._append(OwnCommits(identity_of(place).cookie, after[1], before[0], after[0]))

    def _append(self, made: OwnCommits) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(self.path, flags, 0o600), "r+", encoding="ascii") as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                kept = file.read()[-MAX_BYTES // 2 :].partition("\n")[2]
                file.truncate(0)
                file.write(kept)
            file.write(str(made))

    def load(self) -> tuple[OwnCommits, ...]:
        """Return all that is noted. What can't be read counts as not ours."""
        try:
            with open(os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), encoding="ascii") as file:
                lines = file.read(2 * MAX_BYTES).splitlines()
        except (OSError, UnicodeDecodeError):
            return ()
        return tuple(made for made in map(_read, lines) if made is not None)


def _read(line: str) -> OwnCommits | None:
    with suppress(ValueError):
        cookie, process, before, after = map(int, line.split())
        return OwnCommits(cookie, process, before, after)
    return None  # a process was killed while it wrote it


def _now(place: str) -> tuple[int, int] | None:
    with suppress(SgDataplaneError, OSError):
        return generation_and_process(place)
    return None

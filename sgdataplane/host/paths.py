"""Which of some paths changed: files and folders, whatever way they are written (in place, by rename, by a link that
is turned to another place), and also while they or their folders aren't there.

Owns what is watched, by inotify. Is given paths. Must not know what is in them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from inotify_simple import Event, INotify, flags

MASK: int = (
    flags.CLOSE_WRITE
    | flags.CREATE
    | flags.MOVED_TO
    | flags.MOVED_FROM
    | flags.DELETE
    | flags.ATTRIB
    | flags.DELETE_SELF
    | flags.MOVE_SELF
)
FOLDER_ITSELF = flags.DELETE_SELF | flags.MOVE_SELF | flags.IGNORED | flags.UNMOUNT
MAX_LINKS = 40  # as the kernel follows


class PathWatch:
    """For a selector. Call `follow` before reading what is at the paths: what changes afterwards is told."""

    def __init__(self) -> None:
        self._inotify = INotify(nonblocking=True)
        self._wanted: dict[int, dict[str | None, set[Path]]] = {}  # watch -> name in the folder (None: any) -> paths

    def fileno(self) -> int:
        return int(self._inotify.fileno())

    def close(self) -> None:
        self._inotify.close()

    def follow(self, paths: Iterable[Path]) -> None:
        """These from now on, and no others."""
        wanted: dict[int, dict[str | None, set[Path]]] = {}
        for path in paths:
            for folder, name in places(path):
                with suppress(OSError):  # it went meanwhile: its folder is watched as well
                    watch: int = self._inotify.add_watch(folder, MASK)
                    wanted.setdefault(watch, {}).setdefault(name, set()).add(path)
        for watch in self._wanted.keys() - wanted.keys():
            with suppress(OSError):
                self._inotify.rm_watch(watch)
        self._wanted = wanted

    def read(self) -> frozenset[Path]:
        """Those that have changed, or may have."""
        changed: set[Path] = set()
        for event in self._events():
            if event.mask & flags.Q_OVERFLOW:
                changed.update(path for names in self._wanted.values() for found in names.values() for path in found)
            names = self._wanted.get(event.wd, {})
            if event.mask & FOLDER_ITSELF:
                changed.update(path for found in names.values() for path in found)
            changed |= names.get(None, set()) | names.get(event.name, set())
        return frozenset(changed)

    def _events(self) -> Iterator[Event]:
        try:
            yield from self._inotify.read(timeout=0)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise


def places(path: Path) -> Iterator[tuple[Path, str | None]]:
    """Where to look, and for what name there: all folders on the way to the path, through links, that are there; and
    all that is in it, if it is a folder."""
    todo, links = [path.absolute()], 0
    while todo:
        target = todo.pop()
        for part in (*reversed(target.parents), target):
            if part == part.parent:
                continue
            if part.parent.is_dir():
                yield part.parent, part.name
            aim = _aim(part)
            if aim is not None and links < MAX_LINKS:
                links += 1
                todo.append(part.parent / aim / target.relative_to(part))
                break
        else:
            if target.is_dir():
                yield target, None


def _aim(path: Path) -> Path | None:
    """Where a link leads; None if it is no link, or none any more."""
    try:
        return path.readlink()
    except OSError:
        return None

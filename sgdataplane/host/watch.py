"""Changes in the file system: files and folders (by inotify), and names of network namespaces (by mounts).

Owns what is watched. Its input is paths. Must not know what is in them.

A path is followed whichever way it is written (in place, by rename, by a link that is turned to another place), and
also while it or its folders don't exist. A file under /run/netns becomes a namespace's name when it is mounted over.
inotify reports only the file, which comes before that, so names are watched through the kernel's list of mounts.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from inotify_simple import Event, INotify, flags

from sgdataplane.host import netns

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
    """A watch of paths for a selector.

    Call `follow` before you read what is at the paths; then no later change is missed.
    """

    def __init__(self) -> None:
        self._inotify = INotify(nonblocking=True)
        self._wanted: dict[int, dict[str | None, set[Path]]] = {}  # watch -> name in the folder (None: any) -> paths

    def fileno(self) -> int:
        """Return inotify's descriptor."""
        return int(self._inotify.fileno())

    def close(self) -> None:
        """End watching."""
        self._inotify.close()

    def follow(self, paths: Iterable[Path]) -> None:
        """Watch these paths from now on, and no others."""
        wanted: dict[int, dict[str | None, set[Path]]] = {}
        for path in paths:
            for folder, name in places(path):
                with suppress(OSError):  # it has gone meanwhile; its folder is watched, too
                    watch: int = self._inotify.add_watch(folder, MASK)
                    wanted.setdefault(watch, {}).setdefault(name, set()).add(path)
        for watch in self._wanted.keys() - wanted.keys():
            with suppress(OSError):
                self._inotify.rm_watch(watch)
        self._wanted = wanted

    def read(self) -> frozenset[Path]:
        """Return the paths that have changed, or may have."""
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
    """Yield which folders to watch, and for which name in each; None for anything in it.

    These are all existing folders on the way to the path, through links. If the path is a folder, it is watched for
    anything in it.
    """
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
    """Return where a link leads; None if it isn't a link (any more)."""
    try:
        return path.readlink()
    except OSError:
        return None


MOUNTS = "/proc/self/mountinfo"


class NamesWatch:
    """A watch of names for a selector. Every mount and unmount on the machine wakes it; most of them change no name."""

    def __init__(self) -> None:
        self._mounts = os.open(MOUNTS, os.O_RDONLY | os.O_CLOEXEC)
        self._epoll = select.epoll()  # selectors don't offer EPOLLPRI, and the file is always readable
        self._epoll.register(self._mounts, select.EPOLLPRI)
        self._known = netns.list_bound_names()

    def fileno(self) -> int:
        """Return the descriptor that is readable when mounts have changed."""
        return self._epoll.fileno()

    def close(self) -> None:
        """End watching."""
        self._epoll.close()
        os.close(self._mounts)

    def take_changes(self) -> frozenset[str]:
        """Return the names that have come or gone since the last call, or have another namespace behind them.

        A new namespace with the inode of one that has just ended goes unnoticed here; events.py reports that end.
        """
        self._epoll.poll(0)
        previous, self._known = self._known, netns.list_bound_names()
        return frozenset(name for name, _ in self._known.items() ^ previous.items())

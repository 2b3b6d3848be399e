"""Folders and locks that only their owner can use.

Owns how they are made, tightened or refused. Must not know what they are for.

A process that can open a file or a folder can lock it (flock(2) asks for no right to write), and one that can write to
a folder can put a link in a file's place. So a lock is a file of its own with mode 0600, in a folder with mode 0700.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from sgdataplane.errors import HostError

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
OTHERS, OTHERS_WRITE = 0o077, 0o022
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # a new file can't be made; what is there can be used
POLL_S = 0.02


def words_of(error: OSError) -> str:
    """Return the error without Python's number and path."""
    return error.strerror or str(error)


def make_private_folder(path: Path, known: Collection[str] | None = None, *, may_be_read: bool = False) -> None:
    """Make a folder, and missing ones above it, that only we can use; tighten one that others can use.

    Args:
        path: The folder.
        known: The names that may be in a folder that is tightened; None: any.
        may_be_read: Whether others may at least read it.

    Raises:
        HostError: It belongs to another user, is a link, or holds something else, so that others may need it.
    """
    try:
        handle = _open_or_make(path)
    except OSError as error:
        is_link = error.errno in (errno.ELOOP, errno.ENOTDIR) and path.is_symlink()
        raise HostError(str(path), "a link; expected a folder" if is_link else words_of(error)) from error
    try:
        _tighten(handle, path, known, may_be_read=may_be_read)
    except OSError as error:
        raise HostError(str(path), f"other users can use it, and that can't be changed: {words_of(error)}") from error
    finally:
        os.close(handle)


def _open_or_make(path: Path) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        return os.open(path, flags)
    for folder in (*reversed(path.parents), path):
        with suppress(FileExistsError):
            folder.mkdir(PRIVATE_FOLDER)
    return os.open(path, flags)


def _tighten(handle: int, path: Path, known: Collection[str] | None, *, may_be_read: bool) -> None:
    found = os.fstat(handle)
    _require_owner(path, found)
    if not found.st_mode & OTHERS:
        return
    more = [] if known is None else [name for name in os.listdir(handle) if not _is_known(name, known)]
    if not more:
        os.fchmod(handle, PRIVATE_FOLDER)
    elif not may_be_read or found.st_mode & OTHERS_WRITE:
        wanted = "expected a folder that only its owner can use (mode 0700)"
        raise HostError(str(path), f"other users can use it, and it has files of others ({min(more)}); {wanted}")


def _is_known(name: str, known: Collection[str]) -> bool:
    """Whether it is one of these, or what becomes one of them by a rename (host/files.py)."""
    return name in known or any(name.startswith(f".{each}.") for each in known)


def _require_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise HostError(str(path), f"it belongs to user {found.st_uid}; expected user {os.geteuid()}")


def open_lock(path: Path) -> int:
    """Return a descriptor of the lock's file, which is made if it isn't there.

    Raises:
        HostError: It is another user's, or no plain file.
        OSError: It can't be made.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        lock = os.open(path, flags | os.O_CREAT, PRIVATE_FILE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise HostError(str(path), "a link; expected a file") from error
        if error.errno not in NO_ROOM:
            raise
        lock = os.open(path, flags)
    try:
        _tighten_file(lock, path)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _tighten_file(lock: int, path: Path) -> None:
    found = os.fstat(lock)
    _require_owner(path, found)
    if not stat.S_ISREG(found.st_mode):
        raise HostError(str(path), "not a plain file")
    if found.st_mode & OTHERS:
        os.fchmod(lock, PRIVATE_FILE)


def wait_for_lock(lock: int, seconds: float, *, shared: bool = False) -> bool:
    """Take the lock, for ourselves alone or `shared`; return False if others hold it for so many seconds."""
    import fcntl  # noqa: PLC0415  # Unix only

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
        time.sleep(POLL_S)

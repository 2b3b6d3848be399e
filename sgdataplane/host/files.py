"""Files that are replaced in one step: a reader finds either all of the old text or all of the new one.

Owns how that is done, and what of it survives. Its input is bytes. Must not know what they say.

The text is written to a file beside it, which is then renamed. That alone protects readers, also if the writer dies.
But a machine that loses power may have stored the rename and not the text; then the file is empty.
"""

from __future__ import annotations

import enum
import os
from contextlib import suppress
from pathlib import Path

# Never writes to another's file or link. (Windows has neither of the last two, and O_EXCL is enough there.)
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class Survives(enum.Enum):
    """What a replaced file survives."""

    THE_WRITER = "the end of its writer"  # enough for what ends with the machine, as in /run
    THE_MACHINE = "loss of power: one of the two texts is there"  # the text is on disk before the rename
    AS_NEW = "loss of power, and then it is the new one"  # the rename is on disk, too


def replace_file(path: Path, data: bytes, survives: Survives, *, mode: int = 0o666, writer: str = "new") -> None:
    """Replace a file in one step. After an error the old text is there; with AS_NEW it may be either text.

    `writer` is a word of its own for each process that may write at the same time.

    Raises:
        OSError: It can't be replaced.
    """
    beside = beside_of(path, writer)
    try:
        with open(_make_file(beside, mode), "wb") as file:
            file.write(data)
            file.flush()
            if survives is not Survives.THE_WRITER:
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    if survives is Survives.AS_NEW:
        sync_folder(path.parent)


def make_private(path: Path) -> int:
    """Make a file that only its owner may use, and return a descriptor of it.

    The owner is the caller's user; or, if root makes it for a service, the owner of its folder.

    Raises:
        FileExistsError: Anything is there already.
        OSError: It can't be made.
    """
    descriptor = os.open(path, NEW, 0o600)
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.fchown(descriptor, folder.st_uid, folder.st_gid)
    return descriptor


def require_replaceable(path: Path, *, writer: str = "new") -> None:
    """Check that `replace_file` could replace a file. The file stays as it is.

    Raises:
        OSError: It couldn't.
    """
    beside = beside_of(path, writer)
    os.close(_make_file(beside, 0o600))
    beside.unlink()


def beside_of(path: Path, writer: str = "new") -> Path:
    """Return where the text is until the rename."""
    return path.with_name(f".{path.name}.{writer}")


def _make_file(beside: Path, mode: int) -> int:
    with suppress(FileNotFoundError):
        beside.unlink()  # left by a writer that died
    return os.open(beside, NEW, mode)


def sync_folder(path: Path) -> None:
    """Put the names in this folder on disk."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

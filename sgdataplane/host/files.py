"""A file replaced in one step: whoever reads it finds all of the old text or all of the new one, and nothing else.

Owns how that is done, and what of it survives. Is given octets. Must not know what they say.

The text is written to a file beside it, which is then given its name. Without more that holds for readers, and if the
writer dies. A machine that loses power may have written the name first and the text never; then the file is empty.
"""

from __future__ import annotations

import enum
import os
from contextlib import suppress
from pathlib import Path

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC  # nobody else's file or link is written to


class Survives(enum.Enum):
    """What a replaced file survives."""

    THE_WRITER = "the end of its writer"  # enough where nothing outlives the machine, as in /run
    THE_MACHINE = "loss of power: one of the two texts is there"  # the text is on disk before it has the name
    AS_NEW = "loss of power, and then it is the new one"  # the name is on disk, too


def replace_file(path: Path, data: bytes, survives: Survives, *, mode: int = 0o666, writer: str = "new") -> None:
    """OSError: it is what it was, but for AS_NEW, where either may be there. `writer`: tells those apart who may write
    at the same time."""
    beside = beside_of(path, writer)
    try:
        with open(_made(beside, mode), "wb") as file:
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
        _sync_folder(path.parent)


def require_replaceable(path: Path, *, writer: str = "new") -> None:
    """OSError where `replace_file` couldn't. The file stays as it is."""
    beside = beside_of(path, writer)
    os.close(_made(beside, 0o600))
    beside.unlink()


def beside_of(path: Path, writer: str = "new") -> Path:
    """Where the text is until it has the name."""
    return path.with_name(f".{path.name}.{writer}")


def _made(beside: Path, mode: int) -> int:
    with suppress(FileNotFoundError):
        beside.unlink()  # of one who died
    return os.open(beside, NEW, mode)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

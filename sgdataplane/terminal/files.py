"""Files that a verb writes: each is replaced whole, or stays as it is.

Owns how they are written, and the error for a place that can't be written to. Takes texts and paths. Must not know what
the texts are.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.host.files import Survives, replace_file, require_replaceable


def write(text: str, path: Path) -> None:
    """Replace the file in one step, with its permissions; a link to a file stays a link.

    Pipes and devices are written to. After a loss of power the file may be empty: the user can run the command again.

    Raises:
        StateFileError: the file can't be written.
    """
    octets = text.encode("utf-8", "replace")  # names of files in the text need not be UTF-8
    with _refusing(path):
        if _is_special(path):
            path.write_bytes(octets)
        else:
            target = _target(path)
            replace_file(target, octets, Survives.THE_WRITER, mode=_mode(target), writer=str(os.getpid()))


def write_new(text: str, path: Path) -> None:
    """Write a file that isn't there yet.

    Raises:
        StateFileError: it is there, or can't be written.
    """
    unused = "a name that nothing has yet; what is there stays as it is"
    expected = unused if path.parent.is_dir() else "a folder that is there"
    with _refusing(path, expected), open(path, "x", encoding="utf-8") as file:
        file.write(text)


def require_writable(path: Path) -> None:
    """Check before long work that `write` will work; change nothing.

    Raises:
        StateFileError: `write` would fail.
    """
    with _refusing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not _is_special(path):
            require_replaceable(_target(path), writer=str(os.getpid()))


def require_empty_folder(folder: Path) -> None:
    """Check before long work that a folder is empty or isn't there yet; change nothing.

    Raises:
        StateFileError: something is in the folder, or it is no folder.
    """
    with _refusing(folder):
        if folder.exists() and any(folder.iterdir()):
            raise OSError(errno.ENOTEMPTY, "the folder isn't empty")


def write_folder(files: Mapping[str, str], folder: Path) -> None:
    """Write files (text by name) to a new or empty folder.

    A reader would take an older file that was left there for a part of this state.

    Raises:
        StateFileError: the folder isn't empty, or can't be written.
    """
    with _refusing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise OSError(errno.ENOTEMPTY, "the folder isn't empty")
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")


@contextmanager
def _refusing(path: Path, expected: str = "a place that can be written to") -> Iterator[None]:
    """Turn an OSError of the block into a StateFileError about `path`."""
    try:
        yield
    except OSError as error:
        message = (error.strerror or str(error)).lower()
        problem = Problem(Where(str(path)), "InvalidTarget.NotWritable", message, expected=expected)
        raise StateFileError((problem,)) from error


def _is_special(path: Path) -> bool:
    """Return whether a path can't be replaced: a pipe, a device, anything in /dev.

    That includes /dev/stdout, even if it leads to a file.
    """
    return path.exists() and (not path.is_file() or path.is_relative_to("/dev"))


def _mode(path: Path) -> int:
    """Return the file's permissions, so that a private file stays private; the usual ones if it is new.

    The umask applies.
    """
    return path.stat().st_mode & 0o777 if path.exists() else 0o666


def _target(path: Path) -> Path:
    """Return the file itself, where `path` is a link to it."""
    return Path(os.path.realpath(path))

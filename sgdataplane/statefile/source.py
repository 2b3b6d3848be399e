"""Reads a state's files: a path -> named texts.

Owns which files are read, how large they may be, and their encoding. Must not know what is written in them.
"""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from sgdataplane.errors import Where
from sgdataplane.statefile.owner import SoleOwner
from sgdataplane.statefile.problems import Problems

# A native state of 65,536 members has about 20 MB, and the cloud's answers for it about 100 MB in many pages. More is
# nonsense, and would take many times its size of memory.
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_BYTES = 256 * 1024 * 1024
MAX_FILES = 100_000
SUFFIXES = (".yaml", ".yml", ".json", ".tfstate")
PACKED = ".gz"
GZIP = b"\x1f\x8b"  # the first bytes of such a file (RFC 1952)
NO_WAIT, FOLDER = getattr(os, "O_NONBLOCK", 0), getattr(os, "O_DIRECTORY", None)  # Windows has neither
STDIN = Path("/dev/stdin")


@dataclass(frozen=True, slots=True)
class SourceText:
    """One file's text."""

    file: str
    """The file's name as the user wrote it, with the folder."""
    text: str

    @property
    def name(self) -> Path:
        """The name without the ending of packed files: it says what the text is."""
        return Path(self.file.removesuffix(PACKED))


@dataclass(frozen=True, slots=True)
class Within:
    """Where files are opened."""

    folder: int | None
    """An open folder; None if files are opened by their paths."""
    owner: SoleOwner | None = None
    """The user who must own them; None if anybody may."""


def read_sources(
    path: Path, problems: Problems, *, waits: bool = False, owner: SoleOwner | None = None
) -> tuple[SourceText, ...]:
    """Read a file, or every *.yaml, *.yml, *.json and *.tfstate directly in a folder, by name.

    Hidden files are left out, and each file may be packed by gzip. With `waits`, the path may also be a pipe, such as
    STDIN, and its writer is waited for. An `owner` refuses what others than one user could change.
    """
    try:
        with hold_folder(path) as folder:
            if owner is not None and not is_one_owners(path, folder, owner, problems):
                return ()
            files = files_of_folder(path, folder, problems) if path.is_dir() or folder is not None else [path]
            return read_files(files, Within(folder, owner), problems, waits=waits)
    except OSError as error:
        refuse_os_error(path, error, problems)
        return ()


def is_one_owners(path: Path, folder: int | None, owner: SoleOwner, problems: Problems) -> bool:
    """Return whether the way to the path, and the folder, are one user's.

    A user who changes a link meanwhile makes it lead to something of their own, or what is open isn't theirs.
    """
    return owner.leads(path, problems) and (folder is None or owner.holds(path, folder, problems))


@contextmanager
def hold_folder(path: Path) -> Iterator[int | None]:
    """Hold the folder open while files are read from it; yield None for a file.

    If the path is a link that somebody changes to another folder meanwhile, everything is still read from the first
    one. Windows can't open folders: there it is None, and files are opened by their paths.
    """
    if not path.is_dir() or FOLDER is None:
        yield None
        return
    folder = os.open(path, os.O_RDONLY | FOLDER)
    try:
        yield folder
    finally:
        os.close(folder)


def read_files(files: Iterable[Path], within: Within, problems: Problems, *, waits: bool) -> tuple[SourceText, ...]:
    """Read files; note a problem for each that can't be read or is too large."""
    sources: list[SourceText] = []
    left = MAX_BYTES
    for file in files:
        limit = min(left, MAX_FILE_BYTES)
        data = read_bytes(file, within, limit, problems, waits=waits and within.folder is None)
        if data is not None and data.startswith(GZIP):
            data = unpack(file, data, limit, problems)
        if data is None:
            continue
        left -= len(data)
        text = as_text(file, data, problems)
        if text is not None:
            sources.append(SourceText(str(file), text))
    return tuple(sources)


def files_of_folder(path: Path, folder: int | None, problems: Problems) -> list[Path]:
    """Return the paths of the files that a state is made of, by name."""
    listed = (name for name in os.listdir(path if folder is None else folder) if not name.startswith("."))
    names = sorted(name for name in listed if name.removesuffix(PACKED).endswith(SUFFIXES))
    if not names:
        refuse(path, "EmptyFolder", ("the folder holds no state", "*.yaml, *.yml, *.json or *.tfstate"), problems)
    if len(names) > MAX_FILES:
        problem = "the folder holds too many files", f"at most {MAX_FILES} files"
        refuse(path, "TooLarge", problem, problems, value=len(names))
        return []
    return [path / name for name in names]


def read_bytes(file: Path, within: Within, limit: int, problems: Problems, *, waits: bool) -> bytes | None:
    """Return the file's bytes; None and a problem if it can't be read.

    Unless `waits` is set, a pipe or a device is a problem.
    """
    try:
        with open_stream(file, within.folder, waits=waits) as stream:
            if within.owner is not None and not within.owner.holds(file, stream.fileno(), problems):
                return None
            status = os.fstat(stream.fileno())
            if not waits and not stat.S_ISREG(status.st_mode):
                refuse(file, "NotAFile", ("this is a pipe or a device", "a regular file"), problems)
                return None
            size = status.st_size
            data = read_at_most(stream, size, limit + 1) if size <= limit else b""
    except OSError as error:
        refuse_os_error(file, error, problems)
        return None
    return data if is_small(file, max(size, len(data)), limit, problems) else None


def read_at_most(stream: BinaryIO, size: int, most: int) -> bytes:
    """Return what a stream has, up to `most` bytes; `size` is how many there should be.

    To ask for many more takes longer than to read a small file: Python makes room for all of them.
    """
    data = stream.read(size + 1)
    return data if len(data) <= size else data + stream.read(most - len(data))


def is_small(file: Path, size: int, limit: int, problems: Problems) -> bool:
    """Return whether a size is within the limit; note a problem if it isn't."""
    if size > limit:
        expected = f"at most {MAX_FILE_BYTES} bytes in a file, {MAX_BYTES} in all files together"
        refuse(file, "TooLarge", ("too large for a state", expected), problems, value=size)
    return size <= limit


def unpack(file: Path, data: bytes, limit: int, problems: Problems) -> bytes | None:
    """Return what gzip packed; None and a problem if it is damaged, or more than `limit` bytes.

    A small packed file can hold very much.
    """
    try:
        with gzip.open(BytesIO(data)) as stream:
            found = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        message, expected = "the packed file is damaged", "a whole file as gzip writes it"
        problems.add(Where(str(file)), "InvalidDocument.Malformed", message, value=str(error), expected=expected)
        return None
    return found if is_small(file, len(found), limit, problems) else None


def open_stream(file: Path, folder: int | None, *, waits: bool) -> BinaryIO:
    """Open a file for reading.

    STDIN is used as this process got it: if it is a socket or belongs to another user, it can't be opened again.
    """
    if not waits:
        return open(file, "rb", opener=partial(open_without_waiting, folder))
    return open(0, "rb", closefd=False) if file == STDIN else open(file, "rb")


def open_without_waiting(folder: int | None, path: str, flags: int) -> int:
    """Open a file and don't wait for a writer if it is a pipe.

    If an open folder is given, open it there, wherever its path leads by now.
    """
    return os.open(path if folder is None else Path(path).name, flags | NO_WAIT, dir_fd=folder)


def refuse_os_error(file: Path, error: OSError, problems: Problems) -> None:
    """Note that the kernel refused to open or read a file."""
    code = {FileNotFoundError: "NotFound", PermissionError: "NotReadable"}.get(type(error), "Unreadable")
    refuse(file, code, ((error.strerror or str(error)).lower(), "a readable file or folder"), problems)


def refuse(file: Path, code: str, problem: tuple[str, str], problems: Problems, *, value: object = "") -> None:
    """Note a problem with a file; `problem` is what is wrong, and what would be right."""
    message, expected = problem
    problems.add(Where(str(file)), f"InvalidSource.{code}", message, value=value, expected=expected)


def as_text(file: Path, data: bytes, problems: Problems) -> str | None:
    """Return UTF-8 text without its byte order mark; None and a problem if it isn't UTF-8 or is empty."""
    name = str(file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        value = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        message, expected = "the file is not UTF-8", "UTF-8 text"
        problems.add(Where(name, line), "InvalidDocument.NotUtf8", message, value=value, expected=expected)
        return None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        problems.add(Where(name, line), "InvalidDocument.Malformed", "the file has a NUL byte", expected="UTF-8 text")
        return None
    if not text.strip():
        problems.add(Where(name), "InvalidDocument.Empty", "the file is empty", expected="a state")
        return None
    return text

"""Reads a state's files: a path -> named texts.

Owns which files are read, how large they may be, and their encoding. Must not know what is written in them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from sgdataplane.errors import Where
from sgdataplane.statefile.problems import Problems

# A native state of 65,536 members is about 20 MB, the cloud's answers for the same about 100 MB in many pages. More is
# nonsense, and would cost memory many times its size.
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_BYTES = 256 * 1024 * 1024
MAX_FILES = 100_000
SUFFIXES = (".yaml", ".yml", ".json")
STDIN = Path("/dev/stdin")


@dataclass(frozen=True, slots=True)
class SourceText:
    """One file's text. `file` is its name as the user wrote it, the folder included."""

    file: str
    text: str

    @property
    def stem(self) -> str:
        return Path(self.file).stem


def read_sources(path: Path, problems: Problems, *, waits: bool = False) -> tuple[SourceText, ...]:
    """The file, or every *.yaml, *.yml and *.json directly in the folder, by name; hidden ones are left out. `waits`:
    the path may also be a pipe, STDIN among them, whose writer is waited for."""
    try:
        with held_folder(path) as folder:
            files = [path] if folder is None else files_of_folder(path, folder, problems)
            return read_files(files, folder, problems, waits=waits)
    except OSError as error:
        refuse_os_error(path, error, problems)
        return ()


@contextmanager
def held_folder(path: Path) -> Iterator[int | None]:
    """The folder, open; None for a file. If it is a link that is turned to another folder meanwhile, what is read is
    still all of the one that it led to."""
    if not path.is_dir():
        yield None
        return
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield folder
    finally:
        os.close(folder)


def read_files(files: Iterable[Path], folder: int | None, problems: Problems, *, waits: bool) -> tuple[SourceText, ...]:
    sources: list[SourceText] = []
    left = MAX_BYTES
    for file in files:
        data = read_bytes(file, folder, min(left, MAX_FILE_BYTES), problems, waits=waits and folder is None)
        if data is None:
            continue
        left -= len(data)
        text = as_text(file, data, problems)
        if text is not None:
            sources.append(SourceText(str(file), text))
    return tuple(sources)


def files_of_folder(path: Path, folder: int, problems: Problems) -> list[Path]:
    where = Where(str(path))
    names = sorted(name for name in os.listdir(folder) if name.endswith(SUFFIXES) and not name.startswith("."))
    if not names:
        expected = "*.yaml, *.yml or *.json"
        problems.add(where, "InvalidSource.EmptyFolder", "the folder holds no state", expected=expected)
    if len(names) > MAX_FILES:
        expected = f"at most {MAX_FILES} files"
        problems.add(where, "InvalidSource.TooLarge", "the folder is too large", value=len(names), expected=expected)
        return []
    return [path / name for name in names]


def read_bytes(file: Path, folder: int | None, limit: int, problems: Problems, *, waits: bool) -> bytes | None:
    """The file's bytes; a problem instead of a wait if it is a pipe or a device, unless `waits`."""
    try:
        with open_stream(file, folder, waits=waits) as stream:
            status = os.fstat(stream.fileno())
            if not waits and not stat.S_ISREG(status.st_mode):
                message = "a pipe or device isn't a state"
                problems.add(Where(str(file)), "InvalidSource.NotAFile", message, expected="a regular file")
                return None
            size = status.st_size
            data = stream.read(limit + 1) if size <= limit else b""
    except OSError as error:
        refuse_os_error(file, error, problems)
        return None
    if max(size, len(data)) > limit:
        expected = f"at most {MAX_FILE_BYTES} bytes in a file, {MAX_BYTES} in all files together"
        message, value = "too large for a state", max(size, len(data))
        problems.add(Where(str(file)), "InvalidSource.TooLarge", message, value=value, expected=expected)
        return None
    return data


def open_stream(file: Path, folder: int | None, *, waits: bool) -> BinaryIO:
    """STDIN is what we were given, which can't be opened again where it is a socket, or another user's."""
    if not waits:
        return open(file, "rb", opener=partial(open_without_waiting, folder))
    return open(0, "rb", closefd=False) if file == STDIN else open(file, "rb")


def open_without_waiting(folder: int | None, path: str, flags: int) -> int:
    """`folder`: where the file of that name is, wherever the path leads by now."""
    return os.open(path if folder is None else Path(path).name, flags | os.O_NONBLOCK, dir_fd=folder)


def refuse_os_error(file: Path, error: OSError, problems: Problems) -> None:
    code = {FileNotFoundError: "NotFound", PermissionError: "NotReadable"}.get(type(error), "Unreadable")
    message = (error.strerror or str(error)).lower()
    problems.add(Where(str(file)), f"InvalidSource.{code}", message, expected="a readable file or folder")


def as_text(file: Path, data: bytes, problems: Problems) -> str | None:
    """UTF-8 text without its byte order mark; None and a problem if it isn't, or holds nothing."""
    name = str(file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        value = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        problems.add(Where(name, line), "InvalidDocument.NotUtf8", "not UTF-8", value=value, expected="UTF-8 text")
        return None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        problems.add(Where(name, line), "InvalidDocument.Malformed", "a NUL byte", expected="UTF-8 text")
        return None
    if not text.strip():
        problems.add(Where(name), "InvalidDocument.Empty", "nothing in it", expected="a state")
        return None
    return text

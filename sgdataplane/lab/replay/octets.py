"""The octets of a capture: from a file, a pipe or standard input, compressed by gzip or not.

Owns where they come from, and how far they have been read. It never holds more in memory than was asked for. It is
given a path. Must not know what captures look like.
"""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

STDIN = Path("-")
GZIP = b"\x1f\x8b"
BUFFER = 1 << 18


def name_of(path: Path) -> str:
    """Return what messages call the capture."""
    return "standard input" if path == STDIN else str(path)


class CutOffError(Exception):
    """There are fewer octets than were asked for."""


class DamageError(Exception):
    """The octets can't be read; the text says why."""


class Octets:
    """The octets of an open capture, decompressed.

    Args:
        path: The file, or `-` for standard input.
        is_kept: Whether those of a pipe are copied to a nameless file, so that they can be read again.

    Attributes:
        size: The size of the file; 0 if that isn't known.
        offset: How many octets have been read.
        start: The place where the present record begins.

    Raises:
        OSError: The file can't be opened.
    """

    def __init__(self, path: Path, *, is_kept: bool) -> None:
        self._raw = _Raw(path, is_kept=is_kept)
        self.size = self._raw.size
        self.rewind()

    def rewind(self) -> None:
        """Go back to the beginning."""
        self._raw.rewind()
        magic = self._raw.peek(len(GZIP))
        self._file = gzip.GzipFile(fileobj=self._raw) if magic == GZIP else self._raw  # type: ignore[call-overload]  # gzip only reads from it
        self.offset = self.start = 0

    def close(self) -> None:
        """Close the file, and its copy if there is one."""
        self._raw.close()

    @property
    def taken(self) -> int:
        """How many octets of the file have been read, before decompression."""
        return self._raw.taken

    def begin(self) -> None:
        """Note that a record begins here: `start` is its place."""
        self.start = self.offset

    @property
    def is_between(self) -> bool:
        """Whether nothing has been read since the last `begin`."""
        return self.offset == self.start

    def read(self, size: int) -> bytes:
        """Read exactly so many octets.

        Raises:
            CutOffError: There are fewer.
            DamageError: They can't be decompressed or read.
        """
        try:
            data: bytes = self._file.read(size)
        except EOFError:
            raise DamageError("the gzip stream is cut off") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DamageError(f"the gzip stream is damaged: {error}") from None
        except OSError as error:
            raise DamageError(error.strerror or str(error)) from error
        self.offset += len(data)
        if len(data) < size:
            raise CutOffError
        return data


class _Raw:
    """The file as it is.

    Since nobody can go back in a pipe, `peek` keeps what it read for the next `read`.
    """

    def __init__(self, path: Path, *, is_kept: bool) -> None:
        self._file: IO[bytes] = (
            open(0, "rb", BUFFER, closefd=False) if path == STDIN else open(path, "rb", BUFFER)  # noqa: SIM115
        )
        status = os.fstat(self._file.fileno())
        self.size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        self._is_rewindable = self._file.seekable()
        self._copy: IO[bytes] | None = TemporaryFile() if is_kept and not self._is_rewindable else None  # noqa: SIM115
        self._ahead = b""
        self.taken = 0

    def rewind(self) -> None:
        """Go back to the beginning, in a pipe's copy if there is one."""
        if self.taken and self._copy is not None:
            self._file.close()
            self._file, self._copy, self._is_rewindable = self._copy, None, True
        if self._is_rewindable:
            self._file.seek(0)
        self._ahead, self.taken = b"", 0

    def peek(self, size: int) -> bytes:
        """Read the first octets without taking them."""
        self._ahead = self._fresh(size)
        return self._ahead

    def read(self, size: int) -> bytes:
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data + self._fresh(size - len(data)) if len(data) < size else data

    def _fresh(self, size: int) -> bytes:
        """Read octets that nobody has read, and copy them if they are kept."""
        data = self._file.read(size)
        self.taken += len(data)
        if self._copy is not None:
            self._copy.write(data)
        return data

    def close(self) -> None:
        self._file.close()
        if self._copy is not None:
            self._copy.close()

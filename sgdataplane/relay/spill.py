"""Texts in a file without a name, so that they take room on disk and little memory.

Owns where each text lies, and that what is read again is what was written. Must not know what a text says.

The file goes with its process, however that ends, and no other user can open it. A text for which there is no room on
disk stays in memory. One that isn't read as it was written ends all reading, because a wrong text could be a wrong
policy. So does an error in the middle of a step, after which the texts are of two revisions.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias
from zlib import crc32

from sgdataplane.errors import HostError
from sgdataplane.limitedlog import limit_log

FOLDER = "/var/tmp"  # /tmp may be memory
SMALLEST = 1 << 10  # bytes; what finds a text in the file takes 0.2 KB itself
# The texts that were read or written last stay in memory: so many, each of at most so many bytes.
CACHED, LARGEST_CACHED = 128, 1 << 16
LONGEST = 40  # bits of a text's size
DAMAGED = "what was written there isn't what is read now"
HALF_DONE = "an error has ended a step in its middle, so what is there is of two revisions"

LOGGER = logging.getLogger("sgdataplane.relay")


class DamagedError(HostError):
    """A text isn't what it should be. Whoever has texts in that file must begin anew."""


@dataclass(frozen=True, slots=True, eq=False)
class SpilledText:
    """A text in a file. Its place is taken again once nobody has this object any more."""

    file: SpillFile
    place: int
    size: int
    sum: int

    def __del__(self) -> None:
        self.file.free(self.place, self.size)


Text: TypeAlias = bytes | SpilledText


class SpillFile:
    """A file of texts, in a folder. Several threads may use it."""

    def __init__(self, folder: str = FOLDER) -> None:
        self._folder = folder
        self._trouble_log = limit_log(LOGGER)
        self._lock = threading.Lock()
        self._end = 0
        self._damage = ""  # why nothing can be read any more
        # Places that nobody uses, by the number of bits of their size: a power of two, so that they fit others later. A
        # destructor may add some at any time, in any thread.
        self._free: list[list[int]] = [[] for _ in range(LONGEST)]
        self._recent: dict[SpilledText, bytes] = {}  # the texts read or written last
        self._cached = CACHED
        self._descriptor = self._open()

    def _open(self) -> int | None:
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                descriptor = os.dup(file.fileno())
        except OSError as error:
            self._note_trouble(error)
            return None
        # At the end of the process, threads may still write, and another file could have the number by then.
        weakref.finalize(self, os.close, descriptor).atexit = False
        return descriptor

    def keep(self, text: bytes) -> Text:
        """Write a text, and return what `read` takes. That is the text itself if it is small or there is no room."""
        if self._descriptor is None or len(text) < SMALLEST:
            return text
        place = self._take(len(text))
        try:
            if os.pwrite(self._descriptor, text, place) < len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self.free(place, len(text))
            self._note_trouble(error)
            return text
        kept = SpilledText(self, place, len(text), crc32(text))
        self._remember(kept, text)
        return kept

    def read(self, text: Text) -> bytes:
        """Return a text that was kept.

        Raises:
            DamagedError: This text, or any one before, isn't what was written, or a step ended in its middle.
        """
        self.require_whole()
        if isinstance(text, bytes):
            return text
        found = self._recent.get(text)
        if found is None:
            found = self._read_checked(text)
            self._remember(text, found)
        return found

    def require_whole(self) -> None:
        """Raise an error if nothing can be read any more.

        Raises:
            DamagedError: A text was damaged, or a step ended in its middle.
        """
        if self._damage:
            raise DamagedError(self._folder, self._damage)

    @contextmanager
    def condemn_on_error(self) -> Iterator[None]:
        """Let nobody read anything any more if an error ends what is done here. It would be half of a step."""
        try:
            yield
        except BaseException:
            self._damage = self._damage or HALF_DONE
            raise

    def free(self, place: int, size: int) -> None:
        """Let another text take the place of one that nobody reads any more."""
        self._free[(size - 1).bit_length()].append(place)

    def _take(self, size: int) -> int:
        bits = (size - 1).bit_length()
        with self._lock:
            if self._free[bits]:
                return self._free[bits].pop()
            place, self._end = self._end, self._end + (1 << bits)
            return place

    def _remember(self, text: SpilledText, said: bytes) -> None:
        if text.size <= LARGEST_CACHED:
            with self._lock:
                self._recent[text] = said
                if len(self._recent) > self._cached:
                    del self._recent[next(iter(self._recent))]

    def _read_checked(self, text: SpilledText) -> bytes:
        assert self._descriptor is not None, "only what was written is read"
        try:
            found = os.pread(self._descriptor, text.size, text.place)
        except OSError:
            found = b""
        if len(found) != text.size or crc32(found) != text.sum:
            self._damage = DAMAGED
            raise DamagedError(self._folder, DAMAGED)
        return found

    def _note_trouble(self, error: OSError) -> None:
        told = f"{self._folder} can't be written, so documents stay in memory: {error.strerror}"
        self._trouble_log.write(self._folder, told)

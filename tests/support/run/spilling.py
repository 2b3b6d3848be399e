"""What a relay keeps on disk, in tests: few documents lie there, too, and the disk is full or wrong.

Owns how that is brought about. Must not know what is kept.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sgdataplane.relay import spill, table
from sgdataplane.relay.spill import SpillFile

PAGE = 4096


@contextmanager
def tiny_texts() -> Iterator[None]:
    """Texts have a few entries, all of them lie in the file, and nearly all are read there."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in (
            (spill, "SMALLEST", 2), (spill, "CACHED", 2), (table, "TEXT", 200), (table, "RUN", 64), (table, "PARTS", 4),
        ):  # fmt: skip
            patch.setattr(module, name, value)
        yield


@contextmanager
def uncached() -> Iterator[None]:
    """Files that are made meanwhile keep no text in memory that was read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "CACHED", 0)
        yield


@contextmanager
def full_disk() -> Iterator[list[int]]:
    """Nothing can be written at a place. The list gets the sizes of what somebody has tried to write."""
    tried: list[int] = []

    def refuse(_: int, text: bytes, __: int) -> int:
        tried.append(len(text))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        yield tried


def size_of(file: SpillFile) -> int:
    """Return the bytes of a file."""
    return os.fstat(_descriptor(file)).st_size


def flip(file: SpillFile, bit: int) -> None:
    """Change one bit."""
    place = bit // 8
    found = os.pread(_descriptor(file), 1, place)
    os.pwrite(_descriptor(file), bytes([found[0] ^ 1 << bit % 8]), place)


def zero(file: SpillFile) -> None:
    """Write zeros over everything."""
    for place in range(0, size_of(file), PAGE):
        os.pwrite(_descriptor(file), bytes(PAGE), place)


def _descriptor(file: SpillFile) -> int:
    assert file._descriptor is not None, "there is no file"
    return file._descriptor

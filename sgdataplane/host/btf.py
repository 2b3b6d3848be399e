"""BTF: the members of a struct of the running kernel, as the kernel itself describes it.

Owns the format (Documentation/bpf/btf.rst). Its input is a struct's name. Must not know what a member means.

A distribution gives its kernels fixes without another version. If a fix has added a member, this is how to see that the
fix is there.
"""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path

VMLINUX = Path("/sys/kernel/btf/vmlinux")
MAX_BYTES = 1 << 26  # bytes; Debian's kernels have 5 MB of it
MAGIC, HEADER = 0xEB9F, struct.Struct("=HBBIIIII")
STRUCT, MEMBER, WORD = 4, 3, 4  # a kind of type; words of a member; bytes of a word
# By kind of type: the words behind the first three, and those of each entry of the list that follows. None has kind 0.
_SIZES = {1: (1, 0), 3: (3, 0), 4: (0, 3), 5: (0, 3), 6: (0, 2), 13: (0, 2), 14: (1, 0), 15: (0, 3), 17: (1, 0)}
_SIZES |= {19: (0, 3)} | dict.fromkeys((2, 7, 8, 9, 10, 11, 12, 16, 18), (0, 0))


@cache
def members(name: str, path: Path = VMLINUX) -> frozenset[str] | None:
    """Return the names of that struct's members; None if the kernel doesn't describe it."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        return _members(data, name.encode()) if len(data) <= MAX_BYTES else None
    except (OSError, ValueError, LookupError, struct.error):
        return None


def _members(data: bytes, name: bytes) -> frozenset[str] | None:
    """Return the names of a struct's members in BTF data; None if there is no such struct.

    Raises:
        ValueError: The data isn't what it should be.
        LookupError: The data isn't what it should be.
        struct.error: The data isn't what it should be.
    """
    magic, _, _, begin, types_at, types_size, names_at, names_size = HEADER.unpack_from(data)
    names = data[begin + names_at : begin + names_at + names_size]
    types = data[begin + types_at : begin + types_at + types_size]
    if magic != MAGIC or len(types) % WORD:
        raise ValueError("not BTF in this machine's order of bytes")
    words, wanted = memoryview(types).cast("I"), names.find(b"\0" + name + b"\0") + 1
    at = _struct_at(words, wanted) if wanted else None
    if at is None:
        return None
    count = words[at + 1] & 0xFFFF
    return frozenset(_name_at(names, words[at + 3 + MEMBER * number]) for number in range(count))


def _struct_at(words: memoryview[int], wanted: int) -> int | None:
    """Return the place of the struct whose name is at that offset; None if there is none."""
    at, end = 0, len(words)
    while at < end:
        info = words[at + 1]
        kind = info >> 24 & 0x1F
        if kind == STRUCT and words[at] == wanted:
            return at
        more, each = _SIZES[kind]
        at += 3 + more + each * (info & 0xFFFF)
    return None


def _name_at(names: bytes, offset: int) -> str:
    return names[offset : names.index(b"\0", offset)].decode("ascii")

"""The number of sessions that the kernel may track, and of buckets in which it looks for them: two settings.

Owns reading them and raising them, and how much of the machine's memory sessions may take. Its input is how many
sessions are needed. Must not know ENIs.

Each namespace may track as many sessions as the limit says. All namespaces share the buckets. Both can be written in
the machine's own network namespace only (net/netfilter/nf_conntrack_standalone.c); elsewhere they are read-only, for
root, too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sgdataplane.errors import HostError

FOLDER = Path("/proc/sys/net/netfilter")
LIMIT, BUCKETS = "nf_conntrack_max", "nf_conntrack_buckets"
# Of a session: struct nf_conn in its slab, and its extensions (NF_CT_EXT_PREALLOC), which it has if it has a timeout of
# ours, or if somebody listens to events. Of a bucket: struct hlist_nulls_head.
ENTRY_BYTES, BUCKET_BYTES = 256 + 128, 8
PART_OF_MEMORY = 16  # of the machine's memory, which one namespace's sessions may fill with their buckets


@dataclass(frozen=True, slots=True)
class TableSize:
    """The size of conntrack's table."""

    limit: int  # how many sessions each namespace may track; 0: any number
    buckets: int  # how many buckets all namespaces share


def affordable(memory: int) -> int:
    """Return how many sessions a machine with so many bytes of memory has room for in one namespace."""
    return memory // PART_OF_MEMORY // (ENTRY_BYTES + BUCKET_BYTES)


def memory_of_machine() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def size_for(sessions: int, memory: int) -> int:
    """Return the limit to set for so many sessions.

    It is the next power of two, so that it seldom changes, but no more than the machine can afford.
    """
    return min(1 << max(0, sessions - 1).bit_length(), affordable(memory))


def read_size(folder: Path = FOLDER) -> TableSize | None:
    """Return both settings; None if the kernel tracks nothing yet.

    Raises:
        HostError: They can't be read.
    """
    try:
        return TableSize(*(int((folder / name).read_text("ascii")) for name in (LIMIT, BUCKETS)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise HostError(f"sysctl {folder}", str(error)) from error


def raise_size(size: int, folder: Path = FOLDER) -> None:
    """Raise each of both settings that is lower.

    Buckets come first: with more sessions than buckets, look-ups would take longer.

    Raises:
        HostError: The kernel refuses.
    """
    now = read_size(folder)
    if now is None:
        return
    for name, value in ((BUCKETS, now.buckets), (LIMIT, now.limit or size)):
        if value < size:
            _write(folder / name, size)


def _write(path: Path, value: int) -> None:
    try:
        path.write_text(f"{value}\n", "ascii")
    except OSError as error:
        raise HostError(f"sysctl {path}={value}", error.strerror or str(error)) from error

"""Processes that may change links of the machine's namespaces: those with CAP_NET_ADMIN in its user namespace.

Owns what makes such a process, and a bounded search for them. Its input is paths and inodes of network namespaces. Must
not know workloads.

The kernel asks who owns a network namespace: a user namespace. A process that has CAP_NET_ADMIN in the machine's first
one has it in all network namespaces, and only needs a handle to reach one. Nothing that a process calls itself is read.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from time import sleep

NS_GET_USERNS = 0xB701  # linux/nsfs.h
INITIAL_USER = 0xEFFFFFFD  # PROC_USER_INIT_INO, linux/proc_ns.h
CAP_NET_ADMIN = 12
MAX_PROCESSES = 20_000
# Our own agent and commands enter a workload's namespace for a few milliseconds. A process that runs there stays.
LOOKS = 5
LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class NetAdmin:
    """A process in a network namespace that has CAP_NET_ADMIN, or may gain it."""

    pid: int
    is_sure: bool  # whether it has the capability. If not, it may gain it by running a program of root's


def belongs_to_machine(path: str) -> bool:
    """Whether the network namespace at the path is owned by the machine's first user namespace."""
    try:
        with open(path, "rb") as place:
            owner = ioctl(place.fileno(), NS_GET_USERNS)
    except OSError:  # it is owned by a user namespace that we may not see, so by another one
        return False
    try:
        return os.fstat(owner).st_ino == INITIAL_USER
    finally:
        os.close(owner)


def find_net_admins(inodes: Collection[int], most: int = MAX_PROCESSES) -> dict[int, NetAdmin]:
    """Return a process with CAP_NET_ADMIN in the machine's first user namespace for each namespace that has one.

    It looks at so many processes at most. A process that only visits a namespace doesn't count: it has gone at one of
    the later looks.
    """
    pairs = [(pid, inode) for pid, inode in _processes(os.listdir("/proc"), most) if inode in inodes]
    suspects = [(admin, inode) for pid, inode in pairs if (admin := _net_admin(pid)) is not None]
    for _ in range(LOOKS if suspects else 0):
        sleep(LOOK_S)
        still = set(_processes([str(admin.pid) for admin, _inode in suspects], most))
        suspects = [(admin, inode) for admin, inode in suspects if (admin.pid, inode) in still]
    suspects.sort(key=lambda each: each[0].is_sure)
    return {inode: admin for admin, inode in suspects}


def _processes(entries: Iterable[str], most: int) -> Iterator[tuple[int, int]]:
    """Yield each of these processes that is there, with the inode of its network namespace."""
    for entry in [entry for entry in entries if entry.isdigit()][:most]:
        with suppress(OSError):
            yield int(entry), os.stat(f"/proc/{entry}/ns/net").st_ino


def _net_admin(pid: int) -> NetAdmin | None:
    try:
        if os.stat(f"/proc/{pid}/ns/user").st_ino != INITIAL_USER:
            return None
        lines = Path(f"/proc/{pid}/status").read_bytes().splitlines()
    except OSError:
        return None
    said = dict(line.split(b":", 1) for line in lines if b":" in line)
    held = [int(said.get(key, b"0"), 16) >> CAP_NET_ADMIN & 1 for key in (b"CapEff", b"CapPrm", b"CapBnd")]
    return NetAdmin(pid, bool(held[0] or held[1])) if any(held) else None

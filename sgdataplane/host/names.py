"""Which names of network namespaces come and go under /run/netns, as it happens.

Owns the kernel's telling of mounts, which is what makes a file there a namespace: inotify tells of the file only, and
that is there before. Must not know what namespaces are for.
"""

from __future__ import annotations

import os
import select
from collections.abc import Mapping

from sgdataplane.host import netns

MOUNTS = "/proc/self/mountinfo"


class NamesWatch:
    """For a selector. Of all mounts and unmounts on the machine it is woken; those elsewhere change no name."""

    def __init__(self) -> None:
        self._mounts = os.open(MOUNTS, os.O_RDONLY | os.O_CLOEXEC)
        self._epoll = select.epoll()  # a selector knows no EPOLLPRI, and the file can always be read
        self._epoll.register(self._mounts, select.EPOLLPRI)
        self._known = _bound()

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()
        os.close(self._mounts)

    def changed(self) -> bool:
        """Whether there are other names than at the last call, or other namespaces behind them. (One may have the inode
        of the one that ended just before: who watched that one was told of its end.)"""
        self._epoll.poll(0)
        before, self._known = self._known, _bound()
        return self._known != before


def _bound() -> Mapping[str, int]:
    """Name -> inode, of names behind which there is a namespace."""
    device = os.stat(netns.OWN_NETNS).st_dev
    found = {}
    for name in netns.list_names():
        try:
            status = os.stat(netns.RUN_DIR / name)
        except OSError:  # it went meanwhile
            continue
        if status.st_dev == device:
            found[name] = status.st_ino
    return found

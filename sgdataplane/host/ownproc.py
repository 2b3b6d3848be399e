"""A /proc that nobody else sees, through which settings of many namespaces are found quickly.

Owns its mount, which no path leads to, and when it is replaced. Must not know settings.

To find a file of /proc/sys/net, the kernel goes through all files of that name that anybody has looked for on the same
mount, in any namespace: beside 1,000 namespaces that takes 60 us a file. A new mount has found nothing yet. Where the
kernel or a service's unit refuses one, the machine's own is used.
"""

from __future__ import annotations

import ctypes
import os
import threading
from contextlib import suppress
from pathlib import Path

FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432  # asm-generic/unistd.h, Linux 5.2; on all machines
CLOEXEC, CREATE = 1, 6  # linux/mount.h
FILES = 1_000  # that are looked for on one mount
MACHINES_OWN = Path("/proc")


class _Mount:
    """The mount in use; threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._left, self._is_refused = 0, False

    def open(self, path: str, flags: int, files: int) -> int:
        with self._lock:
            return os.open(path, flags | os.O_CLOEXEC, dir_fd=self._folder(files))

    def forget(self) -> None:
        """Make the lock anew in a child after a fork, as the thread that held it isn't there."""
        self._lock = threading.Lock()

    def _folder(self, files: int) -> int:
        if self._fd is None or (self._left <= 0 and not self._is_refused):
            self._renew()
        self._left -= files
        assert self._fd is not None
        return self._fd

    def _renew(self) -> None:
        before, self._left = self._fd, FILES
        try:
            self._fd = _mount()
        except OSError:
            self._is_refused = True
            self._fd = os.open(MACHINES_OWN, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if before is not None:
            with suppress(OSError):
                os.close(before)


def _mount() -> int:
    """Return a new mount of proc, for this process's PID namespace, as a descriptor.

    Raises:
        OSError: It is refused.
    """
    context = _system_call(FSOPEN, b"proc", CLOEXEC)
    try:
        _system_call(FSCONFIG, context, CREATE, None, None, 0)
        return _system_call(FSMOUNT, context, CLOEXEC, 0)
    finally:
        os.close(context)


def _system_call(*arguments: object) -> int:
    found = int(_LIBC.syscall(*arguments))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


_LIBC = ctypes.CDLL(None, use_errno=True)
_MOUNT = _Mount()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_MOUNT.forget)


def open_file(path: str, flags: int, files: int = 1) -> int:
    """Open a file below /proc in the calling thread's namespaces. `path` is relative to /proc.

    If it is a folder, `files` is how many files will be looked for in it.
    """
    return _MOUNT.open(path, flags, files)

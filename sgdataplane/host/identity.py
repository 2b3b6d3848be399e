"""Which network namespace it is: told apart from every other, found again later, and never kept alive.

Owns the identity of namespaces that others made and may end at any time. Is given paths. Must not know ENIs.

A path says nothing for long: the process of /proc/<pid>/ns/net ends, its number is used again, and so is the inode of
a namespace that is gone. The kernel's cookie (SO_NETNS_COOKIE, Linux 5.14) is given once for as long as the machine
runs. Nothing is bound or held open between two calls, so a namespace ends when its container does.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sgdataplane.errors import HostError, UnsupportedError
from sgdataplane.host import netns

SO_NETNS_COOKIE = 71  # asm-generic/socket.h
MACHINE = "/proc/1/ns/net"


@dataclass(frozen=True, slots=True)
class Identity:
    """`cookie` is never given twice. `inode` is, but shows without entering a namespace that it is another one."""

    inode: int
    cookie: int


@contextmanager
def held(path: str) -> Iterator[str]:
    """Another path to the namespace, that leads to it while the block runs, whatever becomes of `path`.

    HostError if there is nothing, or no network namespace.
    """
    fd = _open(path)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _open(path: str) -> int:
    try:
        if os.stat(path).st_dev != os.stat(netns.OWN_NETNS).st_dev:  # opening a pipe would wait for its other end
            raise HostError(path, "it is no network namespace")
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(path, error.strerror or str(error)) from error


def identity_of(path: str) -> Identity:
    """Of a path that is held. HostError if it is no network namespace."""
    try:
        with netns.inside(path), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            cookie = probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
    except HostError as error:  # setns() knows what it is
        raise HostError(path, "it is no network namespace") from error
    except OSError as error:
        raise UnsupportedError("telling network namespaces apart (SO_NETNS_COOKIE)", "Linux 5.14 or newer") from error
    return Identity(os.stat(path).st_ino, int.from_bytes(cookie, sys.byteorder))


def is_own(path: str) -> bool:
    """Whether it is the namespace that we run in, or the machine's own, as far as that can be seen."""
    seen = {_inode(netns.OWN_NETNS)}
    with suppress(PermissionError):
        seen.add(_inode(MACHINE))
    return Path(path).stat().st_ino in seen


@contextmanager
def found(identity: Identity, hint: str) -> Iterator[str | None]:
    """A path to the namespace that is held while the block runs; None if it is gone.

    Looked for where it was (`hint`), under /run/netns, and where processes are. A namespace that only an open file or a
    link elsewhere keeps alive counts as gone: no process is in it. HostError if that can't be told, as we may not look
    everywhere.
    """
    for path in _candidates(identity.inode, hint):
        try:
            fd = _open(path)
        except HostError:  # the process ended meanwhile
            continue
        try:
            place = f"/proc/self/fd/{fd}"
            if identity_of(place) == identity:
                yield place
                return
        finally:
            os.close(fd)
    yield None


def is_there(identity: Identity, hint: str) -> bool:
    """Whether the namespace is still to be found."""
    with found(identity, hint) as place:
        return place is not None


def _candidates(inode: int, hint: str) -> Iterator[str]:
    hidden = ""
    for path in _places(hint):
        try:
            if _inode(path) == inode:
                yield path
        except PermissionError:
            hidden = path
    if hidden:
        raise HostError(hidden, "we may not look at it (CAP_SYS_PTRACE), so a namespace may be there that seems gone")


def _places(hint: str) -> Iterator[str]:
    yield hint
    yield from (str(netns.path_of(name)) for name in netns.list_names() if netns.NAME.fullmatch(name))
    # process 1 is in the machine's own, which nothing is attached in
    yield from (f"/proc/{entry}/ns/net" for entry in sorted(os.listdir("/proc")) if entry.isdigit() and entry != "1")


def _inode(path: str) -> int:
    """0 if there is no network namespace. PermissionError if we may not look."""
    try:
        found = os.stat(path)
    except PermissionError:
        raise
    except OSError:
        return 0
    return found.st_ino if found.st_dev == os.stat(netns.OWN_NETNS).st_dev else 0

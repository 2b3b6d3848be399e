"""Identities of network namespaces: one tells a namespace from every other, and finds it again later.

It doesn't keep the namespace alive. Owns the identity of namespaces that others make and end at any time. Its input is
paths. Must not know ENIs.

A path soon leads elsewhere: the process of /proc/<pid>/ns/net ends and its number is used again, as is the inode of a
namespace that has ended. The kernel's cookie (SO_NETNS_COOKIE, Linux 5.14) is never used again before the next boot.
Nothing stays bound or open between two calls, so a namespace ends when its container does.
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
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a network namespace."""

    inode: int  # not unique, but it can be compared without entering the namespace
    cookie: int  # unique until the next boot


def boot_id() -> str:
    """Return the id of this boot, while which cookies are valid; "" if the kernel doesn't tell."""
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


@contextmanager
def hold_namespace(path: str) -> Iterator[str]:
    """Yield another path to the namespace, which leads to it while the block runs, whatever becomes of `path`.

    Raises:
        HostError: There is nothing at `path`, or no network namespace.
    """
    fd = _open(path)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _open(path: str) -> int:
    try:
        if os.stat(path).st_dev != os.stat(netns.OWN_NETNS).st_dev:  # opening a pipe would wait for its other end
            raise HostError(path, "not a network namespace")
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(path, error.strerror or str(error)) from error


def identity_of(path: str) -> Identity:
    """Return the identity of the namespace at a path that is held.

    Raises:
        HostError: It is no network namespace.
        UnsupportedError: The kernel has no cookies.
    """
    try:
        with netns.inside(path), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            cookie = probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
    except HostError as error:  # setns() knows what it is
        raise HostError(path, "not a network namespace") from error
    except OSError as error:
        raise UnsupportedError("telling network namespaces apart (SO_NETNS_COOKIE)", "Linux 5.14 or newer") from error
    return Identity(os.stat(path).st_ino, int.from_bytes(cookie, sys.byteorder))


def is_own(path: str) -> bool:
    """Whether it is the namespace that we run in, or the machine's own if we may look at that."""
    seen = {_inode(netns.OWN_NETNS)}
    with suppress(PermissionError):
        seen.add(_inode(MACHINE))
    return Path(path).stat().st_ino in seen


@contextmanager
def find_namespace(identity: Identity, hint: str) -> Iterator[str | None]:
    """Yield a path to the namespace, held while the block runs; None if the namespace has ended.

    It is looked for where it was (`hint`), under /run/netns, and in /proc. A namespace that only an open file or a
    mount elsewhere keeps alive counts as ended: no process is in it.

    Raises:
        HostError: We may not look everywhere.
    """
    for path in _candidates(identity.inode, hint):
        try:
            fd = _open(path)
        except HostError:  # the process has ended meanwhile
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
    """Whether `find_namespace` would find the namespace."""
    with find_namespace(identity, hint) as place:
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
        raise HostError(
            hidden, "we may not look at it (CAP_SYS_PTRACE), so we can't tell whether the namespace has ended"
        )


def _places(hint: str) -> Iterator[str]:
    yield hint
    yield from (str(netns.path_of(name)) for name in netns.list_names() if netns.NAME.fullmatch(name))
    # process 1 is in the machine's own namespace, in which nothing is attached
    yield from (f"/proc/{entry}/ns/net" for entry in sorted(os.listdir("/proc")) if entry.isdigit() and entry != "1")


def _inode(path: str) -> int:
    """Return the inode of the network namespace at a path; 0 if there is none.

    Raises:
        PermissionError: We may not look.
    """
    try:
        found = os.stat(path)
    except PermissionError:
        raise
    except OSError:
        return 0
    return found.st_ino if found.st_dev == os.stat(netns.OWN_NETNS).st_dev else 0

"""The sockets of netfilter: opened, kept for later use, and closed by other threads.

Owns when a socket is closed. Its input is calls and network namespaces. Must not know what is sent.

Closing a netfilter socket waits until the kernel has freed everything that was deleted in its namespace, one RCU grace
period later (nft_rcv_nl_event; some 16 ms), and commits there wait for it. So a socket that is no longer used is kept
for the next one who needs a socket in its namespace, and closed once nobody has needed one there for a moment. By then
the kernel has mostly freed all. Other threads close it, so nobody waits. A kept socket keeps its namespace alive.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from sgdataplane.errors import HostError, UnsupportedError, module_needed
from sgdataplane.host import netns
from sgdataplane.host.netlink import SOL_NETLINK, open_netlink

NETLINK_NETFILTER = 12
CAP_ACK, EXT_ACK = 10, 11  # errors quote no request, and say what in it was wrong
SO_SNDBUFFORCE = 32
SIOCGSKNS = 0x894C  # linux/sockios.h: a descriptor of a socket's network namespace
KEPT_S = 0.1
MAX_KEPT = 64
MAX_PENDING = 64  # each holds two descriptors and a thread, for long if others' commits are large
KEPT_THREADS = 2  # that make calls for others, and wait for more of them


@dataclass(slots=True)
class NetfilterSocket:
    """A netfilter socket."""

    socket: socket.socket
    namespace: int  # the inode of its network namespace
    sequence: int = 0  # the number of the last message that was sent by it
    room: int = field(init=False)  # how many bytes it takes in one piece

    def __post_init__(self) -> None:
        self.room = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2

    def make_room(self, size: int) -> None:
        """Make room for a batch of that size: the kernel takes one in one piece only."""
        if size > self.room:
            self.room = 2 * size
            self.socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, self.room)

    @property
    def is_clean(self) -> bool:
        """Whether nothing waits to be read, and no message was lost.

        Root of the namespace could send some.
        """
        try:
            self.socket.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False


def open_socket() -> NetfilterSocket:
    """Return a socket in the network namespace that the calling thread is in: a kept one, or a new one.

    Raises:
        OSError: It can't be opened.
        UnsupportedError: The kernel has no nfnetlink.
    """
    namespace = os.stat(netns.OWN_NETNS).st_ino
    return _KEEPER.take(namespace) or _open(namespace)


def _open(namespace: int) -> NetfilterSocket:
    try:
        made = open_netlink(NETLINK_NETFILTER)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:
            raise UnsupportedError("netfilter", module_needed("nfnetlink")) from error
        raise
    for option in (CAP_ACK, EXT_ACK):
        made.setsockopt(SOL_NETLINK, option, 1)
    return NetfilterSocket(made, namespace)


def renew(held: NetfilterSocket) -> NetfilterSocket:
    """Return another socket in the namespace of this one, which is closed."""
    import fcntl  # noqa: PLC0415  # Unix only

    fd = fcntl.ioctl(held.socket, SIOCGSKNS)
    try:
        with netns.inside(f"/proc/self/fd/{fd}"):
            made = _open(held.namespace)
    finally:
        os.close(fd)
    close_socket(held)
    return made


def keep_socket(held: NetfilterSocket) -> None:
    """Keep a socket for later use in its namespace. Nothing that it was asked may be unanswered."""
    _KEEPER.keep(held)


def close_socket(held: NetfilterSocket) -> None:
    """Have another thread close a socket."""
    call_aside(held.socket.close)


class _Keeper:
    """The sockets that nobody uses now; the one that was used last is the last."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._kept: list[NetfilterSocket] = []
        self._until = dict[int, float]()  # when those of a namespace are closed
        self._is_watched = False

    def take(self, namespace: int) -> NetfilterSocket | None:
        """Return a socket of that namespace, if there is one; else None."""
        while (found := self._find_socket(namespace)) is not None:
            if found.is_clean:
                return found
            close_socket(found)
        return None

    def _find_socket(self, namespace: int) -> NetfilterSocket | None:
        with self._changed:
            if namespace in self._until:
                self._until[namespace] = time.monotonic() + KEPT_S
                for number in range(len(self._kept) - 1, -1, -1):
                    if self._kept[number].namespace == namespace:
                        return self._kept.pop(number)
        return None

    def keep(self, held: NetfilterSocket) -> None:
        """Keep a socket.

        All of a namespace are closed together: closing one while others work there would hold their commits up.
        """
        with self._changed:
            self._kept.append(held)
            self._until[held.namespace] = time.monotonic() + KEPT_S
            self._is_watched = self._is_watched or self._begins()
            room = MAX_KEPT if self._is_watched else 0
            gone = [self._kept.pop(0) for _ in range(len(self._kept) - room)]
            if len(self._kept) == 1:
                self._changed.notify()
        for one in gone:
            close_socket(one)

    def _begins(self) -> bool:
        """Start the thread that closes sockets, and return whether there was memory for it."""
        try:
            threading.Thread(target=self._watch, name="nfsocket", daemon=True).start()
        except RuntimeError:
            return False
        return True

    def _watch(self) -> None:
        _leave()
        while True:
            for held in self._wait_for_ended():
                close_socket(held)

    def _wait_for_ended(self) -> list[NetfilterSocket]:
        """Wait until the time of some is over, and take these out."""
        with self._changed:
            self._changed.wait_for(lambda: self._kept)
            self._changed.wait(max(min(self._until.values()) - time.monotonic(), 0))
            now = time.monotonic()
            ended = {namespace for namespace, until in self._until.items() if until <= now}
            for namespace in ended:
                del self._until[namespace]
            gone = [held for held in self._kept if held.namespace in ended]
            self._kept = [held for held in self._kept if held.namespace not in ended]
        return gone


class _Aside:
    """Threads that make calls for others. If a burst of calls has needed many, they end with it."""

    def __init__(self) -> None:
        self._room = threading.BoundedSemaphore(MAX_PENDING)
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._pending = self._threads = 0  # calls; threads that the pool may have

    def call(self, call: Callable[[], object]) -> None:
        """Have a thread call it. Wait while MAX_PENDING calls are pending.

        Raises:
            RuntimeError: The process is ending, or there is no memory for a thread.
        """
        self._room.acquire()
        try:
            with self._lock:
                self._pool = self._pool or ThreadPoolExecutor(MAX_PENDING, "aside", initializer=_leave)
                future = self._pool.submit(call)
                self._pending += 1
                self._threads = max(self._threads, self._pending)
        except RuntimeError:
            self._room.release()
            raise
        future.add_done_callback(self._note_end)

    def _note_end(self, _: object) -> None:
        with self._lock:
            self._pending -= 1
            if self._pool is not None and not self._pending and self._threads > KEPT_THREADS:
                self._pool.shutdown(wait=False)
                self._pool, self._threads = None, 0
        self._room.release()


_KEEPER = _Keeper()
_ASIDE = _Aside()


def call_aside(call: Callable[[], object]) -> None:
    """Have another thread call it soon, and before the process ends. Waits while MAX_PENDING calls are pending."""
    try:
        _ASIDE.call(call)
    except RuntimeError:
        call()


def _leave() -> None:
    """Leave the namespace in which the caller started this thread; the thread would keep it alive."""
    with suppress(HostError):  # without the privilege, nobody is in another namespace
        netns.enter_nowhere()


def _forget() -> None:
    """Forget threads and sockets in a child after a fork, as they are the parent's."""
    global _KEEPER, _ASIDE  # noqa: PLW0603
    _KEEPER = _Keeper()
    _ASIDE = _Aside()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget)

"""The live view of what is denied, for everybody who asks the process that records history.

Owns that socket: a file that only its owner can use, beside the history. The kernel allows one listener in a namespace,
and the recorder is one; so `sgdp log` asks it. Must not know how packets are shown.

Each message is a pickled pair: the place's name, and a Denied, Unlogged or Forged. A client that doesn't keep up misses
some of them.
"""

from __future__ import annotations

import errno
import os
import pickle
import select
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

from sgdataplane.history.link import loads
from sgdataplane.observe.denied import Denied, Forged, Unlogged

NAME = "history.sock"
MAX_CLIENTS, MAX_MESSAGE = 8, 1 << 16
REST_S = 1.5  # after which the recorder has told everything
Entry = Denied | Unlogged | Forged


class LiveServer:
    """The recorder's end. Nobody waits for a client."""

    def __init__(self, path: Path) -> None:
        """Make the socket. OSError if that can't be done."""
        path.unlink(missing_ok=True)
        self._path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            self._sock.bind(str(path))
        except BaseException:
            self._sock.close()
            raise
        finally:
            os.umask(before)
        self._sock.listen(MAX_CLIENTS)
        self._clients: list[socket.socket] = []

    def fileno(self) -> int:
        """Return the descriptor of the socket that clients connect to, for a selector."""
        return self._sock.fileno()

    @property
    def has_clients(self) -> bool:
        """Whether anybody follows."""
        return bool(self._clients)

    def accept(self) -> None:
        """Take the client that waits; beyond MAX_CLIENTS, refuse it."""
        with suppress(OSError):
            client, _ = self._sock.accept()
            client.setblocking(False)
            if len(self._clients) < MAX_CLIENTS:
                self._clients.append(client)
            else:
                client.close()

    def send(self, named: str, entry: Entry) -> None:
        """Send an entry of the place of that name to all clients; one that doesn't keep up misses it."""
        if not self._clients:
            return
        data = pickle.dumps((named, entry), pickle.HIGHEST_PROTOCOL)
        for client in tuple(self._clients):
            try:
                client.send(data, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                pass
            except OSError:
                self._drop(client)

    def forget_gone(self) -> None:
        """Drop clients that have closed."""
        for client in tuple(self._clients):
            with suppress(BlockingIOError):
                try:
                    is_over = not client.recv(1)
                except BlockingIOError:
                    continue
                except OSError:
                    is_over = True
                if is_over:
                    self._drop(client)

    def close(self) -> None:
        """Drop all clients, and remove the socket."""
        for client in tuple(self._clients):
            self._drop(client)
        self._sock.close()
        with suppress(OSError):
            self._path.unlink()

    def _drop(self, client: socket.socket) -> None:
        self._clients.remove(client)
        client.close()


class LiveFollow:
    """A client that follows what is denied from now on in places where the recorder listens.

    It is used as observe.follow.Follow is.
    """

    def __init__(self, link: socket.socket, names: Iterable[str]) -> None:
        self._link, self._names = link, frozenset(names)
        self._since = time.time()
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def entries(self, until: float | None) -> Iterator[tuple[str, Entry]]:
        """Yield the place's name and what was denied, until that time or until nobody records any more.

        `until` is by time.monotonic(); None is without end.
        """
        while not self._is_over and (until is None or time.monotonic() < until):
            left = None if until is None else max(0.0, until - time.monotonic())
            if select.select([self._link], [], [], left)[0]:
                yield from self._receive()

    def rest(self) -> Iterator[tuple[str, Entry]]:
        """Yield what was denied until now and wasn't yielded yet: the recorder tells it once a second."""
        ended = time.time()
        for named, entry in self.entries(time.monotonic() + REST_S):
            if entry.seconds <= ended:
                yield named, entry

    def _receive(self) -> Iterator[tuple[str, Entry]]:
        """Yield what has come."""
        while True:
            try:
                data = self._link.recv(MAX_MESSAGE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._is_over = True
                return
            named, entry = loads(data)
            if named in self._names and entry.seconds >= self._since:
                yield named, entry


def connect(folder: Path) -> socket.socket | None:
    """Return a socket to the recorder of this history; None if nobody records."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        link.connect(str(folder / NAME))
    except OSError as error:
        link.close()
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
            return None
        raise
    return link

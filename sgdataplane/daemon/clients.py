"""Clients of a listening socket: how many, how much they may say, and how long they may take.

Owns the connections, none of which can make its server wait. Is given a socket, a selector, and what answers. Must not
know what is said.

Where all places are taken and another one comes, the one goes that has been there longest of those who are still
asking, or, if none is, of those who are still reading; but each has SHORTEST_S, so nobody waits longer for slow ones.
"""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass

from sgdataplane.daemon.protocol import MAX_CLIENTS, MAX_REQUEST_BYTES, MAX_SECONDS

CHUNK = 1 << 16
SHORTEST_S = 0.2
NO_ROOM_S = 1.0  # the door stays readable when there is no descriptor left for who knocks
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# The answer to what a client has said so far, which is at most one byte more than it may; None: that is not all yet.
Reply = Callable[[socket.socket, bytes], bytes | None]


@dataclass(slots=True)
class _Client:
    door: socket.socket
    since: float  # it came, or was answered
    asked: bytes = b""
    answer: bytes = b""
    sent: int = 0


class Clients:
    """Served in the caller's loop, by the selector: each key's data is what to call. Each gets one answer, then its
    connection is closed."""

    def __init__(
        self, door: socket.socket, selector: selectors.BaseSelector, reply: Reply, clock: Callable[[], float]
    ) -> None:
        """`door` is listening, and doesn't block; it stays the caller's."""
        self._door, self._selector, self._reply, self._clock = door, selector, reply, clock
        self._clients: dict[int, _Client] = {}
        self._opens: float | None = None  # when to accept again
        selector.register(door, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        for client in tuple(self._clients.values()):
            self._drop(client)
        if self._opens is None:
            self._selector.unregister(self._door)

    @property
    def wait_s(self) -> float | None:
        """How long until `expire` has something to do; None: nothing as yet."""
        moments = [client.since + MAX_SECONDS for client in self._clients.values()]
        if self._opens is not None:
            moments.append(self._opens)
        return max(0.0, min(moments) - self._clock()) if moments else None

    def expire(self) -> None:
        """Leave those that have taken too long; to be called when all that was ready has been served."""
        now = self._clock()
        for client in [client for client in self._clients.values() if client.since + MAX_SECONDS <= now]:
            self._drop(client)
        if self._opens is not None and self._opens <= now:
            if self._is_full and self._slowest.since + SHORTEST_S <= now:
                self._drop(self._slowest)
            self._open()

    @property
    def _is_full(self) -> bool:
        return len(self._clients) >= MAX_CLIENTS

    @property
    def _slowest(self) -> _Client:
        return min(self._clients.values(), key=lambda client: (bool(client.answer), client.since))

    def _open(self) -> None:
        if self._opens is not None:
            self._opens = None
            self._selector.register(self._door, selectors.EVENT_READ, self._accept)

    def _close_until(self, moment: float) -> None:
        """Others wait in the kernel's queue meanwhile."""
        self._opens = moment
        self._selector.unregister(self._door)

    def _accept(self) -> None:
        if self._is_full:
            self._close_until(self._slowest.since + SHORTEST_S)
            return
        try:
            door, _ = self._door.accept()
        except OSError as error:  # it went away again, or we have no room for it
            if error.errno in NO_ROOM:
                self._close_until(self._clock() + NO_ROOM_S)
            return
        door.setblocking(False)
        client = _Client(door, self._clock())
        self._clients[door.fileno()] = client
        self._selector.register(door, selectors.EVENT_READ, lambda: self._read(client))

    def _drop(self, client: _Client) -> None:
        del self._clients[client.door.fileno()]
        self._selector.unregister(client.door)
        client.door.close()
        self._open()

    def _read(self, client: _Client) -> None:
        try:
            data = client.door.recv(MAX_REQUEST_BYTES + 1 - len(client.asked))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.asked += data
        answer = self._reply(client.door, client.asked) if data else None
        if answer is not None:
            client.answer, client.since = answer, self._clock()  # what came before was our time, too
            self._selector.modify(client.door, selectors.EVENT_WRITE, lambda: self._write(client))
        elif not data:
            self._drop(client)

    def _write(self, client: _Client) -> None:
        try:
            client.sent += client.door.send(memoryview(client.answer)[client.sent : client.sent + CHUNK])
        except BlockingIOError:
            return
        except OSError:  # it went away
            client.sent = len(client.answer)
        if client.sent == len(client.answer):
            self._drop(client)

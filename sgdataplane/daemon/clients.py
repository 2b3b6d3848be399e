"""Clients of a listening socket: how many, how much they may say, and how long they may take.

Owns the connections, none of which can make its server wait. Is given a socket, a selector, and what answers. Must not
know what is said.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass

from sgdataplane.daemon.protocol import MAX_CLIENTS, MAX_REQUEST_BYTES, MAX_SECONDS

CHUNK = 1 << 16

# The answer to what a client has said so far, which is at most one byte more than it may; None: that is not all yet.
Reply = Callable[[socket.socket, bytes], bytes | None]


@dataclass(slots=True)
class _Client:
    door: socket.socket
    deadline: float
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
        self._is_accepting = False
        self._accept_if_room()

    def close(self) -> None:
        for client in tuple(self._clients.values()):
            self._drop(client)
        if self._is_accepting:
            self._selector.unregister(self._door)

    @property
    def wait_s(self) -> float | None:
        """How long until the first client's time is over; None without clients."""
        first = min((client.deadline for client in self._clients.values()), default=None)
        return None if first is None else max(0.0, first - self._clock())

    def expire(self) -> None:
        """Leave those that have taken too long."""
        for client in [client for client in self._clients.values() if client.deadline <= self._clock()]:
            self._drop(client)

    def _accept_if_room(self) -> None:
        """Others wait in the kernel's queue."""
        has_room = len(self._clients) < MAX_CLIENTS
        if has_room and not self._is_accepting:
            self._selector.register(self._door, selectors.EVENT_READ, self._accept)
        elif self._is_accepting and not has_room:
            self._selector.unregister(self._door)
        self._is_accepting = has_room

    def _accept(self) -> None:
        try:
            door, _ = self._door.accept()
        except OSError:  # it went away again, or we have no descriptor left
            return
        door.setblocking(False)
        client = _Client(door, self._clock() + MAX_SECONDS)
        self._clients[door.fileno()] = client
        self._selector.register(door, selectors.EVENT_READ, lambda: self._read(client))
        self._accept_if_room()

    def _drop(self, client: _Client) -> None:
        del self._clients[client.door.fileno()]
        self._selector.unregister(client.door)
        client.door.close()
        self._accept_if_room()

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
            client.answer = answer
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

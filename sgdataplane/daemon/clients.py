"""The clients of a listening socket: how many there may be, how much they may send, and how long they may take.

Owns the connections; none can make the server wait. Its input is a socket, a selector, and what answers. Must not know
what is said.

An answer may have to wait for something: then the client is asked for no more, and gets it when that has come, or when
its time is over.

If all places are taken and another client comes, the oldest client without an answer is dropped, or, if all have one,
the oldest that is still reading. A client whose answer waits gets it then. Each client has at least SHORTEST_S, so a
new one waits no longer for slow ones.
"""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

MAX_REQUEST_BYTES = 4096
MAX_SECONDS = 5.0
MAX_CLIENTS = 16
CHUNK = 1 << 16
SHORTEST_S = 0.2
NO_ROOM_S = 1.0  # without a free descriptor the socket stays readable, so we pause
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# Returns the answer to what a client has sent so far (at most one byte too many). None: the request isn't complete, or
# its answer has to wait. `is_last`: the client can't wait any longer.
Reply = Callable[[socket.socket, bytes, bool], bytes | None]


@dataclass(slots=True)
class _Client:
    """One client's connection."""

    sock: socket.socket
    since: float  # when it came, or was answered
    asked: bytes = b""  # what it has sent
    answer: bytes = b""  # what it gets; b"" until it has asked
    sent: int = 0  # bytes of the answer that are sent


class Clients:
    """The clients of one socket, which are served in the caller's loop.

    Each key's data in the selector is what to call. A client gets one answer, then its connection is closed.
    """

    def __init__(
        self, listener: socket.socket, selector: selectors.BaseSelector, reply: Reply, clock: Callable[[], float]
    ) -> None:
        """Begin to accept clients. `listener` listens and doesn't block. It remains the caller's."""
        self._listener, self._selector, self._reply, self._clock = listener, selector, reply, clock
        self._clients: dict[int, _Client] = {}
        self._opens: float | None = None  # when to accept again
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Drop all clients. The listening socket stays open."""
        for client in tuple(self._clients.values()):
            self._drop(client)
        if self._opens is None:
            self._selector.unregister(self._listener)

    @property
    def wait_s(self) -> float | None:
        """The seconds until `expire` has something to do; None if there is nothing."""
        moments = [client.since + MAX_SECONDS for client in self._clients.values()]
        if self._opens is not None:
            moments.append(self._opens)
        return max(0.0, min(moments) - self._clock()) if moments else None

    def expire(self) -> None:
        """Drop clients that have taken too long. Call it after serving all that was ready."""
        now = self._clock()
        for client in [client for client in self._clients.values() if client.since + MAX_SECONDS <= now]:
            self._finish(client)
        if self._opens is not None and self._opens <= now:
            if self._is_full and self._slowest.since + SHORTEST_S <= now:
                self._finish(self._slowest)
            self._open()

    def answer_waiting(self) -> None:
        """Answer the clients whose answer waited for what has come now."""
        for client in [client for client in self._clients.values() if not client.answer]:
            self._answer_if_due(client, is_last=False)

    @property
    def _is_full(self) -> bool:
        return len(self._clients) >= MAX_CLIENTS

    @property
    def _slowest(self) -> _Client:
        return min(self._clients.values(), key=lambda client: (bool(client.answer), client.since))

    def _open(self) -> None:
        if self._opens is not None:
            self._opens = None
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _close_until(self, moment: float) -> None:
        """Accept nobody until that moment. New clients wait in the kernel's queue."""
        self._opens = moment
        self._selector.unregister(self._listener)

    def _accept(self) -> None:
        if self._is_full:
            self._close_until(self._slowest.since + SHORTEST_S)
            return
        try:
            sock, _ = self._listener.accept()
        except OSError as error:  # it has gone again, or we have no room for it
            if error.errno in NO_ROOM:
                self._close_until(self._clock() + NO_ROOM_S)
            return
        sock.setblocking(False)
        client = _Client(sock, self._clock())
        self._clients[sock.fileno()] = client
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._read(client))

    def _finish(self, client: _Client) -> None:
        """Answer a client that waits, and drop any other."""
        if client.answer or not self._answer_if_due(client, is_last=True):
            self._drop(client)

    def _answer_if_due(self, client: _Client, *, is_last: bool) -> bool:
        """Begin to answer a client, if its answer is due; return whether it is."""
        answer = self._reply(client.sock, client.asked, is_last)
        if answer is None:
            return False
        client.answer, client.since = answer, self._clock()  # its time to read begins now
        self._selector.modify(client.sock, selectors.EVENT_WRITE, lambda: self._write(client))
        return True

    def _drop(self, client: _Client) -> None:
        del self._clients[client.sock.fileno()]
        self._selector.unregister(client.sock)
        with suppress(OSError):  # it has gone
            client.sock.shutdown(socket.SHUT_RDWR)  # a helper (attach/helper.py) may have the connection, too
        client.sock.close()
        self._open()

    def _read(self, client: _Client) -> None:
        try:
            data = client.sock.recv(MAX_REQUEST_BYTES + 1 - len(client.asked))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.asked += data
        if not data or len(client.asked) > MAX_REQUEST_BYTES:
            self._finish(client)
        else:
            self._answer_if_due(client, is_last=False)

    def _write(self, client: _Client) -> None:
        try:
            client.sent += client.sock.send(memoryview(client.answer)[client.sent : client.sent + CHUNK])
        except BlockingIOError:
            return
        except OSError:  # it has gone
            client.sent = len(client.answer)
        if client.sent == len(client.answer):
            self._drop(client)

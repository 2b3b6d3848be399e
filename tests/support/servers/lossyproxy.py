"""A proxy that can swallow what its server says: what was asked has happened, and nobody hears of it.

Owns its sockets and threads.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class LossyProxy:
    """Listens on this loopback. While it is deaf, what the server sends is lost. The server isn't told, or it might not
    go on with what it was asked."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self._is_deaf = threading.Event()
        self.lost = threading.Event()  # something was
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def go_deaf(self) -> None:
        self._is_deaf.set()

    def hear(self) -> None:
        """In connections that are new: those in which something is missing end."""
        self._is_deaf.clear()
        self._end(self._open)

    def close(self) -> None:
        self._end([self._door, *self._open])

    def _end(self, sockets: list[socket.socket]) -> None:
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                server = socket.create_connection(self._server)
                self._open += [client, server]
                threading.Thread(target=self._carry, args=(client, server), daemon=True).start()
                threading.Thread(target=self._carry, args=(server, client, True), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, is_answer: bool = False) -> None:
        with suppress(OSError):
            while octets := source.recv(1 << 16):
                if is_answer and self._is_deaf.is_set():
                    self.lost.set()
                else:
                    target.sendall(octets)
        self._end([source, target])

"""A proxy that can swallow what its server says: what was asked has happened, and nobody hears of it.

Owns its sockets and threads.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class LossyProxy:
    """Listens on this loopback. While `is_deaf`, what the server sends is lost, and the connection ends."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self.is_deaf = threading.Event()
        self.lost = threading.Event()  # something was
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._door, *self._open):
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
                if is_answer and self.is_deaf.is_set():
                    self.lost.set()
                    break
                target.sendall(octets)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

"""The agent's control socket, which the test's own thread serves step by step."""

from __future__ import annotations

import selectors
import socket
from pathlib import Path

from sgdataplane.daemon.control import ControlRequest, ControlServer, Loop, Request, spell_answer

LARGE = "x" * (4 << 20)  # more than a socket takes at once


class Bench:
    def __init__(self, path: Path) -> None:
        self.path, self.now = path, 0.0
        self.asked: list[Request] = []
        self.cycles = 7
        self.selector = selectors.DefaultSelector()
        self.loop = Loop(self.selector, lambda: self.now, lambda: self.cycles)
        self.server = ControlServer(path, self.loop, self.answer)

    def answer(self, asked: ControlRequest) -> bytes:
        self.asked.append(asked.request)
        return spell_answer(cycle=1, text=LARGE if asked.request is Request.STATUS else "")

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(str(self.path))
        client.setblocking(False)
        return client

    def serve(self) -> None:
        """Serve until nothing is ready."""
        while ready := self.selector.select(0):
            for key, _ in ready:
                key.data()
            if all(key.events == selectors.EVENT_WRITE for key, _ in ready):
                return

    def read(self, client: socket.socket) -> bytes:
        """Read everything until the server closes."""
        data = b""
        for _ in range(100_000):
            self.serve()
            try:
                part = client.recv(1 << 16)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return data
            if not part:
                return data
            data += part
        raise AssertionError("the server doesn't close")

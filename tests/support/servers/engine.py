"""In the place of a container engine: Docker's Engine API at a socket, as far as it is asked for.

Owns what it answers and tells, whatever that is. Must not know what is expected of who asks.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from urllib.parse import unquote

import pytest

from sgdataplane.attach.containers import VARIABLES

ID = "0123456789abcdef" * 4


def line_of(name: object, identifier: object = ID) -> bytes:
    """What is told of a container that starts."""
    actor = {"ID": identifier, "Attributes": {"image": "tiny", "name": name}}
    return json.dumps({"Type": "container", "Action": "start", "Actor": actor}).encode() + b"\n"


def running(pid: object) -> str:
    """The answer to who asks for a container with that process."""
    return json.dumps({"Id": ID, "State": {"Running": pid != 0, "Pid": pid}})


class Engine:
    """`told`: lines for who follows. `answers`: status and text, by name. `asked`: the paths of all requests."""

    def __init__(self, path: Path) -> None:
        self.path, self.told = path, list[bytes]()
        self.answers: dict[str, tuple[int, str]] = {}
        self.asked: list[str] = []
        self._changed = threading.Condition()
        self._dropped = 0
        self._server = _Server(str(path), _Handler)
        self._server.engine = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def follows(self) -> int:
        """How often somebody has begun to follow."""
        return sum(path.startswith("/events?") for path in self.asked)

    def answer(self, pid: object, name: str = "web") -> None:
        self.answers[name] = 200, running(pid)

    def tell(self, *lines: bytes) -> None:
        with self._changed:
            self.told += lines
            self._changed.notify_all()

    def drop(self) -> None:
        """Those who follow see its end."""
        with self._changed:
            self._dropped += 1
            self.told.clear()
            self._changed.notify_all()

    def stream(self) -> Iterator[bytes]:
        """To one who follows."""
        read, at = 0, self._dropped
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._dropped != at or len(self.told) > read)  # noqa: B023
                if self._dropped != at:
                    return
                lines = self.told[read:]
            read += len(lines)
            yield from lines

    def close(self) -> None:
        self.drop()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.path.unlink()


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    engine: Engine


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """As podman: an event's headers come with the first event."""
        engine = self.server.engine
        engine.asked.append(self.path)
        if not self.path.startswith("/events?"):
            name = unquote(self.path.removeprefix("/containers/").removesuffix("/json"))
            status, text = engine.answers.get(name, (404, json.dumps({"message": f"no such container: {name}"})))
            self._send(status, "Content-Length", str(len(text.encode())))
            self.wfile.write(text.encode())
            return
        self.close_connection = True
        with suppress(OSError):  # nobody follows any more
            for number, line in enumerate(engine.stream()):
                if number == 0:
                    self._send(200, "Transfer-Encoding", "chunked")
                self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))

    def _send(self, status: int, header: str, value: str) -> None:
        self.send_response(status)
        self.send_header(header, value)
        self.end_headers()

    def address_string(self) -> str:
        return "somebody"

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextmanager
def engine_at(path: Path) -> Iterator[Engine]:
    engine = Engine(path)
    try:
        yield engine
    finally:
        engine.close()


def only(monkeypatch: pytest.MonkeyPatch, folder: Path, **paths: Path) -> None:
    """The only engines that anybody asks; others are nowhere."""
    for engine, variable in VARIABLES.items():
        monkeypatch.setenv(variable, f"unix://{paths.get(engine, folder / 'nowhere.sock')}")

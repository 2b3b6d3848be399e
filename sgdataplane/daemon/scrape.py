"""The server of metrics: HTTP on an address of this host, in a thread of its own.

Owns the listening socket, the thread, the part of HTTP that is understood: one GET /metrics, one answer, close; and for
how long a text is served again. Its input is what makes the text. Must not know what is in it. clients.py limits
clients, sizes and times.

A text is reused for ten times as long as it took to make, so that making texts takes at most a tenth of one processor,
however many ask (decision 033).
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

from sgdataplane.daemon import logs
from sgdataplane.daemon.clients import MAX_CLIENTS, MAX_REQUEST_BYTES, Clients

PATH = b"/metrics"
PLAIN = "text/plain; charset=utf-8"
KEPT_S, KEPT_TIMES = 0.1, 10.0

MakeText = Callable[[], tuple[str, bytes] | None]  # the content type, and the text; None: there is none now


class KeptText:
    """The text that `make` makes, as it is or was a moment ago. `kind` is its content type. One thread may use it."""

    def __init__(self, make: Callable[[], bytes], kind: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self._kind, self._clock = make, kind, clock
        self._text, self._until = b"", float("-inf")

    def __call__(self) -> tuple[str, bytes] | None:
        """Return the content type and the text; None if making it failed, and the log says why."""
        started = self._clock()
        if started >= self._until:
            try:
                self._text = self._make()
            except Exception:  # noqa: BLE001  # a bug, or no memory; the next attempt may succeed
                self._text = b""
                logs.LOGGER.exception("metrics-failed")
            now = self._clock()
            self._until = now + max(KEPT_S, KEPT_TIMES * (now - started))
        return (self._kind, self._text) if self._text else None


def reply(asked: bytes, make_text: MakeText) -> bytes | None:
    """Return the answer to what a client has sent so far; None if the request isn't complete."""
    head, end, _ = asked.partition(b"\r\n\r\n")
    if not end:
        return _refusal("431 Request Header Fields Too Large") if len(asked) > MAX_REQUEST_BYTES else None
    words = head.partition(b"\r\n")[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return _refusal("400 Bad Request")
    if words[0] != b"GET":
        return _refusal("405 Method Not Allowed", "Allow: GET")
    if words[1].partition(b"?")[0] != PATH:
        return _refusal("404 Not Found")
    text = make_text()
    return _refusal("500 Internal Server Error") if text is None else _page(*text)


@lru_cache(maxsize=1)
def _page(kind: str, text: bytes) -> bytes:
    """Return the answer with the text. It is made once for each text, as it is large and many clients may wait."""
    return _answer("200 OK", kind, text)


def _refusal(status: str, *headers: str) -> bytes:
    return _answer(status, PLAIN, f"{status}; expected GET {PATH.decode()}\n".encode(), *headers)


def _answer(status: str, kind: str, body: bytes, *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close")
    return "".join(f"{line}\r\n" for line in (*lines, *headers, "")).encode() + body


class MetricsServer:
    """A server that serves nowhere until `follow` names an address."""

    def __init__(self, make_text: MakeText) -> None:
        self._make_text = make_text
        self._at = ""
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._has_ended = threading.Event()

    def follow(self, at: str) -> str:
        """Serve at this address and port ("": nowhere) from now on, and nowhere else; return why that fails, or "".

        It does nothing if it serves there already, so call it often. It never waits.
        """
        is_serving = self._thread is not None and self._thread.is_alive()
        if at == self._at and is_serving == bool(at):
            return ""
        self.close()
        if not at:
            return ""
        try:
            self._listener, self._has_ended = _listen(at), threading.Event()
            arguments = (self._listener, self._make_text, self._has_ended)
            thread = threading.Thread(target=_serve, args=arguments, name="metrics", daemon=True)
            thread.start()
        except (OSError, RuntimeError) as error:  # no such address, it is in use, or no more threads are allowed
            return f"{at}: {getattr(error, 'strerror', None) or error}"
        self._at, self._thread = at, thread
        return ""

    def close(self) -> None:
        """Free the address at once. The thread ends by itself, at the latest after a client's time."""
        self._at, self._thread = "", None
        self._has_ended.set()
        if self._listener is not None:
            with suppress(OSError):  # the thread has closed it
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener = None


def _listen(at: str) -> socket.socket:
    host, _, port = at.rpartition(":")
    host = host.strip("[]")
    listener = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC
    )
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a previous agent may linger
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # those that it accepts have it, too
        listener.bind((host, int(port)))
        listener.listen(MAX_CLIENTS)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _serve(listener: socket.socket, make_text: MakeText, has_ended: threading.Event) -> None:
    """Serve until the socket is shut down or something fails; then the next `follow` starts again."""
    with listener, selectors.DefaultSelector() as selector:
        clients = Clients(listener, selector, lambda _, asked, _is_last: reply(asked, make_text), time.monotonic)
        try:
            while not has_ended.is_set():
                for key, _ in selector.select(clients.wait_s):
                    key.data()
                clients.expire()
        except Exception:  # noqa: BLE001  # a bug, or no memory: the agent goes on
            logs.LOGGER.exception("serving-failed")
        finally:
            clients.close()

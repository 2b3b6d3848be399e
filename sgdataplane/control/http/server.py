"""The API's server: sockets, TLS, and how long a client may take.

Owns where it may listen (in plain HTTP on loopback only), the limits of a connection, and the end: whatever was begun
is answered. Must not know what is asked.

uvicorn limits neither the time of a head nor that of a client that doesn't read, and drops what a client has asked for
if that has sent its last. `ApiConnection` and `ApiServer` put that right.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import signal
import ssl
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, socket
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sgdataplane.control.http.api import JSON, Api
from sgdataplane.errors import EndpointError
from sgdataplane.host.certificates import require_private
from sgdataplane.visible import json_text, visible

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

MAX_CONNECTIONS, OTHER_FILES = 4_000, 256  # the latter: descriptors that the rest of the process may need
MAX_HEAD = 128 * 1024  # bytes: most clients put all parameters into the query
HEAD_S, WRITE_S, IDLE_S, HANDSHAKE_S = 10.0, 30.0, 60, 5.0
STOP_S = 40  # longer than a call may take
BACKLOG = 4096  # the kernel takes less, if net.core.somaxconn says so
# For how long a thread may keep the interpreter from others that want it. The loop wants it several times for each
# request, while a megabyte of a stranger's text is read in another thread.
SWITCH_S = 0.0005


@dataclass(frozen=True, slots=True)
class ListenAt:
    """The address and port to listen at; TLS if there are a certificate and its key."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self.host).is_loopback


def listen_at(text: str, certificate: Path | None = None, key: Path | None = None) -> ListenAt:
    """Read ADDRESS:PORT, or :PORT on loopback.

    Plain HTTP is allowed on loopback only, as others could read and change it elsewhere.

    Raises:
        ValueError: The text is something else, or plain HTTP isn't allowed there.
    """
    host, colon, port = text.rpartition(":")
    host = "127.0.0.1" if host in ("", "localhost") else host.removeprefix("[").removesuffix("]")
    try:
        at = ListenAt(host, int(port), certificate, key)
        is_loopback = at.is_loopback
        if not colon or not 0 <= at.port < 65536:
            raise ValueError
    except ValueError:
        raise ValueError(f"{visible(text)}: not an address and a port, such as 127.0.0.1:8080 or [::1]:8080") from None
    if (certificate is None) != (key is None):
        raise ValueError("TLS needs both --tls-cert and --tls-key")
    if certificate is None and not is_loopback:
        do = "give --tls-cert and --tls-key, or listen on 127.0.0.1 or [::1]"
        raise ValueError(f"{text}: plain HTTP is served on loopback only: {do}")
    return at


class Deadline:
    """A deadline for a connection: ends it if nobody calls that off in time."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float) -> None:
        """Start the timer, if it doesn't run yet."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    def call_off(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class ApiConnection(H11Protocol):
    """A connection of a client.

    The client has `HEAD_S` for each head that it has begun, and `WRITE_S` to take what we have sent. If there are too
    many connections, one that asks for nothing makes room.
    """

    most = MAX_CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time for the first head, and make room if there are too many connections (asyncio calls it)."""
        super().connection_made(transport)
        self._head, self._write = Deadline(transport), Deadline(transport)
        self._head.begin(HEAD_S)
        if len(self.connections) > self.most:
            others = (other for other in self.connections if isinstance(other, ApiConnection) and other is not self)
            next((other for other in others if other.asked is None), self).drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers (asyncio calls it)."""
        self._head.call_off()
        self._write.call_off()
        super().connection_lost(exc)

    def drop(self) -> None:
        """Close the connection, and count it no more at once.

        asyncio needs a moment to close it, and many others may come in that moment.
        """
        self.connections.discard(self)
        self.transport.abort()

    @property
    def asked(self) -> RequestResponseCycle | None:
        """The request that is being answered; None if there is none."""
        cycle: RequestResponseCycle | None = self.cycle
        return None if cycle is None or cycle.response_complete else cycle

    def data_received(self, data: bytes) -> None:
        """Pass bytes on, and start the time for a head that they begin (asyncio calls it)."""
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        """Start the time for the next head, if it has begun (uvicorn calls it)."""
        super().on_response_complete()
        self._watch_head()

    def _watch_head(self) -> None:
        """Start or stop the time for a head. It doesn't begin anew with each byte of the head."""
        if self.asked is None and self.conn.trailing_data[0]:
            self._head.begin(HEAD_S)
        else:
            self._head.call_off()

    def pause_writing(self) -> None:
        """Start the time in which the client must take what we have sent (asyncio calls it)."""
        super().pause_writing()
        self._write.begin(WRITE_S)

    def resume_writing(self) -> None:
        """Stop the time for the client to read (asyncio calls it)."""
        self._write.call_off()
        super().resume_writing()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep a connection whose client has closed its side until it is answered (asyncio calls it).

        In TLS that isn't possible, as it ends both ways. What waits for the client to go is told, because a client that
        has gone looks the same from here.
        """
        if self.asked is None or self.asked.more_body or self.scheme == "https":
            return False
        self.asked.keep_alive = False
        self.asked.message_event.set()
        return True

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are no HTTP, in JSON, unless an answer has begun (uvicorn calls it)."""
        if self.asked is None or not self.asked.response_started:
            self.transport.write(_bad_request(msg))
        self.transport.close()


def _bad_request(words: str) -> bytes:
    fields = {"RequestId": str(uuid.uuid4()).upper(), "HostId": "", "Code": "InvalidRequest", "Message": words}
    body = json_text(fields).encode()
    lines = ("HTTP/1.1 400 Bad Request", f"Content-Type: {JSON}", f"Content-Length: {len(body)}", "Connection: close")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode() + body


class ApiServer(uvicorn.Server):
    """The API's server, which listens as soon as it is made.

    `serve_forever` ends with SIGTERM or SIGINT, or once `should_exit` is set. The server then takes nothing new, and
    answers what was begun.

    Raises:
        EndpointError: It can't listen.
    """

    def __init__(self, api: Api, at: ListenAt) -> None:
        super().__init__(_config(api, at))
        self._api = api
        self._listener = _listening(at)
        self.url = _url(at, self._listener.getsockname()[1])

    def serve_forever(self) -> None:
        """Serve until the end, and close the socket and the API's threads."""
        allow_connections()
        sys.setswitchinterval(SWITCH_S)
        try:
            with asyncio.Runner() as runner:
                runner.run(self.serve())
        finally:
            self._listener.close()
            self._api.close()

    async def startup(self, sockets: list[socket] | None = None) -> None:  # noqa: ARG002  # we have our own
        """Start to accept connections at the socket that is open already (uvicorn calls it)."""
        tls = self.config.ssl
        handshake_s = HANDSHAKE_S if tls else None
        server = await asyncio.get_running_loop().create_server(
            self._connection, sock=self._listener, backlog=BACKLOG, ssl=tls, ssl_handshake_timeout=handshake_s
        )
        self.servers, self.started = [server], True

    def _connection(self) -> ApiConnection:
        return ApiConnection(self.config, self.server_state, {})

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Make calls that wait end soon, and shut down (uvicorn calls it)."""
        self._api.stop()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Catch the signals that end the server while the block runs.

        Unlike in uvicorn, the signal isn't raised again at the end: the caller goes on and cleans up.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _config(api: Api, at: ListenAt) -> uvicorn.Config:
    if at.key is not None:
        require_private(at.key)
    config = uvicorn.Config(
        api.app,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,  # the audit names who connected, not who a client says it is
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEAD,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=STOP_S,
        ssl_certfile=at.certificate,
        ssl_keyfile=at.key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise EndpointError(f"{at.certificate}, {at.key}", f"not a certificate and its key in PEM: {error}") from error
    return config


def _listening(at: ListenAt) -> socket:
    family = AF_INET6 if ":" in at.host else AF_INET
    listener = socket(family, SOCK_STREAM, IPPROTO_TCP)  # asyncio turns Nagle off only where the protocol is named
    try:
        listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        listener.bind((at.host, at.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise EndpointError(f"{at.host}:{at.port}", f"can't listen there: {error.strerror}") from error
    return listener


def _url(at: ListenAt, port: int) -> str:
    host = f"[{at.host}]" if ":" in at.host else at.host
    return f"{'https' if at.certificate else 'http'}://{host}:{port}"


def allow_connections() -> None:
    """Raise the limit of descriptors as far as connections need.

    If that isn't possible, allow only as many connections as there are descriptors.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(MAX_CONNECTIONS + OTHER_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    ApiConnection.most = max(1, min(MAX_CONNECTIONS, max(soft, wanted) - OTHER_FILES))

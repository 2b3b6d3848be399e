"""One exchange of a probe as its sender sees it: a real socket sends the question, and an answer comes or not.

Owns the sending socket. It is given addresses and a token. Must not judge: it says what happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from dataclasses import dataclass

from sgdataplane.lab import frames
from sgdataplane.lab.frames import ANSWER, ASK, ProbeMessage
from sgdataplane.lab.listeners import AF, Listeners, allow_delegated
from sgdataplane.lab.waiting import scale_timeout
from sgdataplane.net.values import ICMP, ICMPV6, TCP, UDP, Address, Family

RESEND_AFTER_S = (0.3, 0.6)  # a question without a connection is repeated, in case the first one was lost
LIFE_S = scale_timeout(10.0)


@dataclass(frozen=True, slots=True)
class ProbeQuestion:
    """Whom to ask, and how."""

    protocol: int
    source: str
    target: str
    token: str
    port: int = 0
    """0 if the protocol has no ports."""
    source_port: int = 0
    """0 if the protocol has no ports, or any free port will do."""
    device: str = ""
    """The interface to bind to, where the address alone doesn't say which way to go; else empty."""

    @property
    def family(self) -> Family:
        """The address family of the target."""
        return Address.parse(self.target).family

    @property
    def has_ports(self) -> bool:
        """Whether it is TCP or UDP."""
        return self.protocol in (TCP, UDP)

    @property
    def is_echo(self) -> bool:
        """Whether the kernel of the target answers it, as an ICMP or ICMPv6 echo request."""
        return self.protocol in (ICMP, ICMPV6)


class Exchange:
    """An exchange under way; it begins when this is made.

    Attributes:
        question: What is asked.
        source_port: The port it is sent from; 0 if the protocol has none.
        sent_error: The errno by which the kernel refused to send; 0 if it didn't.
        is_connected: Whether a TCP connection was opened.
        failure: What came instead of an answer, such as a reset; empty if nothing did.
        answered: Is set when the answer has come.
    """

    def __init__(self, question: ProbeQuestion, listeners: Listeners) -> None:
        self.question = question
        self.sent_error = 0
        self.is_connected = False
        self.failure = ""
        self.answered = asyncio.Event()
        self._ident = int.from_bytes(os.urandom(2), "big")
        self._listeners = listeners
        self._socket = self._open()
        self.source_port = self._socket.getsockname()[1] if question.has_ports else 0
        self._task = asyncio.create_task(self._run())

    @property
    def key(self) -> str:
        """The name of its packets on the wire, which taps and watches use (frames.py)."""
        q = self.question
        if q.has_ports:
            return frames.port_key(q.protocol, (q.source, self.source_port), (q.target, q.port))
        if q.is_echo:
            return frames.echo_key(q.source, q.target, self._ident)
        return frames.token_key(q.protocol, q.source, q.target, q.token)

    async def wait_answered(self, seconds: float) -> bool:
        """Wait at most `seconds` for the answer or the end of the exchange; return whether it was answered."""
        waiter = asyncio.create_task(self.answered.wait())
        await asyncio.wait((waiter, self._task), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        return self.answered.is_set()

    async def close(self) -> None:
        """End the exchange and close its socket."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._listeners.forget_answer(self.question.token)
        self._socket.close()

    def _open(self) -> socket.socket:
        """Open and bind the socket that sends. OSError if the kernel refuses."""
        q = self.question
        kind = {TCP: socket.SOCK_STREAM, UDP: socket.SOCK_DGRAM}.get(q.protocol, socket.SOCK_RAW)
        sock = socket.socket(AF[q.family], kind | socket.SOCK_NONBLOCK, q.protocol if kind == socket.SOCK_RAW else 0)
        try:
            if q.device:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, q.device.encode())
            if kind == socket.SOCK_STREAM and q.source_port:  # leave no TIME_WAIT, as the port may be needed again soon
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if kind == socket.SOCK_RAW:
                sock.setsockopt(
                    socket.SOL_SOCKET, socket.SO_RCVBUF, 0
                )  # answers come to the raw socket of the listeners
            allow_delegated(sock, q.family)
            sock.bind((q.source, q.source_port))
        except OSError:
            sock.close()
            raise
        return sock

    async def _run(self) -> None:
        """Put the question and wait for the answer, for LIFE_S at most; note an error."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIFE_S):
                try:
                    await (self._run_tcp() if self.question.protocol == TCP else self._run_datagrams())
                except OSError as error:
                    self._note(error)

    def _note(self, error: OSError) -> None:
        """Tell a drop by netfilter from a failure: a local sender sees the drop as EPERM or ENOBUFS."""
        if error.errno in (errno.EPERM, errno.ENOBUFS):
            self.sent_error = error.errno
        else:
            self.failure = os.strerror(error.errno) if error.errno else str(error)  # asyncio has a wording of its own

    async def _run_tcp(self) -> None:
        """Connect, ask, and read until the answer comes or the connection is closed."""
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, (self.question.target, self.question.port))
        self.is_connected = True
        await loop.sock_sendall(self._socket, ProbeMessage(ASK, self.question.token).encode())
        data = b""
        while ProbeMessage.find(data) != ProbeMessage(ANSWER, self.question.token):
            chunk = await loop.sock_recv(self._socket, 1024)
            if not chunk:
                self.failure = "the connection was closed before the answer"
                return
            data += chunk
        self.answered.set()

    async def _run_datagrams(self) -> None:
        """Ask, and ask again, until the answer comes to this socket (UDP) or to the node's raw one."""
        reading = asyncio.create_task(self._read_answer())
        try:
            for pause in (*RESEND_AFTER_S, LIFE_S):
                self._socket.sendto(self._payload(), (self.question.target, self.question.port))
                done, _ = await asyncio.wait((reading,), timeout=pause)
                if done:
                    reading.result()
                    return
        finally:
            reading.cancel()

    def _payload(self) -> bytes:
        """Return what is sent behind the kernel's headers."""
        q = self.question
        message = ProbeMessage(ASK, q.token)
        if q.is_echo:
            return frames.echo_request(q.family, self._ident, message.encode())
        return message.encode() if q.has_ports else frames.other_payload(q.protocol, message)

    async def _read_answer(self) -> None:
        """Wait for the answer and set `answered`; answers without ports come to the listeners' raw socket."""
        loop = asyncio.get_running_loop()
        if not self.question.has_ports:
            await self._listeners.answer_event(self.question.token).wait()
        else:
            while ProbeMessage.find(await loop.sock_recv(self._socket, 2048)) != ProbeMessage(
                ANSWER, self.question.token
            ):
                pass
        self.answered.set()

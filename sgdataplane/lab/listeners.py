"""Sockets by which a node answers probes, for TCP, UDP and raw protocols.

They count each probe's token and send it back. Owns the receiving sockets of a node. It is given protocols and ports.
Must not know policy.

A socket gets a packet only after every netfilter hook let it in. So a counted token proves delivery.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

from sgdataplane.lab import frames
from sgdataplane.lab.frames import ANSWER, ProbeMessage
from sgdataplane.lab.tap import Sightings
from sgdataplane.lab.waiting import scale_timeout
from sgdataplane.net.values import ECHO_REQUEST, ICMP, ICMPV6, TCP, UDP, Family

AF = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
IP_PKTINFO = 8  # linux/in.h; not in the socket module of Python 3.11
IPV6_RECVPKTINFO = 49  # linux/in6.h
IPV6_PKTINFO = 50
BATCH = 64
EXCHANGE_S = scale_timeout(10.0)
HERE = "socket"  # where tokens are sighted
FREEBIND = {Family.IPV4: (socket.IPPROTO_IP, 15), Family.IPV6: (socket.IPPROTO_IPV6, 78)}  # linux/in.h, in6.h
PACKET_INFO = {
    Family.IPV4: (socket.IPPROTO_IP, IP_PKTINFO, IP_PKTINFO),
    Family.IPV6: (socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, IPV6_PKTINFO),
}


class Listeners:
    """All the receiving sockets of a node. Must be used inside its namespace, with a running event loop."""

    def __init__(self) -> None:
        self._counted = Sightings()
        self._lock = asyncio.Lock()
        self._open: set[tuple[int, int, Family]] = set()
        self._kept: list[object] = []
        self._answers: dict[str, asyncio.Event] = {}

    async def ensure(self, protocol: int, port: int, family: Family) -> None:
        """Listen on a port of a protocol, unless this node already does. OSError if the port is taken."""
        place = (protocol, port if protocol in (TCP, UDP) else 0, family)
        async with self._lock:
            if place in self._open:
                return
            if protocol == TCP:
                sock = bind_socket(socket.SOCK_STREAM, 0, port, family)
                self._kept.append(await asyncio.start_server(self._serve_tcp, sock=sock, backlog=512))
            else:
                self._add_datagrams(protocol, port, family)
            self._open.add(place)

    async def wait_counted(self, token: str, seconds: float) -> int:
        """Return how often the token came in; wait at most `seconds` for the first time."""
        await self._counted.wait_seen(HERE, token, seconds)
        return self._counted.count(HERE, token)

    def count(self, token: str) -> None:
        """Count a token that came in."""
        self._counted.record(HERE, token)

    def answer_event(self, token: str) -> asyncio.Event:
        """Return an event that is set once the answer to a probe of ours comes back to a raw socket of this node."""
        return self._answers.setdefault(token, asyncio.Event())

    def forget_answer(self, token: str) -> None:
        """Forget the event of that token."""
        self._answers.pop(token, None)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read the question of one connection, count it, answer it, and wait until the sender closes."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(EXCHANGE_S):
                message = ProbeMessage.find(await reader.readline())
                if message is not None:
                    self.count(message.token)
                    writer.write(ProbeMessage(ANSWER, message.token).encode())
                    await writer.drain()
                    await reader.read()  # the sender closes first
        writer.close()

    def _add_datagrams(self, protocol: int, port: int, family: Family) -> None:
        """Open a socket for UDP or a raw protocol that learns to which address each datagram was sent."""
        kind = socket.SOCK_DGRAM if protocol == UDP else socket.SOCK_RAW
        sock = bind_socket(kind, 0 if protocol == UDP else protocol, port if protocol == UDP else 0, family)
        level, wanted, _ = PACKET_INFO[family]
        sock.setsockopt(level, wanted, 1)
        handle = self._on_echo if protocol in (ICMP, ICMPV6) else self._on_datagram
        asyncio.get_running_loop().add_reader(sock, read_all, sock, family, handle)
        self._kept.append(sock)

    def _on_datagram(self, sock: socket.socket, family: Family, arrival: Arrival) -> None:
        """Count a question and answer it; note the answer to one of ours."""
        if arrival.message.kind == ANSWER:
            self._note_answer(arrival.message.token)
            return
        self.count(arrival.message.token)
        answer = ProbeMessage(ANSWER, arrival.message.token)
        payload = answer.encode() if sock.type == socket.SOCK_DGRAM else frames.other_payload(sock.proto, answer)
        level, _, kind = PACKET_INFO[family]
        with contextlib.suppress(OSError):  # a policy refuses the answer: the sender will say that none came
            sock.sendmsg([payload], [(level, kind, arrival.reply_info)], 0, arrival.sender)

    def _on_echo(self, _: socket.socket, family: Family, arrival: Arrival) -> None:
        """Count echo requests, which the kernel answers, and note the answers to ours."""
        if arrival.icmp_type == ECHO_REQUEST[family]:
            self.count(arrival.message.token)
        elif arrival.icmp_type == frames.ECHO_REPLY[family]:
            self._note_answer(arrival.message.token)

    def _note_answer(self, token: str) -> None:
        if token in self._answers:
            self._answers[token].set()


class Arrival:
    """One datagram that came in.

    Attributes:
        message: The probe's message in it.
        sender: Where it came from.
        reply_info: Packet info that sends the answer from the address that the datagram was sent to.
        icmp_type: The first octet of the payload, which is the type if it is ICMP.
    """

    def __init__(self, message: ProbeMessage, sender: tuple[str, int], reply_info: bytes, icmp_type: int) -> None:
        self.message, self.sender, self.reply_info, self.icmp_type = message, sender, reply_info, icmp_type


Handler = Callable[[socket.socket, Family, Arrival], None]


def bind_socket(kind: int, protocol: int, port: int, family: Family) -> socket.socket:
    """Return a non-blocking socket on all addresses of one family. OSError if the port is taken."""
    sock = socket.socket(AF[family], kind | socket.SOCK_NONBLOCK, protocol)
    try:
        if family is Family.IPV6 and kind != socket.SOCK_RAW:  # a raw socket has one family anyway
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        allow_delegated(sock, family)
        sock.bind(("" if family is Family.IPV4 else "::", port))
    except OSError:
        sock.close()
        raise
    return sock


def allow_delegated(sock: socket.socket, family: Family) -> None:
    """Let a socket send from addresses of a delegated prefix, which are routed to the node but on no interface."""
    level, option = FREEBIND[family]
    sock.setsockopt(level, option, 1)


def read_all(sock: socket.socket, family: Family, handle: Handler) -> None:
    """Hand each datagram with a message that has come to a socket to `handle`, at most BATCH at once."""
    for _ in range(BATCH):
        try:
            data, ancillary, _, sender = sock.recvmsg(2048, 128)
        except BlockingIOError:
            return
        except OSError:  # an ICMP error came about something that we sent
            continue
        payload = data[(data[0] & 15) * 4 :] if sock.type == socket.SOCK_RAW and family is Family.IPV4 else data
        message = ProbeMessage.find(payload)
        if message is not None and payload:
            info = _reply_info(ancillary, family) if ancillary else b""
            handle(sock, family, Arrival(message, sender, info, payload[0]))


def _reply_info(ancillary: list[tuple[int, int, bytes]], family: Family) -> bytes:
    """Return packet info that sends the answer by the interface and from the address that the question came to."""
    info = next((data for level, _, data in ancillary if level == PACKET_INFO[family][0]), b"")
    if family is Family.IPV6:
        return info
    index, local, _ = struct.unpack("I4s4s", info)
    return struct.pack("I4s4s", index, local, bytes(4))

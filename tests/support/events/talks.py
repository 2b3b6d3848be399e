"""Real sessions between two namespaces, held by sockets of the test's own process.

talk.open()                the session is there, and both kernels know it
talk.say(Side.CLIENT)      one message from that end; whether it arrives is the question
talk.has_arrived(side)     whether the other end got what that end said last (TCP: all of it, in order)
"""

from __future__ import annotations

import enum
import fcntl
import socket
import struct
import termios
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from sgdataplane.host import netns
from sgdataplane.net.values import Family
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.probes.witness import Watch
from tests.support.scenes.sessionlab import Place

AF = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, so that no TIME_WAIT holds the port


class Side(enum.Enum):
    CLIENT = "client"
    SERVER = "server"

    @property
    def other(self) -> Side:
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT


@dataclass(frozen=True, slots=True)
class Ends:
    """Where a session goes. `number` is the server's port or the echo's identifier; one session's alone at a time."""

    family: Family
    client: Place
    server: Place
    number: int
    source_port: int

    def place(self, side: Side) -> Place:
        return self.client if side is Side.CLIENT else self.server

    def address(self, side: Side) -> str:
        return self.place(side).address(self.family)


class Talk:
    """What all kinds share: numbered messages."""

    protocol = ""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        self._stack = ExitStack()
        self.sockets: dict[Side, socket.socket] = {}
        self._said = dict.fromkeys(Side, b"")
        self._heard = dict.fromkeys(Side, b"")
        self._count = 0

    def open(self) -> None:
        raise NotImplementedError

    def begin(self) -> None:
        """Send the opening packet to a server that is there already, and wait for nothing. Not for echoes."""
        raise NotImplementedError

    def say(self, side: Side) -> None:
        self._count += 1
        self._said[side] = f"{side.value} {self._count:07}\n".encode()
        with suppress(PermissionError):  # what a UDP socket is told of a packet that was dropped on its way out
            self._send(side, self._said[side])

    def _send(self, side: Side, data: bytes) -> None:
        self.sockets[side].send(data)

    def has_arrived(self, side: Side) -> bool:
        """Whether the other end has received the last message of this one."""
        self._receive(side.other)
        return self._heard[side.other] == self._said[side]

    def is_still(self) -> bool:
        """Whether nothing follows what has arrived."""
        return True

    def heard(self, side: Side) -> bytes:
        """What that end has got: the last message, or (TCP) all."""
        self._receive(side)
        return self._heard[side]

    def _receive(self, side: Side) -> None:
        with suppress(BlockingIOError):
            while data := self.sockets[side].recv(4096):
                self._take(side, data)

    def _take(self, side: Side, data: bytes) -> None:
        self._heard[side] = data

    def close(self) -> None:
        self._stack.close()

    def _add(self, side: Side, kind: int, protocol: int = 0) -> socket.socket:
        with netns.inside(self.ends.place(side).netns):
            made = self._stack.enter_context(socket.socket(AF[self.ends.family], kind, protocol))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sockets[side] = made
        return made

    @property
    def expressions(self) -> tuple[str, ...]:
        number = self.ends.number
        family = f"meta nfproto {self.ends.family.value} meta l4proto {self.protocol}"
        return (f"{family} th sport {number}", f"{family} th dport {number}")


class TcpTalk(Talk):
    protocol = "tcp"

    def open(self) -> None:
        ends = self.ends
        listener = self._add(Side.SERVER, socket.SOCK_STREAM)
        listener.bind((ends.address(Side.SERVER), ends.number))
        listener.listen()
        client = self._add(Side.CLIENT, socket.SOCK_STREAM)
        client.bind((ends.address(Side.CLIENT), ends.source_port))
        for waiting in (listener, client):
            waiting.settimeout(DEADLINE)
        client.connect((ends.address(Side.SERVER), ends.number))
        self.sockets[Side.SERVER] = self._stack.enter_context(listener.accept()[0])
        for found in self.sockets.values():
            found.setblocking(False)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def begin(self) -> None:
        client = self._add(Side.CLIENT, socket.SOCK_STREAM)
        client.bind((self.ends.address(Side.CLIENT), self.ends.source_port))
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.connect((self.ends.address(Side.SERVER), self.ends.number))

    def _send(self, side: Side, data: bytes) -> None:
        """The stream so far is what has been said."""
        self.sockets[side].sendall(data)

    def say(self, side: Side) -> None:
        before = self._said[side]
        super().say(side)
        self._said[side] = before + self._said[side]

    def is_still(self) -> bool:
        """An acknowledgement may come 40 ms after what it is of."""
        return not any(map(_unacknowledged, self.sockets.values()))

    def _take(self, side: Side, data: bytes) -> None:
        self._heard[side] += data
        assert self._said[side.other].startswith(self._heard[side]), "bytes were lost, changed or reordered"


def _unacknowledged(stream: socket.socket) -> int:
    """Octets."""
    return int(struct.unpack("=i", fcntl.ioctl(stream, termios.TIOCOUTQ, bytes(4)))[0])


class UdpTalk(Talk):
    protocol = "udp"

    def open(self) -> None:
        ends = self.ends
        server = self._add(Side.SERVER, socket.SOCK_DGRAM)
        server.bind((ends.address(Side.SERVER), ends.number))
        server.settimeout(DEADLINE)
        self.begin()
        data, source = server.recvfrom(64)
        assert data == b"open"
        server.connect(source)
        server.setblocking(False)

    def begin(self) -> None:
        client = self._add(Side.CLIENT, socket.SOCK_DGRAM)
        client.setblocking(False)
        client.bind((self.ends.address(Side.CLIENT), self.ends.source_port))
        client.connect((self.ends.address(Side.SERVER), self.ends.number))
        with suppress(PermissionError):
            client.send(b"open")


class EchoTalk(Talk):
    """The client's end sends requests, which the server's kernel answers. What the server's end says are replies out
    of a raw socket; both come to the client."""

    protocol = "icmp"
    TYPES = {  # noqa: RUF012  # request, reply, protocol, offset of the message in what a raw socket receives
        Family.IPV4: (8, 0, socket.IPPROTO_ICMP, 20),
        Family.IPV6: (128, 129, socket.IPPROTO_ICMPV6, 0),
    }

    def open(self) -> None:
        protocol = self.TYPES[self.ends.family][2]
        for side in Side:
            made = self._add(side, socket.SOCK_RAW, protocol)
            made.bind((self.ends.address(side), 0))
            made.connect((self.ends.address(side.other), 0))
            made.setblocking(False)
        self.say(Side.CLIENT)
        wait_until(lambda: self.has_arrived(Side.CLIENT))

    def _send(self, side: Side, data: bytes) -> None:
        request, reply, _, _ = self.TYPES[self.ends.family]
        kind = request if side is Side.CLIENT else reply
        head = struct.pack("!BBHHH", kind, 0, 0, self.ends.number, self._count & 0xFFFF)
        if self.ends.family is Family.IPV4:
            head = struct.pack("!BBHHH", kind, 0, checksum(head + data), self.ends.number, self._count & 0xFFFF)
        self.sockets[side].send(head + data)

    def has_arrived(self, side: Side) -> bool:
        self._receive(Side.CLIENT)
        return self._heard[Side.CLIENT] == self._said[side]

    def _take(self, side: Side, data: bytes) -> None:
        _, reply, _, offset = self.TYPES[self.ends.family]
        kind, _, _, identifier, _ = struct.unpack_from("!BBHHH", data, offset)
        if (kind, identifier) == (reply, self.ends.number):
            self._heard[side] = data[offset + 8 :]

    @property
    def expressions(self) -> tuple[str, ...]:
        name = "icmp" if self.ends.family is Family.IPV4 else "icmpv6"
        return (f"{name} id {self.ends.number}",)


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(word for (word,) in struct.iter_unpack("!H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of session: who speaks, in this order."""

    name: str
    maker: type[Talk]
    speakers: tuple[Side, ...]


CLIENT, SERVER = Side.CLIENT, Side.SERVER
KINDS = (
    Kind("tcp, client pushes", TcpTalk, (CLIENT, SERVER)),
    Kind("tcp, server pushes", TcpTalk, (SERVER, CLIENT)),
    Kind("udp two-way, client first", UdpTalk, (CLIENT, SERVER)),
    Kind("udp two-way, server first", UdpTalk, (SERVER, CLIENT)),
    Kind("udp one-way", UdpTalk, (CLIENT,)),
    Kind("echo, request first", EchoTalk, (CLIENT, SERVER)),
    Kind("echo, reply first", EchoTalk, (SERVER, CLIENT)),
)
Key = tuple[str, Family]  # the kind's name and the family: one session of a trial
KEYS: tuple[Key, ...] = tuple((kind.name, family) for kind in KINDS for family in AF)
FIRST_NUMBER = 5000


def number_of(key: Key) -> int:
    """The server's port, or the echo's identifier, of that session."""
    return FIRST_NUMBER + KEYS.index(key)


def name_of(key: Key) -> str:
    return f"s{number_of(key)}"


def watches() -> tuple[Watch, ...]:
    """What to count of all sessions; the same for both directions, and so once for a module."""
    nowhere = Place("", ("", ""))
    talks = {key: _kind(key).maker(Ends(key[1], nowhere, nowhere, number_of(key), 0)) for key in KEYS}
    return tuple(Watch(name_of(key), talk.expressions) for key, talk in talks.items())


def make_talks(client: Place, server: Place, first_port: int) -> dict[Key, Talk]:
    """A session of each kind in each family, from source ports (or with none) that no earlier one had."""
    return {
        key: _kind(key).maker(Ends(key[1], client, server, number_of(key), first_port + index))
        for index, key in enumerate(KEYS)
    }


def _kind(key: Key) -> Kind:
    return next(kind for kind in KINDS if kind.name == key[0])


def speakers_of(key: Key) -> Sequence[Side]:
    return _kind(key).speakers


def protocol_of(key: Key) -> str:
    return _kind(key).maker.protocol


def all_arrive(talks: Iterable[tuple[Talk, Side]]) -> None:
    """Each says something, and all of it arrives."""
    pairs = list(talks)
    for talk, side in pairs:
        talk.say(side)
    wait_until(lambda: all(talk.has_arrived(side) for talk, side in pairs))

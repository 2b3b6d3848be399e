"""The netlink protocol: messages and their attributes, answers, lists, and notifications.

Owns their layout (linux/netlink.h), the loops that receive them, and which senders are believed. Its input is sockets,
numbers and bytes. Must not know what they mean. Nothing here is parsed as text: a name is bytes after their length.

Only the kernel is believed. Root of a namespace can write to all netlink sockets there, ours included, and imitate the
kernel's messages, but can't send from the kernel's port, 0.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from sgdataplane.errors import HostError
from sgdataplane.visible import visible

KERNEL = 0  # its port
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x200, 0x400, 0x800
NLM_F_DUMP_INTR = 0x10  # the kernel changed the list while it was being read
SOL_NETLINK, ADD_MEMBERSHIP, LISTEN_ALL_NSID = 270, 1, 8  # linux/socket.h, linux/netlink.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # length, type
CODE = struct.Struct("=i")
_PACK, _PADDING = ATTRIBUTE.pack, (b"", bytes(3), bytes(2), bytes(1))  # by the length's last two bits
RECEIVE_BYTES = 1 << 17  # a dump comes in parts of at most 32 KiB; there is room to spare
MAX_ATTEMPTS = 20
T = TypeVar("T")


@contextmanager
def refusals_of(what: str) -> Iterator[None]:
    """Turn an OSError in the block into a HostError about `what`."""
    try:
        yield
    except OSError as error:
        raise HostError(what, error.strerror or os.strerror(error.errno or 0)) from error


def open_netlink(protocol: int) -> socket.socket:
    """Open a socket in the network namespace that the calling thread is in; it stays there."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    sock.bind((0, 0))
    return sock


# messages


def request(kind: int, flags: int, body: bytes, sequence: int = 0) -> bytes:
    """Return one message to the kernel. `flags` come in addition to the one that every request has."""
    return HEADER.pack(HEADER.size + len(body), kind, flags | NLM_F_REQUEST, sequence, 0) + body


def messages(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Split data into messages: type, flags, sequence number and payload of each.

    Raises:
        OSError: They aren't messages.
    """
    found, offset = [], 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if length < HEADER.size:
            raise OSError(errno.EBADMSG, f"a message of {length} bytes")
        found.append((kind, flags, sequence, data[offset + HEADER.size : offset + length]))
        offset += align(length)
    return found


def receive(sock: socket.socket, flags: int = 0) -> bytes:
    """Return the next data that comes from the kernel; anybody else's is dropped."""
    while True:
        data, (sender, _) = sock.recvfrom(RECEIVE_BYTES, flags)
        if sender == KERNEL:
            return data


def answer(sock: socket.socket, sequence: int = 0) -> bytes:
    """Return the payload of a request's answer; an empty one for an acknowledgement.

    Raises:
        OSError: The answer is an error.
    """
    while True:
        for kind, _, number, payload in messages(receive(sock)):
            if number == sequence and kind == NLMSG_ERROR:
                _raise_error(payload)
                return b""
            if number == sequence:
                return payload


def receive_list(sock: socket.socket, sequence: int = 0) -> Iterator[bytes]:
    """Yield the payload of each message of a list as it comes, and b"" for its end.

    Raises:
        OSError: The end is an error.
        InterruptedError: The list changed while it was being read.
    """
    changed = 0
    while True:
        for kind, flags, number, payload in messages(receive(sock)):
            if number != sequence:
                continue
            changed |= flags & NLM_F_DUMP_INTR
            if kind not in (NLMSG_DONE, NLMSG_ERROR):
                yield payload
                continue
            yield b""
            _raise_error(payload)
            if changed:
                raise InterruptedError(errno.EINTR, "the list changed while it was being read")
            return


def read_until_settled(read: Callable[[], T]) -> T:
    """Call `read` until the list that it reads didn't change meanwhile; so the list is consistent."""
    for _ in range(MAX_ATTEMPTS):
        try:
            return read()
        except InterruptedError:
            continue
    raise InterruptedError(errno.EINTR, f"the list changed during each of {MAX_ATTEMPTS} readings")


def _raise_error(payload: bytes) -> None:
    """Raise what an error, or the end of a list, says: a negative errno, or zero for none."""
    (code,) = CODE.unpack_from(payload)
    if code < 0:
        raise OSError(-code, os.strerror(-code))


# notifications


class Received(NamedTuple):
    """A piece of data that has come on a socket."""

    data: bytes  # messages; empty if they don't come from the kernel
    number: int | None = None  # the number of the namespace that they are about; None: ours
    is_lossy: bool = False  # whether some messages were lost, since the socket's buffer was full


def receive_all(sock: socket.socket) -> Iterator[Received]:
    """Yield what has come on a non-blocking socket.

    There may be very much: the caller stops when it has had enough, and the rest stays in the socket.
    """
    while True:
        try:
            data, ancillary, _, (sender, _) = sock.recvmsg(RECEIVE_BYTES, socket.CMSG_SPACE(CODE.size))
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            yield Received(b"", is_lossy=True)
            continue
        yield Received(data if sender == KERNEL else b"", _number(ancillary))


def _number(ancillary: Iterable[tuple[int, int, bytes]]) -> int | None:
    for level, kind, value in ancillary:
        if (level, kind) == (SOL_NETLINK, LISTEN_ALL_NSID):
            return int(CODE.unpack(value)[0])
    return None


# attributes


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """Return the values of attributes by type; the last one if a type comes more than once.

    Raises:
        OSError: The data aren't attributes.
    """
    found, offset, last = dict[int, bytes](), 0, len(data) - ATTRIBUTE.size
    unpack = ATTRIBUTE.unpack_from  # no generator and no calls of ours: inventories have thousands of these
    while offset <= last:
        length, kind = unpack(data, offset)
        if length < ATTRIBUTE.size:
            raise OSError(errno.EBADMSG, f"an attribute of {length} bytes")
        found[kind & NLA_TYPE_MASK] = data[offset + ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def list_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each attribute.

    Raises:
        OSError: The data aren't attributes.
    """
    offset = 0
    while offset + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < ATTRIBUTE.size:
            raise OSError(errno.EBADMSG, f"an attribute of {length} bytes")
        yield kind & NLA_TYPE_MASK, data[offset + ATTRIBUTE.size : offset + length]
        offset += align(length)


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute as bytes, padded to four."""
    length = 4 + len(value)
    return _PACK(length, kind) + value + _PADDING[length & 3]


def nest(kind: int, parts: Iterable[bytes]) -> bytes:
    """Return an attribute that holds other ones."""
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def uint(data: bytes) -> int:
    """Return a number in network byte order; 0 for no bytes."""
    return int.from_bytes(data, "big")


def text_of(value: bytes) -> str:
    """Return a name that others chose, as text that is safe to show and compare."""
    return visible(value.rstrip(b"\0").decode(errors="surrogateescape"))


def align(length: int) -> int:
    """Return a length rounded up to four bytes."""
    return (length + 3) & ~3

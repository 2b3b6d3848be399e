"""nfnetlink: questions, lists, and batches that the kernel takes whole or not at all.

Owns message and attribute layout (linux/netlink.h, linux/netfilter/nfnetlink.h). Is given numbers and bytes.
Must not know what they mean. Nothing here is ever text: a name is bytes with a length before them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Self

from sgdataplane.errors import UnsupportedError, module_needed
from sgdataplane.host import netns
from sgdataplane.host.aside import call_aside
from sgdataplane.visible import visible

NETLINK_NETFILTER = 12
KERNEL = 0  # whose port that is
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_EXCL, NLM_F_CREATE = 0x200, 0x400
NLM_F_APPEND = 0x800
NLM_F_DUMP_INTR = 0x10  # the kernel changed the list while it was being read
NLM_F_ACK_TLVS = 0x200  # of an error: attributes follow the request's header
BATCH_BEGIN, BATCH_END, BATCH_GENERATION = 0x10, 0x11, 1  # NFNL_MSG_BATCH_*, NFNL_BATCH_GENID
SOL_NETLINK, CAP_ACK, EXT_ACK = 270, 10, 11  # errors quote no request, and say what in it was wrong
CODE_BYTES, ERROR_OFFSET = 4, 2  # NLMSGERR_ATTR_OFFS
SO_SNDBUFFORCE = 32
SIOCGSKNS = 0x894C  # linux/sockios.h: a descriptor of a socket's network namespace
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
GENMSG = struct.Struct("=BBH")  # family, version, resource id
ATTRIBUTE = struct.Struct("=HH")  # length, type
RECEIVE_BYTES = 1 << 17  # a dump comes in parts of at most 32 KiB; there is room to spare
MAX_ATTEMPTS = 20
AF_UNSPEC = 0


@dataclass(frozen=True, slots=True)
class Message:
    """One of a batch. `flags` besides those that every request has."""

    kind: int
    family: int
    attributes: bytes
    flags: int = 0


class BatchError(OSError):
    """A batch was refused, so nothing of it was done. `index`: of the first message that the kernel took exception to;
    -1: the batch as a whole. `offset`: of the attribute in that message's attributes, -1 if not told."""

    def __init__(self, code: int, index: int, offset: int = -1) -> None:
        super().__init__(code, os.strerror(code))
        self.index, self.offset = index, offset


class Nfnetlink:
    """A socket in the network namespace that the calling thread is in; it stays there. Errors are OSError, but for a
    kernel without nfnetlink: UnsupportedError."""

    def __init__(self) -> None:
        self._socket = _opened()
        self._sequence = 0
        self._room = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2

    def _renew(self) -> None:
        """Another socket in the namespace of this one."""
        fd = fcntl.ioctl(self._socket, SIOCGSKNS)
        try:
            with netns.inside(f"/proc/self/fd/{fd}"):
                renewed = _opened()
        finally:
            os.close(fd)
        call_aside(self._socket.close)  # as in __exit__
        self._socket = renewed
        self._room = renewed.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Aside: it waits until the kernel has freed what was deleted there, be it by others, and much."""
        call_aside(self.close)

    def ask(self, kind: int, family: int = AF_UNSPEC, attributes: bytes = b"") -> dict[int, bytes]:
        """One request with one answer; the answer's attributes."""
        self._send(kind, NLM_F_REQUEST, family, attributes)
        for answer_kind, _, payload in self._receive():
            _raise_error(answer_kind, payload)
            return parse_attributes(payload[GENMSG.size :])
        raise ConnectionError("the kernel gave no answer")

    def tell(self, kind: int, family: int, attributes: bytes, flags: int = 0, resource: int = 0) -> None:
        """One request that is only acknowledged; `flags` besides those that ask for that."""
        self._send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, family, attributes, resource)
        for answer_kind, _, payload in self._receive():
            _raise_error(answer_kind, payload)
            return

    def dump(self, kind: int, family: int = AF_UNSPEC, attributes: bytes = b"") -> list[tuple[int, dict[int, bytes]]]:
        """A whole list, consistent: (family, attributes) of each entry. Read again if it changed meanwhile."""
        for _ in range(MAX_ATTEMPTS):
            try:
                return [(of, parse_attributes(data)) for of, data in self.entries(kind, family, attributes)]
            except InterruptedError:
                continue
        raise InterruptedError(errno.EINTR, f"the list changed during each of {MAX_ATTEMPTS} readings")

    def entries(
        self, kind: int, family: int = AF_UNSPEC, attributes: bytes = b""
    ) -> Generator[tuple[int, bytes], None, None]:
        """The entries of a list as they come, each as its family and its attributes, unread: who makes a list long has
        others read it, but not keep it. InterruptedError at its end, if it changed meanwhile. Who has enough closes the
        iterator, and the socket is another one then: the kernel answers no other question before the end of a list."""
        self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, family, attributes)
        was_interrupted = False
        with closing(self._listed()) as messages:
            for flags, payload in messages:
                was_interrupted |= bool(flags & NLM_F_DUMP_INTR)
                if payload:
                    yield payload[0], payload[GENMSG.size :]
        if was_interrupted:
            raise InterruptedError(errno.EINTR, "the list changed while it was being read")

    def _listed(self) -> Generator[tuple[int, bytes], None, None]:
        """Flags and payload of each message of a list; of its end no payload."""
        is_over = False
        try:
            for kind, flags, payload in self._receive():
                is_over = kind in (NLMSG_DONE, NLMSG_ERROR)
                if is_over:
                    _raise_error(NLMSG_ERROR, payload)
                    yield flags, b""
                    return
                yield flags, payload
        finally:
            if not is_over:
                self._renew()

    def commit(
        self, subsystem: int, messages: Sequence[Message], generation: int | None = None, *, is_trial: bool = False
    ) -> None:
        """All of them in one moment, or none: BatchError. `generation`: only if nobody has committed since that one.
        `is_trial`: have them judged, and do nothing."""
        first = self._sequence + 1
        asked = b"" if generation is None else attribute(BATCH_GENERATION, struct.pack("!I", generation))
        parts = [_packed(Message(BATCH_BEGIN, AF_UNSPEC, asked), first, subsystem)]
        last = len(messages)
        parts += [
            _packed(entry, first + number, acknowledged=number == last) for number, entry in enumerate(messages, 1)
        ]
        if not is_trial:  # a batch without an end is done by nobody
            parts.append(_packed(Message(BATCH_END, AF_UNSPEC, b""), first + last + 1, subsystem))
        data = b"".join(parts)
        self._make_room(len(data))
        self._sequence = first + last + 1
        self._socket.send(data)
        self._judge(first, last)

    def _make_room(self, size: int) -> None:
        """A batch goes to the kernel in one piece."""
        if size > self._room:
            self._room = 2 * size
            self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, self._room)

    def _judge(self, first: int, last: int) -> None:
        """Read what the kernel says of a batch: each error, and the acknowledgement of the last message, whatever that
        one's fate. An error of the first header is of the batch as a whole."""
        worst: BatchError | None = None
        for sequence, flags, payload in self._answers():
            number = sequence - first
            if not 0 <= number <= last:
                continue
            (code,) = struct.unpack_from("=i", payload)
            if code and (worst is None or number - 1 < worst.index):
                worst = BatchError(-code, number - 1, _offset_in(payload) if flags & NLM_F_ACK_TLVS else -1)
            if number == last or (code and number == 0):
                break
        else:
            worst = worst or BatchError(errno.ENOBUFS, -1)
        if worst is not None:
            raise worst

    def _answers(self) -> Iterator[tuple[int, int, bytes]]:
        """Sequence number, flags and payload of all errors and acknowledgements that come. If there is no room for all
        of them, the first."""
        flags_of_call = 0
        while True:
            try:
                data, offset = said_by_kernel(self._socket, flags_of_call), 0
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                flags_of_call = socket.MSG_DONTWAIT
                continue
            while offset < len(data):
                length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
                if kind == NLMSG_ERROR:
                    yield sequence, flags, data[offset + HEADER.size : offset + length]
                offset += _aligned(length)

    def _send(self, kind: int, flags: int, family: int, attributes: bytes, resource: int = 0) -> None:
        self._sequence += 1
        length = HEADER.size + GENMSG.size + len(attributes)
        header = HEADER.pack(length, kind, flags, self._sequence, 0)
        self._socket.send(header + GENMSG.pack(family, 0, socket.htons(resource)) + attributes)

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        """Messages that answer the last request: (type, flags, payload)."""
        while True:
            data, offset = said_by_kernel(self._socket), 0
            while offset < len(data):
                length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
                if sequence == self._sequence:
                    yield kind, flags, data[offset + HEADER.size : offset + length]
                offset += _aligned(length)


def said_by_kernel(door: socket.socket, flags: int = 0) -> bytes:
    """The next that the kernel says. Whoever is root in a namespace can write to all netlink sockets there, ours
    included, and may pretend to be the kernel; but not as its number."""
    while True:
        data, (sender, _) = door.recvfrom(RECEIVE_BYTES, flags)
        if sender == KERNEL:
            return data


def _opened() -> socket.socket:
    try:
        door = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:
            raise UnsupportedError("netfilter", module_needed("nfnetlink")) from error
        raise
    for option in (CAP_ACK, EXT_ACK):
        door.setsockopt(SOL_NETLINK, option, 1)
    door.bind((0, 0))
    return door


def _packed(message: Message, sequence: int, resource: int = 0, *, acknowledged: bool = False) -> bytes:
    flags = NLM_F_REQUEST | message.flags | (NLM_F_ACK if acknowledged else 0)
    length = HEADER.size + GENMSG.size + len(message.attributes)
    header = HEADER.pack(length, message.kind, flags, sequence, 0)
    return header + GENMSG.pack(message.family, 0, socket.htons(resource)) + message.attributes + bytes(-length & 3)


def _offset_in(payload: bytes) -> int:
    """Of what was wrong, in the attributes of the request."""
    found = parse_attributes(payload[CODE_BYTES + HEADER.size :]).get(ERROR_OFFSET)
    return -1 if found is None else int.from_bytes(found, sys.byteorder) - HEADER.size - GENMSG.size


def message_kind(subsystem: int, message: int) -> int:
    return subsystem << 8 | message


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """Attribute type -> value; of equal types the last."""
    return dict(list_attributes(data))


def list_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """OSError if they aren't attributes."""
    offset = 0
    while offset + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < ATTRIBUTE.size:
            raise OSError(errno.EBADMSG, f"an attribute of {length} bytes")
        yield kind & NLA_TYPE_MASK, data[offset + ATTRIBUTE.size : offset + length]
        offset += _aligned(length)


def attribute(kind: int, value: bytes) -> bytes:
    length = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def nested(kind: int, parts: Iterable[bytes]) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def text_of(value: bytes) -> str:
    """A name, which others choose, to be shown or compared."""
    return visible(value.rstrip(b"\0").decode(errors="surrogateescape"))


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _raise_error(kind: int, payload: bytes) -> None:
    """An error message carries a negative errno; zero is an acknowledgement."""
    if kind != NLMSG_ERROR:
        return
    (code,) = struct.unpack_from("=i", payload)
    if code < 0:
        raise OSError(-code, os.strerror(-code))

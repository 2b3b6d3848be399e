"""The little of nfnetlink that libnftables does not give: names and generation of a ruleset, marks of sessions.

Owns message and attribute layout (linux/netlink.h, linux/netfilter/nfnetlink.h). Is given numbers and bytes.
Must not know what they mean.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Self

from sgdataplane.errors import UnsupportedError, module_needed

NETLINK_NETFILTER = 12
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_EXCL, NLM_F_CREATE = 0x200, 0x400
NLM_F_DUMP_INTR = 0x10  # the kernel changed the list while it was being read
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
GENMSG = struct.Struct("=BBH")  # family, version, resource id
ATTRIBUTE = struct.Struct("=HH")  # length, type
RECEIVE_BYTES = 1 << 17  # a dump comes in parts of at most 32 KiB; there is room to spare
MAX_ATTEMPTS = 20
AF_UNSPEC = 0


class Nfnetlink:
    """A socket in the network namespace that the calling thread is in; it stays there. Errors are OSError, but for a
    kernel without nfnetlink: UnsupportedError."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        except OSError as error:
            if error.errno == errno.EPROTONOSUPPORT:
                raise UnsupportedError("netfilter", module_needed("nfnetlink")) from error
            raise
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
            self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, family, attributes)
            entries, was_interrupted = self._dumped()
            if not was_interrupted:
                return entries
        raise InterruptedError(f"the list changed during each of {MAX_ATTEMPTS} readings")

    def _dumped(self) -> tuple[list[tuple[int, dict[int, bytes]]], bool]:
        entries: list[tuple[int, dict[int, bytes]]] = []
        was_interrupted = False
        for kind, flags, payload in self._receive():
            was_interrupted |= bool(flags & NLM_F_DUMP_INTR)
            if kind == NLMSG_DONE:
                _raise_error(NLMSG_ERROR, payload)
                return entries, was_interrupted
            _raise_error(kind, payload)
            entries.append((payload[0], parse_attributes(payload[GENMSG.size :])))
        raise ConnectionError("the kernel ended a list early")

    def _send(self, kind: int, flags: int, family: int, attributes: bytes, resource: int = 0) -> None:
        self._sequence += 1
        length = HEADER.size + GENMSG.size + len(attributes)
        header = HEADER.pack(length, kind, flags, self._sequence, 0)
        self._socket.send(header + GENMSG.pack(family, 0, socket.htons(resource)) + attributes)

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        """Messages that answer the last request: (type, flags, payload)."""
        while True:
            data, offset = self._socket.recv(RECEIVE_BYTES), 0
            while offset < len(data):
                length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
                if sequence == self._sequence:
                    yield kind, flags, data[offset + HEADER.size : offset + length]
                offset += _aligned(length)


def message_kind(subsystem: int, message: int) -> int:
    return subsystem << 8 | message


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """Attribute type -> value; of equal types the last."""
    return dict(list_attributes(data))


def list_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        yield kind & NLA_TYPE_MASK, data[offset + ATTRIBUTE.size : offset + length]
        offset += _aligned(length)


def attribute(kind: int, value: bytes) -> bytes:
    length = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def nested(kind: int, parts: Iterable[bytes]) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def text_of(value: bytes) -> str:
    """A name, which others choose: what is no UTF-8 in it is escaped."""
    return value.rstrip(b"\0").decode(errors="backslashreplace")


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _raise_error(kind: int, payload: bytes) -> None:
    """An error message carries a negative errno; zero is an acknowledgement."""
    if kind != NLMSG_ERROR:
        return
    (code,) = struct.unpack_from("=i", payload)
    if code < 0:
        raise OSError(-code, os.strerror(-code))

"""The nfnetlink protocol: questions, lists, and batches that the kernel takes whole or not at all.

Owns what its messages have in common, and batches (linux/netfilter/nfnetlink.h). Its input is numbers and bytes. Must
not know what they mean.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Container, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Self

from sgdataplane.host.netlink import (
    CODE,
    HEADER,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    answer,
    attribute,
    messages,
    parse_attributes,
    read_until_settled,
    receive,
    receive_list,
    request,
)
from sgdataplane.host.nfsocket import close_socket, keep_socket, open_socket, renew

NLM_F_ACK_TLVS = 0x200  # of an error: attributes follow the request's header
BATCH_BEGIN, BATCH_END, BATCH_GENERATION = 0x10, 0x11, 1  # NFNL_MSG_BATCH_*, NFNL_BATCH_GENID
ERROR_OFFSET = 2  # NLMSGERR_ATTR_OFFS
GENMSG = struct.Struct("=BBH")  # family, version, resource id
HEADERS = struct.Struct("=IHHIIBBH")  # HEADER and GENMSG
AF_UNSPEC = 0
_NUMBERS = map((0xFFFFFFFF).__and__, count(1))  # of the messages of all batches


@dataclass(slots=True)
class BatchMessage:
    """One message of a batch.

    It has one number, by which the kernel's answers name it, in all batches; no other message has that for very long.
    """

    kind: int
    family: int
    attributes: bytes
    flags: int = 0  # flags beside those that every request has
    _packed: bytes = field(default=b"", init=False, compare=False, repr=False)

    @property
    def packed(self) -> bytes:
        """The message's bytes in a batch, which are made once."""
        self.pack()
        return self._packed

    def pack(self) -> None:
        """Make `packed` now, as a thread does that works ahead."""
        if not self._packed:
            self._packed = _pack(self)


BATCH_END_MESSAGE = BatchMessage(BATCH_END, AF_UNSPEC, b"")


class BatchError(OSError):
    """The kernel refused a batch and did nothing of it.

    Attributes:
        index: The first message that it objected to; -1: the batch as a whole.
        offset: Where in that message's attributes the wrong one begins; -1 if the kernel doesn't say.
    """

    def __init__(self, code: int, index: int, offset: int = -1) -> None:
        super().__init__(code, os.strerror(code))
        self.index, self.offset = index, offset


class Nfnetlink:
    """A socket in the network namespace that the calling thread is in; it stays there.

    Errors are OSError, or UnsupportedError if the kernel has no nfnetlink.
    """

    def __init__(self) -> None:
        self._held = open_socket()

    @property
    def _socket(self) -> socket.socket:
        return self._held.socket

    def close(self) -> None:
        """Have another thread close the socket, since that may wait. What the socket owns goes with it."""
        close_socket(self._held)

    def keep(self) -> None:
        """Keep the socket for others, in place of closing it."""
        keep_socket(self._held)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.keep()
        else:
            self.close()

    def ask(self, kind: int, family: int = AF_UNSPEC, attributes: bytes = b"") -> dict[int, bytes]:
        """Send one request that has one answer; return the answer's attributes."""
        self._send(kind, 0, family, attributes)
        return parse_attributes(answer(self._socket, self._held.sequence)[GENMSG.size :])

    def tell(self, kind: int, family: int, attributes: bytes, flags: int = 0, resource: int = 0) -> None:
        """Send one request that is only acknowledged. `flags` come in addition to those that ask for that."""
        self._send(kind, NLM_F_ACK | flags, family, attributes, resource)
        answer(self._socket, self._held.sequence)

    def tell_all(
        self, kind: int, requests: Sequence[tuple[int, bytes]], ignored: Container[int] = (), flags: int = 0
    ) -> None:
        """Send requests, each of a family and attributes, in one piece. Each is done or refused for itself.

        One answer says that all are over. There may be no more than the answers that fit into the socket's buffer, if
        all are refused: some 150.

        Raises:
            OSError: The first refusal with an error that isn't `ignored`.
        """
        first, last = self._held.sequence + 1, self._held.sequence + len(requests)
        parts = [
            request(kind, flags | (NLM_F_ACK if number == last else 0), GENMSG.pack(family, 0, 0) + attributes, number)
            for number, (family, attributes) in enumerate(requests, first)
        ]
        self._held.sequence = last
        data = b"".join(part + bytes(-len(part) & 3) for part in parts)
        self._held.make_room(len(data))
        self._socket.send(data)
        refusal = 0
        for sequence, _, payload in self._answers():
            if first <= sequence <= last:
                (code,) = CODE.unpack_from(payload)
                refusal = refusal or (-code if -code not in ignored else 0)
            if sequence == last:
                break
        else:
            refusal = refusal or errno.ENOBUFS
        if refusal:
            raise OSError(refusal, os.strerror(refusal))

    def dump(self, kind: int, family: int = AF_UNSPEC, attributes: bytes = b"") -> list[tuple[int, dict[int, bytes]]]:
        """Read a whole, consistent list: family and attributes of each entry."""
        return read_until_settled(
            lambda: [(of, parse_attributes(data)) for of, data in self.entries(kind, family, attributes)]
        )

    def entries(
        self, kind: int, family: int = AF_UNSPEC, attributes: bytes = b""
    ) -> Generator[tuple[int, bytes], None, None]:
        """Yield the entries of a list as they come: each one's family, and its attributes as bytes.

        So nobody can fill our memory by making a list long. A caller that has seen enough closes the iterator. That
        replaces the socket, as the kernel answers nothing else before a list's end.

        Raises:
            InterruptedError: At the end: the list changed meanwhile.
        """
        self._send(kind, NLM_F_DUMP, family, attributes)
        is_over = False
        try:
            for payload in receive_list(self._socket, self._held.sequence):
                is_over = not payload
                if payload:
                    yield payload[0], payload[GENMSG.size :]
        finally:
            if not is_over:
                self._held = renew(self._held)

    def commit(
        self, subsystem: int, messages: Sequence[BatchMessage], generation: int | None = None, *, is_trial: bool = False
    ) -> None:
        """Commit all messages at once, or none.

        Args:
            subsystem: The subsystem of all of them.
            messages: The batch.
            generation: Commit only if nobody has committed since that one.
            is_trial: Whether the kernel only checks them, and does nothing.

        Raises:
            BatchError: The kernel refuses.
        """
        asked = b"" if generation is None else attribute(BATCH_GENERATION, struct.pack("!I", generation))
        parts = [_pack(BatchMessage(BATCH_BEGIN, AF_UNSPEC, asked), subsystem)]
        parts += [entry.packed for entry in messages[:-1]]
        parts += [_pack(entry, flags=NLM_F_ACK) for entry in messages[-1:]]
        ending = () if is_trial else (_pack(BATCH_END_MESSAGE, subsystem),)  # the kernel drops a batch without an end
        data = b"".join((*parts, *ending))
        self._held.make_room(len(data))
        self._socket.send(data)
        self._judge(parts)

    def _judge(self, parts: Sequence[bytes]) -> None:
        """Read the kernel's answers to a batch: each error, and the acknowledgement of the last message.

        That comes even if the last message failed. An error about the first header is about the batch as a whole.

        Raises:
            BatchError: There was an error; it is the one about the first message.
        """
        worst: BatchError | None = None
        last = _number_of(parts[-1])
        places: dict[int, int] = {}
        for sequence, flags, payload in self._answers():
            (code,) = CODE.unpack_from(payload)
            if code and not places:
                places = {_number_of(part): place for place, part in reversed([*enumerate(parts)])}
            place = places.get(sequence, 0 if sequence == last else -1)
            if place < 0:
                continue
            if code and (worst is None or place - 1 < worst.index):
                worst = BatchError(-code, place - 1, _offset_in(payload) if flags & NLM_F_ACK_TLVS else -1)
            if sequence == last or (code and place == 0):
                break
        else:
            worst = worst or BatchError(errno.ENOBUFS, -1)
        if worst is not None:
            raise worst

    def _answers(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield sequence number, flags and payload of each error and acknowledgement.

        If not all fit into the socket's buffer, it yields the first ones.
        """
        flags_of_call = 0
        while True:
            try:
                data = receive(self._socket, flags_of_call)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                flags_of_call = socket.MSG_DONTWAIT
                continue
            for kind, flags, sequence, payload in messages(data):
                if kind == NLMSG_ERROR:
                    yield sequence, flags, payload

    def _send(self, kind: int, flags: int, family: int, attributes: bytes, resource: int = 0) -> None:
        self._held.sequence += 1
        body = GENMSG.pack(family, 0, socket.htons(resource)) + attributes
        self._socket.send(request(kind, flags, body, self._held.sequence))


def _pack(message: BatchMessage, resource: int = 0, flags: int = 0) -> bytes:
    attributes, flags = message.attributes, flags | message.flags | NLM_F_REQUEST
    length, number = HEADERS.size + len(attributes), next(_NUMBERS)
    headers = HEADERS.pack(length, message.kind, flags, number, 0, message.family, 0, socket.htons(resource))
    return headers + attributes + bytes(-length & 3)


def _number_of(packed: bytes) -> int:
    return int(HEADER.unpack_from(packed)[3])


def _offset_in(payload: bytes) -> int:
    """Return where in the request's attributes the wrong one begins; -1 if the kernel doesn't say."""
    found = parse_attributes(payload[CODE.size + HEADER.size :]).get(ERROR_OFFSET)
    return -1 if found is None else int.from_bytes(found, sys.byteorder) - HEADER.size - GENMSG.size


def message_kind(subsystem: int, message: int) -> int:
    """Return the type of a subsystem's message."""
    return subsystem << 8 | message

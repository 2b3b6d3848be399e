"""nfnetlink: questions, lists, and batches that the kernel takes whole or not at all.

Owns what its messages have in common, batches (linux/netfilter/nfnetlink.h), and the threads that close its sockets.
Is given numbers and bytes. Must not know what they mean.

Closing a netfilter socket waits until the kernel has freed everything that was deleted in its namespace, one RCU grace
period later (nft_rcv_nl_event; some 16 ms). The new rules are in force long before, so another thread closes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Self

from sgdataplane.errors import HostError, UnsupportedError, module_needed
from sgdataplane.host import netns
from sgdataplane.host.netlink import (
    CODE,
    HEADER,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLMSG_ERROR,
    SOL_NETLINK,
    answer,
    attribute,
    listed,
    messages,
    opened,
    parse_attributes,
    receive,
    request,
    settled,
)

NETLINK_NETFILTER = 12
NLM_F_ACK_TLVS = 0x200  # of an error: attributes follow the request's header
BATCH_BEGIN, BATCH_END, BATCH_GENERATION = 0x10, 0x11, 1  # NFNL_MSG_BATCH_*, NFNL_BATCH_GENID
CAP_ACK, EXT_ACK = 10, 11  # errors quote no request, and say what in it was wrong
ERROR_OFFSET = 2  # NLMSGERR_ATTR_OFFS
SO_SNDBUFFORCE = 32
SIOCGSKNS = 0x894C  # linux/sockios.h: a descriptor of a socket's network namespace
GENMSG = struct.Struct("=BBH")  # family, version, resource id
AF_UNSPEC = 0


@dataclass(frozen=True, slots=True)
class BatchMessage:
    """One message of a batch. `flags`: in addition to those that every request has."""

    kind: int
    family: int
    attributes: bytes
    flags: int = 0


class BatchError(OSError):
    """The kernel refused a batch and did nothing of it. `index`: the first message that it objected to; -1: the batch
    as a whole. `offset`: where in that message's attributes the wrong one begins; -1 if the kernel doesn't say."""

    def __init__(self, code: int, index: int, offset: int = -1) -> None:
        super().__init__(code, os.strerror(code))
        self.index, self.offset = index, offset


class Nfnetlink:
    """A socket in the network namespace that the calling thread is in; it stays there. Errors are OSError, or
    UnsupportedError if the kernel has no nfnetlink."""

    def __init__(self) -> None:
        self._socket = _opened()
        self._sequence = 0
        self._room = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2

    def _renew(self) -> None:
        """Take another socket in the namespace of this one."""
        fd = fcntl.ioctl(self._socket, SIOCGSKNS)
        try:
            with netns.inside(f"/proc/self/fd/{fd}"):
                renewed = _opened()
        finally:
            os.close(fd)
        call_aside(self._socket.close)
        self._socket = renewed
        self._room = renewed.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Another thread closes it, since that may wait for deletions by others, too."""
        call_aside(self.close)

    def ask(self, kind: int, family: int = AF_UNSPEC, attributes: bytes = b"") -> dict[int, bytes]:
        """Send one request that has one answer; return the answer's attributes."""
        self._send(kind, 0, family, attributes)
        return parse_attributes(answer(self._socket, self._sequence)[GENMSG.size :])

    def tell(self, kind: int, family: int, attributes: bytes, flags: int = 0, resource: int = 0) -> None:
        """Send one request that is only acknowledged. `flags`: in addition to those that ask for that."""
        self._send(kind, NLM_F_ACK | flags, family, attributes, resource)
        answer(self._socket, self._sequence)

    def dump(self, kind: int, family: int = AF_UNSPEC, attributes: bytes = b"") -> list[tuple[int, dict[int, bytes]]]:
        """Read a whole, consistent list: (family, attributes) of each entry."""
        return settled(lambda: [(of, parse_attributes(data)) for of, data in self.entries(kind, family, attributes)])

    def entries(
        self, kind: int, family: int = AF_UNSPEC, attributes: bytes = b""
    ) -> Generator[tuple[int, bytes], None, None]:
        """Yield the entries of a list as they come: each one's family, and its attributes as bytes. So nobody can fill
        our memory by making a list long. InterruptedError at the end if the list changed meanwhile. A caller that has
        seen enough closes the iterator. That replaces the socket, as the kernel answers nothing else before a list's
        end."""
        self._send(kind, NLM_F_DUMP, family, attributes)
        is_over = False
        try:
            for payload in listed(self._socket, self._sequence):
                is_over = not payload
                if payload:
                    yield payload[0], payload[GENMSG.size :]
        finally:
            if not is_over:
                self._renew()

    def commit(
        self, subsystem: int, messages: Sequence[BatchMessage], generation: int | None = None, *, is_trial: bool = False
    ) -> None:
        """Do all of them at once, or none: BatchError. `generation`: only if nobody has committed since that one.
        `is_trial`: the kernel checks them, and does nothing."""
        first = self._sequence + 1
        asked = b"" if generation is None else attribute(BATCH_GENERATION, struct.pack("!I", generation))
        parts = [_packed(BatchMessage(BATCH_BEGIN, AF_UNSPEC, asked), first, subsystem)]
        last = len(messages)
        parts += [
            _packed(entry, first + number, acknowledged=number == last) for number, entry in enumerate(messages, 1)
        ]
        if not is_trial:  # the kernel drops a batch without an end
            parts.append(_packed(BatchMessage(BATCH_END, AF_UNSPEC, b""), first + last + 1, subsystem))
        data = b"".join(parts)
        self._make_room(len(data))
        self._sequence = first + last + 1
        self._socket.send(data)
        self._judge(first, last)

    def _make_room(self, size: int) -> None:
        """The kernel takes a batch in one piece only."""
        if size > self._room:
            self._room = 2 * size
            self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, self._room)

    def _judge(self, first: int, last: int) -> None:
        """Read the kernel's answers to a batch: each error, and the acknowledgement of the last message, which comes
        even if that failed. An error about the first header is about the batch as a whole."""
        worst: BatchError | None = None
        for sequence, flags, payload in self._answers():
            number = sequence - first
            if not 0 <= number <= last:
                continue
            (code,) = CODE.unpack_from(payload)
            if code and (worst is None or number - 1 < worst.index):
                worst = BatchError(-code, number - 1, _offset_in(payload) if flags & NLM_F_ACK_TLVS else -1)
            if number == last or (code and number == 0):
                break
        else:
            worst = worst or BatchError(errno.ENOBUFS, -1)
        if worst is not None:
            raise worst

    def _answers(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield sequence number, flags and payload of each error and acknowledgement; the first ones if not all fit
        into the socket's buffer."""
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
        self._sequence += 1
        body = GENMSG.pack(family, 0, socket.htons(resource)) + attributes
        self._socket.send(request(kind, flags, body, self._sequence))


def _opened() -> socket.socket:
    try:
        door = opened(NETLINK_NETFILTER)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:
            raise UnsupportedError("netfilter", module_needed("nfnetlink")) from error
        raise
    for option in (CAP_ACK, EXT_ACK):
        door.setsockopt(SOL_NETLINK, option, 1)
    return door


def _packed(message: BatchMessage, sequence: int, resource: int = 0, *, acknowledged: bool = False) -> bytes:
    flags = message.flags | (NLM_F_ACK if acknowledged else 0)
    body = GENMSG.pack(message.family, 0, socket.htons(resource)) + message.attributes
    return request(message.kind, flags, body, sequence) + bytes(-len(body) & 3)


def _offset_in(payload: bytes) -> int:
    """Where in the request's attributes the wrong one begins."""
    found = parse_attributes(payload[CODE.size + HEADER.size :]).get(ERROR_OFFSET)
    return -1 if found is None else int.from_bytes(found, sys.byteorder) - HEADER.size - GENMSG.size


def message_kind(subsystem: int, message: int) -> int:
    return subsystem << 8 | message


MOST_PENDING = 64  # each holds two descriptors and a thread, for long if others' commits are large

_ROOM = threading.BoundedSemaphore(MOST_PENDING)


def call_aside(call: Callable[[], object]) -> None:
    """Have another thread call it soon, and before the process ends. Waits while MOST_PENDING calls are pending."""
    _ROOM.acquire()
    try:
        _pool().submit(call).add_done_callback(lambda _: _ROOM.release())
    except RuntimeError:  # the process is ending
        _ROOM.release()
        call()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST_PENDING, "aside", initializer=_leave)


def _leave() -> None:
    """Leave the namespace in which the caller started this thread; the thread would keep it alive."""
    with suppress(HostError):  # without the privilege, nobody is in another namespace
        netns.enter_nowhere()


def _forget_pool() -> None:
    """In a child after a fork: the threads are the parent's."""
    global _ROOM  # noqa: PLW0603
    _ROOM = threading.BoundedSemaphore(MOST_PENDING)
    _pool.cache_clear()


os.register_at_fork(after_in_child=_forget_pool)

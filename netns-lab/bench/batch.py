"""Many packets with one call, by sendmmsg and recvmmsg, so that this program adds next to nothing to each packet.

Owns the structures that the two calls take (recvmmsg(2)). Must not know what is sent, or where.
"""

from __future__ import annotations

import ctypes
import os
import socket
from functools import lru_cache

PACKETS = 128  # of one batch: few enough for every queue on the path
SIZE = 64  # bytes of content in each


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vector", ctypes.POINTER(_Iovec)),
        ("vector_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


class Batch:
    """PACKETS messages of SIZE bytes, which all share one piece of memory."""

    def __init__(self) -> None:
        self._content = ctypes.create_string_buffer(SIZE)
        vector = _Iovec(ctypes.cast(self._content, ctypes.c_void_p), SIZE)
        self._vector = ctypes.pointer(vector)
        header = _Header(None, 0, self._vector, 1, None, 0, 0)
        self._messages = (_Message * PACKETS)(*(_Message(header, 0) for _ in range(PACKETS)))

    def send(self, sock: socket.socket) -> None:
        """Send all messages, each as a packet of its own. OSError if the kernel takes only some of them."""
        _checked(_libc().sendmmsg(sock.fileno(), self._messages, PACKETS, 0), PACKETS)

    def receive(self, sock: socket.socket) -> int:
        """Read the datagrams that have come, at most PACKETS, and return their number."""
        return max(0, int(_libc().recvmmsg(sock.fileno(), self._messages, PACKETS, socket.MSG_DONTWAIT, None)))


def _checked(count: int, wanted: int) -> None:
    if count != wanted:
        raise OSError(ctypes.get_errno(), f"{count} of {wanted} sent: {os.strerror(ctypes.get_errno())}")


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)

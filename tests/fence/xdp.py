"""Frames through an AF_XDP socket, which meet no hook in the sender's own namespace.

Owns the smallest such socket that sends: one frame at a time, copied, no program of its own. Must not know what a test
expects.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

AF_XDP, SOL_XDP = 44, 283
MMAP_OFFSETS, TX_RING, UMEM_REG, FILL_RING, COMPLETION_RING = 1, 3, 4, 5, 6  # XDP_*, linux/if_xdp.h
PGOFF_TX_RING, COPY = 0x80000000, 1 << 1
FRAME_BYTES, RING_SIZE = 2048, 8
OFFSETS = struct.Struct("=16Q")  # of four rings (rx, tx, fill, completion): producer, consumer, descriptors, flags
LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def xdp_sender(ifname: str) -> Iterator[Callable[[bytes], None]]:
    """What sends a frame from an interface of the calling thread's namespace, RING_SIZE times at most. OSError: the
    kernel has no such sockets."""
    with (
        closing(mmap.mmap(-1, FRAME_BYTES * RING_SIZE)) as memory,
        socket.socket(AF_XDP, socket.SOCK_RAW, 0) as sender,
        closing(_ring(sender, memory)) as ring,
    ):
        offsets = OFFSETS.unpack(sender.getsockopt(SOL_XDP, MMAP_OFFSETS, OFFSETS.size))
        address = struct.pack("=HHIII", AF_XDP, COPY, socket.if_nametoindex(ifname), 0, 0)
        _check(LIBC.bind(sender.fileno(), address, len(address)))  # by hand: Python has no addresses of this family
        sent = 0

        def send(frame: bytes) -> None:
            nonlocal sent
            start = FRAME_BYTES * sent
            memory[start : start + len(frame)] = frame
            struct.pack_into("=QII", ring, offsets[6] + 16 * sent, start, len(frame), 0)
            sent += 1
            struct.pack_into("=I", ring, offsets[4], sent)
            _check(LIBC.sendto(sender.fileno(), None, 0, socket.MSG_DONTWAIT, None, 0))

        yield send


def _ring(sender: socket.socket, memory: mmap.mmap) -> mmap.mmap:
    """The socket's ring of frames to be sent from that memory."""
    pin = ctypes.c_char.from_buffer(memory)
    where = ctypes.addressof(pin)
    del pin
    sender.setsockopt(SOL_XDP, UMEM_REG, struct.pack("=QQIII4x", where, len(memory), FRAME_BYTES, 0, 0))
    for ring in (FILL_RING, COMPLETION_RING, TX_RING):
        sender.setsockopt(SOL_XDP, ring, struct.pack("=I", RING_SIZE))
    descriptors = OFFSETS.unpack(sender.getsockopt(SOL_XDP, MMAP_OFFSETS, OFFSETS.size))[6]
    return mmap.mmap(sender.fileno(), descriptors + 16 * RING_SIZE, offset=PGOFF_TX_RING)


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

"""Waiting until no packet that was on its way is in the kernel's rules any more: one RCU grace period.

Owns how to have one at once. Is given nothing. Must not know rules.

A process can't ask for a grace period as such. membarrier(2), and closing a packet socket, wait for an ordinary one
(8 to 16 ms, median 11.6). But what waits by synchronize_net() while RTNL is held gets an expedited one, and taking a
device down that has a queueing discipline does (dev_deactivate_many; one without, as a loopback is made, does not:
tests/kernel/test_quiet.py). Up and down together take 0.2 ms. RCU is one for the whole machine, so the loopback of a
namespace of our own, where nothing else is, does as well as any device.
"""

from __future__ import annotations

import atexit
import os
import socket
import struct
import threading
from contextlib import suppress

from sgdataplane.errors import PrivilegeError
from sgdataplane.host import netns

NLMSG_ERROR, REQUEST_ACK, CREATE = 2, 0x5, 0x400  # linux/netlink.h
RTM_NEWLINK, RTM_NEWQDISC = 16, 36  # linux/rtnetlink.h
LOOPBACK, IFF_UP = 1, 1
TC_H_ROOT, TCA_KIND = 0xFFFFFFFF, 1
HEADER, LINK, QDISC = struct.Struct("=IHHII"), struct.Struct("=BxHiII"), struct.Struct("=BxxxiIII")


class _Switch:
    """The loopback of a namespace that this process made for it; the socket keeps the namespace."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._socket: socket.socket | None = None

    def flip(self) -> None:
        """Take it up, and down again, which waits. OSError if the kernel refuses either."""
        with self._lock:
            if self._socket is None or self._owner != os.getpid():  # a child's answers would mix with its parent's
                self._make()
            self._set(IFF_UP)
            self._set(0)

    def close(self) -> None:
        """Let the namespace go."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _make(self) -> None:
        self._close()
        with netns.nowhere():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._owner = os.getpid()
        try:
            kind = b"pfifo\0\0\0"
            body = QDISC.pack(socket.AF_UNSPEC, LOOPBACK, 0, TC_H_ROOT, 0) + struct.pack("=HH", 10, TCA_KIND) + kind
            self._tell(RTM_NEWQDISC, CREATE, body)
        except OSError:
            self._close()
            raise

    def _set(self, flags: int) -> None:
        self._tell(RTM_NEWLINK, 0, LINK.pack(socket.AF_UNSPEC, 0, LOOPBACK, flags, IFF_UP))

    def _tell(self, message: int, flags: int, body: bytes) -> None:
        assert self._socket is not None
        self._socket.send(HEADER.pack(HEADER.size + len(body), message, REQUEST_ACK | flags, 1, 0) + body)
        answer = self._socket.recv(1 << 16)
        kind, (error,) = HEADER.unpack_from(answer)[1], struct.unpack_from("=i", answer, HEADER.size)
        if kind != NLMSG_ERROR or error:
            raise OSError(-error, os.strerror(-error))


_SWITCH = _Switch()
atexit.register(_SWITCH.close)


def wait() -> None:
    """Return when all that was under RCU's read lock at the call has left it. PrivilegeError without CAP_NET_RAW."""
    with suppress(OSError):
        _SWITCH.flip()
        return
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0).close()  # packet_release
    except PermissionError as error:
        raise PrivilegeError("CAP_NET_RAW") from error

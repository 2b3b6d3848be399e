"""Waiting until no packet that was on its way is in the kernel's rules any more: one RCU grace period.

Owns how to have one at once. Is given nothing. Must not know rules.

A process can't ask for a grace period as such. membarrier(2), and closing a packet socket, wait for an ordinary one.
But what waits by synchronize_net() while RTNL is held gets an expedited one, and taking a device down does that
(dev_deactivate_many). From Linux 6.14 on only a device whose queueing discipline has a queue does; a loopback as it is
made has none, so ours is given a pfifo. RCU is one for the whole machine, so the loopback of a namespace of our own,
where nothing else is, does as well as any device. Up and down together take 0.1 ms, a packet socket 16
(docs/design/update.md). Only tests/kernel/test_quiet.py tells whether it waits: floods may well not.
"""

from __future__ import annotations

import atexit
import os
import socket
import struct
import threading
from contextlib import suppress

from sgdataplane.errors import HostError, PrivilegeError
from sgdataplane.host import netns
from sgdataplane.host.netlink import NLM_F_ACK, NLM_F_CREATE, answer, attribute, opened, request

RTM_NEWLINK, RTM_NEWQDISC = 16, 36  # linux/rtnetlink.h
LOOPBACK, IFF_UP = 1, 1
TC_H_ROOT, TCA_KIND = 0xFFFFFFFF, 1
LINK, QDISC = struct.Struct("=BxHiII"), struct.Struct("=BxxxiIII")


class _Switch:
    """The loopback of a namespace that this process made for it; the socket keeps the namespace."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def flip(self) -> None:
        """Take it up, and down again, which waits. OSError or HostError if the kernel refuses any of it."""
        with self._lock:
            if self._socket is None:
                self._make()
            try:
                self._set(IFF_UP)
                self._set(0)
            except BaseException:  # an answer that is still to come would be taken for the next one's
                self._close()
                raise

    def close(self) -> None:
        """Let the namespace go."""
        with self._lock:
            self._close()

    def forget(self) -> None:
        """In a child after a fork: its answers would mix with its parent's, and whoever held the lock isn't there."""
        self._lock = threading.Lock()
        self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _make(self) -> None:
        self._close()
        with netns.nowhere():
            self._socket = opened(socket.NETLINK_ROUTE)
        try:
            body = QDISC.pack(socket.AF_UNSPEC, LOOPBACK, 0, TC_H_ROOT, 0) + attribute(TCA_KIND, b"pfifo\0")
            self._tell(RTM_NEWQDISC, NLM_F_CREATE, body)
        except BaseException:
            self._close()
            raise

    def _set(self, flags: int) -> None:
        self._tell(RTM_NEWLINK, 0, LINK.pack(socket.AF_UNSPEC, 0, LOOPBACK, flags, IFF_UP))

    def _tell(self, message: int, flags: int, body: bytes) -> None:
        assert self._socket is not None
        self._socket.send(request(message, NLM_F_ACK | flags, body))
        answer(self._socket)


_SWITCH = _Switch()
atexit.register(_SWITCH.close)
os.register_at_fork(after_in_child=_SWITCH.forget)


def wait() -> None:
    """Return when all that was under RCU's read lock at the call has left it. PrivilegeError without CAP_NET_RAW."""
    with suppress(OSError, HostError):
        _SWITCH.flip()
        return
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0).close()  # packet_release
    except PermissionError as error:
        raise PrivilegeError("CAP_NET_RAW") from error

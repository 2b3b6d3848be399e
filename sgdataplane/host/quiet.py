"""The wait until every packet that was inside the kernel's rules has left them: one RCU grace period.

Owns how to get one quickly. Must not know rules.

A process can't request a grace period as such. membarrier(2), or closing a packet socket, waits for an ordinary one (16
ms). The kernel uses an expedited one in synchronize_net() while RTNL is held, and taking a device down calls that
(dev_deactivate_many): 0.1 ms for up and down. From Linux 6.14 on only a device whose queueing discipline has a queue
waits; a new loopback has none, so ours is given a pfifo. RCU is one for the whole machine, so the loopback of an empty
namespace of ours does. Only tests/kernel/test_quiet.py shows whether it waits: floods may well not.
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
from sgdataplane.host.netlink import NLM_F_ACK, NLM_F_CREATE, answer, attribute, open_netlink, request

RTM_NEWLINK, RTM_NEWQDISC = 16, 36  # linux/rtnetlink.h
LOOPBACK, IFF_UP = 1, 1
TC_H_ROOT, TCA_KIND = 0xFFFFFFFF, 1
LINK, QDISC = struct.Struct("=BxHiII"), struct.Struct("=BxxxiIII")


class _Switch:
    """The loopback of a namespace that this process makes for it. The socket keeps the namespace alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def flip(self) -> None:
        """Set the loopback up, and down again, which waits.

        Raises:
            OSError: The kernel refuses.
            HostError: The kernel refuses.
        """
        with self._lock:
            if self._socket is None:
                self._make()
            try:
                self._set(IFF_UP)
                self._set(0)
            except BaseException:  # an answer that comes later would be taken for the next request's
                self._close()
                raise

    def close(self) -> None:
        """End the namespace."""
        with self._lock:
            self._close()

    def forget(self) -> None:
        """Begin anew in a child after a fork.

        It would read its parent's answers, and the thread that held the lock isn't there.
        """
        self._lock = threading.Lock()
        self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _make(self) -> None:
        self._close()
        with netns.nowhere():
            self._socket = open_netlink(socket.NETLINK_ROUTE)
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
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_SWITCH.forget)


def wait() -> None:
    """Return once everything that held RCU's read lock at the call has released it.

    Raises:
        PrivilegeError: We don't have CAP_NET_RAW.
    """
    with suppress(OSError, HostError):
        _SWITCH.flip()
        return
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0).close()  # packet_release
    except PermissionError as error:
        raise PrivilegeError("CAP_NET_RAW") from error

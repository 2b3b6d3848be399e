"""Kernel events of other network namespaces, received on sockets in our own namespace.

Owns numbering namespaces (nsid, linux/net_namespace.h) and subscribing to groups of messages. Its input is paths; it
returns messages. Must not know what they mean.

A socket inside a namespace would keep it alive after its last process. One socket here that listens to all numbered
namespaces (NETLINK_LISTEN_ALL_NSID) gets the same messages and keeps nothing alive.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Container, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from sgdataplane.host import netns
from sgdataplane.host.linkentry import link_of as link_entry
from sgdataplane.host.netlink import (
    ADD_MEMBERSHIP,
    LISTEN_ALL_NSID,
    NLM_F_ACK,
    SO_RCVBUFFORCE,
    SOL_NETLINK,
    answer,
    attribute,
    messages,
    open_netlink,
    parse_attributes,
    receive_all,
    refusals_of,
    request,
    text_of,
)
from sgdataplane.host.rtnetlink import IFINFOMSG, LINK_NAME, Rtnetlink

BUFFER_BYTES = 8 << 20
READ_S = 0.005  # of one call; what is left stays readable
DROP_S = 1.0  # a full buffer takes a few hundredths
ROUTE = 0  # NETLINK_ROUTE, linux/netlink.h
LINK_GROUP, ADDRESS_GROUPS, NSID_GROUP = 1, (5, 9), 28  # RTNLGRP_*, linux/rtnetlink.h
ADDRESS_KINDS = (20, 21)  # RTM_NEWADDR, RTM_DELADDR
NEWLINK, DELLINK, NEWNSID, DELNSID, GETNSID = 16, 17, 88, 89, 90  # RTM_*
NETNSA_NSID, NETNSA_FD = 1, 3
NOT_ASSIGNED = -1
FAMILY = bytes(4)  # struct rtgenmsg, aligned
NUMBER = struct.Struct("=i")


@dataclass(frozen=True, slots=True)
class Message:
    """An event of the kernel's."""

    number: int | None  # the number of the namespace that it is about; None: ours
    kind: int
    payload: bytes  # what follows the netlink header


class Subscription:
    """Receives the messages of some groups from all numbered namespaces. For a selector; `read` never waits."""

    def __init__(self, protocol: int, groups: Iterable[int]) -> None:
        self._socket = open_netlink(protocol)
        with ExitStack() as stack, refusals_of("netlink events"):
            stack.callback(self._socket.close)
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
            self._socket.setsockopt(SOL_NETLINK, LISTEN_ALL_NSID, 1)
            for group in groups:
                self._socket.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)
            stack.pop_all()

    def fileno(self) -> int:
        """Return the descriptor that is readable when messages have come."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()

    def read(self, ignored: Container[int | None] = ()) -> tuple[list[Message], bool]:
        """Return the messages that have come, and whether some were lost because the socket's buffer was full.

        If there are very many, it returns the first and stays readable. Messages of the namespaces `ignored` are
        skipped.
        """
        found: list[Message] = []
        is_lossy, until = False, time.monotonic() + READ_S
        with refusals_of("netlink events"):
            for part in receive_all(self._socket):
                is_lossy |= part.is_lossy
                if part.number not in ignored:
                    found.extend(Message(part.number, kind, payload) for kind, _, _, payload in messages(part.data))
                if time.monotonic() > until:
                    break
        return found, is_lossy

    def drop(self) -> None:
        """Drop the messages that have come, without telling whether some were lost."""
        until = time.monotonic() + DROP_S
        with refusals_of("netlink events"):
            for _ in receive_all(self._socket):
                if time.monotonic() > until:
                    break


def number_of_ended(message: Message) -> int | None:
    """Return the number of the namespace that has ended, if that is what the message says; else None."""
    if message.kind != DELNSID:
        return None
    return int(NUMBER.unpack(parse_attributes(message.payload[len(FAMILY) :])[NETNSA_NSID])[0])


def is_about_address(message: Message) -> bool:
    """Whether an interface got an address, or lost one."""
    return message.kind in ADDRESS_KINDS


def link_of(message: Message) -> tuple[int, str] | None:
    """Return index and name of the link that has come, gone or changed, if that is what the message says; else None."""
    if message.kind not in (NEWLINK, DELLINK):
        return None
    (_, _, index, _, _) = IFINFOMSG.unpack_from(message.payload)
    return index, text_of(parse_attributes(message.payload[IFINFOMSG.size :]).get(LINK_NAME, b""))


def find_stacked(message: Message) -> tuple[int, int] | None:
    """Return which link is on top of one of another namespace, if that is what the message says; else None.

    It is the index of the link that has come or changed, and the number of the lower link's namespace.
    """
    if message.kind != NEWLINK:
        return None
    header, found = IFINFOMSG.unpack_from(message.payload), parse_attributes(message.payload[IFINFOMSG.size :])
    if not link_entry((header, found)).is_on_top_elsewhere:
        return None
    with suppress(OSError), Rtnetlink() as netlink:  # asked from here, it says our number of that namespace
        entry = netlink.link(header[2], message.number)
        return None if entry is None else (header[2], link_entry(entry).lower_nsid)
    return None  # it has ended


def number_of(name: str) -> int:
    """Return the number that a namespace (a name or path) has in ours, for all its life.

    It is given one if it has none.

    Raises:
        HostError: There is no such namespace.
    """
    with refusals_of(f"number of namespace {name}"), netns.open_fd(name) as fd, open_netlink(ROUTE) as sock:
        number = _ask(sock, fd)
        if number == NOT_ASSIGNED:
            _tell(sock, NEWNSID, fd, attribute(NETNSA_NSID, NUMBER.pack(NOT_ASSIGNED)))
            number = _ask(sock, fd)
        return number


def _ask(sock: socket.socket, fd: int) -> int:
    answer = _tell(sock, GETNSID, fd)
    return int(NUMBER.unpack(parse_attributes(answer[len(FAMILY) :])[NETNSA_NSID])[0])


def _tell(sock: socket.socket, kind: int, fd: int, more: bytes = b"") -> bytes:
    """Send a request, and return the answer.

    If somebody else has numbered the namespace meanwhile (EEXIST), that is fine, too.
    """
    body = FAMILY + attribute(NETNSA_FD, NUMBER.pack(fd)) + more
    flags = NLM_F_ACK if kind == NEWNSID else 0
    sock.send(request(kind, flags, body))
    try:
        return answer(sock)
    except FileExistsError:
        return b""

"""Root of a namespace writes to netlink sockets that root of the machine has there, in the kernel's words: it isn't
believed. Before, such an answer was taken for the kernel's.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import pytest

from sgdataplane.host import netns, nflog
from sgdataplane.host.links import Links
from sgdataplane.host.netlink import HEADER, attribute
from sgdataplane.host.nflog import Nflog
from sgdataplane.host.nfnetlink import GENMSG, Nfnetlink, message_kind
from sgdataplane.host.nfsocket import NETLINK_NETFILTER
from sgdataplane.host.rtnetlink import Rtnetlink
from sgdataplane.lab.packetlog import open_log
from sgdataplane.nft.uapi import GETGEN, SUBSYSTEM
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until

pytestmark = pytest.mark.kernel
NEWGEN, GEN_ID, NEWLINK, DONE, MULTI = 15, 1, 16, 3, 2
GROUP = 4711


def pretend(namespace: str, protocol: int, port: int, *messages: tuple[int, bytes]) -> None:
    """As the answer to the first question that is asked through the socket with that port."""
    data = b"".join(HEADER.pack(HEADER.size + len(body), kind, MULTI, 1, 0) + body for kind, body in messages)
    with netns.inside(namespace), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as door:
        door.sendto(data, (port, 0))


def opened(namespace: str, make: Callable[[], Nfnetlink | Rtnetlink]) -> tuple[Nfnetlink | Rtnetlink, int]:
    """And its port."""
    with netns.inside(namespace):
        door = make()
    return door, door._socket.getsockname()[0]  # as /proc/net/netlink tells it to everybody there


def test_an_answer(namespace: str) -> None:
    door, port = opened(namespace, Nfnetlink)
    with door:
        assert isinstance(door, Nfnetlink)
        forged = GENMSG.pack(0, 0, 0) + attribute(GEN_ID, struct.pack("!I", 4711))
        pretend(namespace, NETLINK_NETFILTER, port, (message_kind(SUBSYSTEM, NEWGEN), forged))
        told = door.ask(message_kind(SUBSYSTEM, GETGEN))
    with netns.inside(namespace), Nfnetlink() as other:
        assert told[GEN_ID] == other.ask(message_kind(SUBSYSTEM, GETGEN))[GEN_ID]


def test_a_list(namespace: str) -> None:
    door, port = opened(namespace, Rtnetlink)
    with door:
        assert isinstance(door, Rtnetlink)
        forged = struct.pack("=BxHiII", 0, 1, 4711, 0, 0) + attribute(3, b"forged\0")
        pretend(namespace, socket.NETLINK_ROUTE, port, (NEWLINK, forged), (DONE, bytes(4)))
        assert b"lo\0" in [found[3] for _, found in door.links()]


def test_a_logged_packet(namespace: str) -> None:
    """Beside one that the kernel has logged."""
    door, port = opened(namespace, lambda: Nflog(GROUP))
    with door:
        assert isinstance(door, Nflog)
        listener = door
        assert prefixes_of(namespace, port, GROUP, lambda: [entry.prefix for entry in listener.read()]) == {"real"}


def test_a_packet_of_a_replay(namespace: str) -> None:
    door, port = opened(namespace, open_log)
    with door:
        assert isinstance(door, Nflog)
        listener = door
        assert prefixes_of(namespace, port, door.group, lambda: [entry.prefix for entry in listener.read()]) == {"real"}


def prefixes_of(namespace: str, port: int, group: int, read: Callable[[], list[str]]) -> set[str]:
    """What is heard when somebody pretends that a packet was logged, and then the kernel logs one."""
    head = attribute(nflog.HEADER_OF_PACKET, bytes(4))
    forged = GENMSG.pack(2, 0, 0) + head + attribute(nflog.PREFIX, b"forged\0")
    pretend(namespace, NETLINK_NETFILTER, port, (message_kind(nflog.SUBSYSTEM, nflog.PACKET), forged))
    chain = "add chain inet t out { type filter hook output priority 0; }"
    nft(namespace, "add table inet t", chain, f'add rule inet t out log prefix "real" group {group}')
    with Links(namespace) as links:
        links.set_up("lo")
    with netns.inside(namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", 9))
    said: list[str] = []

    def is_heard() -> bool:
        said.extend(read())
        return "real" in said

    wait_until(is_heard)
    return set(said)

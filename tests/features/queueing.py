"""A program that the kernel asks what is to become of packets (`queue` in nft), as intrusion prevention has one.

Owns the few messages that it takes (linux/netfilter/nfnetlink_queue.h). Must not know what a test expects.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from sgdataplane.host import netns
from sgdataplane.host.netlink import (
    HEADER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    attribute,
    parse_attributes,
)
from sgdataplane.host.nfnetlink import AF_UNSPEC, GENMSG, message_kind
from sgdataplane.host.nfsocket import NETLINK_NETFILTER

SUBSYSTEM, PACKET, VERDICT, CONFIG = 3, 0, 1, 2  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_*
COMMAND, PARAMETERS, BIND, COPY_PACKET = 1, 2, 1, 2  # NFQA_CFG_*, NFQNL_*
PACKET_HEAD, VERDICT_HEAD, PAYLOAD = 1, 2, 10  # NFQA_*
ACCEPT, REPEAT = 1, 4  # NF_*
LONGEST = 1 << 16


@dataclass
class Program:
    """`seen`: the payloads of all packets that it was asked about, in order; it accepts each. `repeats`: at first it
    sends each through the chain once more that has asked."""

    repeats: bool
    seen: list[bytes] = field(default_factory=list)

    def verdict(self, packet: bytes) -> int:
        is_first = packet not in self.seen
        self.seen.append(packet)
        return REPEAT if self.repeats and is_first else ACCEPT

    def count(self, content: bytes) -> int:
        """How often it was asked about a packet with that in it."""
        return sum(content in packet for packet in self.seen)


@contextmanager
def program(namespace: str, number: int, *, repeats: bool = False) -> Iterator[Program]:
    """It listens to that queue there while the block runs."""
    made = Program(repeats)
    with netns.inside(namespace):
        door = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    end, other_end = os.pipe()
    try:
        door.bind((0, 0))
        _tell(door, CONFIG, number, attribute(COMMAND, struct.pack("!BxH", BIND, 0)))
        _tell(door, CONFIG, number, attribute(PARAMETERS, struct.pack("!IB", LONGEST, COPY_PACKET)))
        thread = threading.Thread(target=_answer, args=(door, number, made, end))
        thread.start()
        try:
            yield made
        finally:
            os.write(other_end, b"end")
            thread.join()
    finally:
        door.close()
        os.close(end)
        os.close(other_end)


def _tell(door: socket.socket, message: int, number: int, attributes: bytes) -> None:
    """OSError if the kernel refuses."""
    _send(door, message, number, attributes, NLM_F_REQUEST | NLM_F_ACK)
    answer = door.recv(LONGEST)
    (code,) = struct.unpack_from("=i", answer, HEADER.size)
    if HEADER.unpack_from(answer)[1] == NLMSG_ERROR and code:
        raise OSError(-code, os.strerror(-code))


def _send(door: socket.socket, message: int, number: int, attributes: bytes, flags: int) -> None:
    length = HEADER.size + GENMSG.size + len(attributes)
    head = HEADER.pack(length, message_kind(SUBSYSTEM, message), flags, 0, 0)
    door.send(head + GENMSG.pack(AF_UNSPEC, 0, socket.htons(number)) + attributes)


def _answer(door: socket.socket, number: int, made: Program, end: int) -> None:
    """Until there is something to read at `end`."""
    while not select.select([end], [], [], 0)[0]:
        select.select([door.fileno(), end], [], [])
        with suppress(OSError):  # more came than it had room for
            data = door.recv(2 * LONGEST, socket.MSG_DONTWAIT)
            if HEADER.unpack_from(data)[1] != message_kind(SUBSYSTEM, PACKET):
                continue
            found = parse_attributes(data[HEADER.size + GENMSG.size :])
            (packet,) = struct.unpack_from("!I", found[PACKET_HEAD])
            verdict = struct.pack("!II", made.verdict(found.get(PAYLOAD, b"")), packet)
            _send(door, VERDICT, number, attribute(VERDICT_HEAD, verdict), NLM_F_REQUEST)

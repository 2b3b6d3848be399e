"""rtnetlink without pyroute2, which takes ten times as long: lists of links, addresses and neighbours of one namespace.

Owns the layout of their messages (linux/rtnetlink.h, linux/if_link.h, linux/neighbour.h). Hands over their fields. Must
not know what is done with them.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from itertools import islice
from typing import Self

from sgdataplane.host.nfnetlink import (
    HEADER,
    MAX_ATTEMPTS,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attribute,
    parse_attributes,
    said_by_kernel,
)

GETLINK, GETADDR, GETNEIGH, GETNEIGHTBL = 18, 22, 30, 66  # RTM_*
IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
NDMSG = struct.Struct("=BxxxiHBB")  # family, interface, state, flags, type
NDTMSG = struct.Struct("=Bxxx")  # family
EXT_MASK, SKIP_STATISTICS = 29, struct.pack("=I", 1 << 3)  # IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS
TARGET = 46  # IFLA_TARGET_NETNSID
LINK_MAC, LINK_NAME, LINK_ALIAS = 1, 3, 20  # IFLA_*
CODE = struct.Struct("=i")
Entry = tuple[tuple[int, ...], dict[int, bytes]]  # the fields of its header, and its attributes


class Rtnetlink:
    """A socket in the network namespace that the calling thread is in; it stays there. Errors are OSError."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def links(self, number: int | None = None, most: int | None = None) -> list[Entry]:
        """All interfaces; or those of the namespace that has this number here. If there are more than `most`, that is
        an error, after which nothing else can be asked."""
        asked = attribute(EXT_MASK, SKIP_STATISTICS)
        target = b"" if number is None else attribute(TARGET, struct.pack("=i", number))
        return self._dump(GETLINK, IFINFOMSG, asked + target, most)

    def addresses(self) -> list[Entry]:
        """All addresses of all families."""
        return self._dump(GETADDR, IFADDRMSG)

    def neighbours(self) -> list[Entry]:
        """All neighbour entries of all families."""
        return self._dump(GETNEIGH, NDMSG)

    def neighbour_tables(self) -> list[Entry]:
        """The machine's tables, by family, with the settings of each interface here."""
        return self._dump(GETNEIGHTBL, NDTMSG)

    def change(self, kind: int, flags: int, body: bytes) -> None:
        """Ask for one change, and wait for the kernel's word."""
        self._send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body)
        list(self._receive())

    def _dump(self, kind: int, fields: struct.Struct, attributes: bytes = b"", most: int | None = None) -> list[Entry]:
        for _ in range(MAX_ATTEMPTS):
            self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, bytes(fields.size) + attributes)
            messages = list(islice(self._receive(), None if most is None else most + 2))  # its end is one, too
            if most is not None and len(messages) > most + 1:
                raise OSError(errno.EMFILE, f"more than {most} interfaces")
            if not any(flags & NLM_F_DUMP_INTR for flags, _ in messages):
                return [
                    (fields.unpack_from(payload), parse_attributes(payload[fields.size :]))
                    for _, payload in messages
                    if payload
                ]
        raise InterruptedError(errno.EINTR, f"the list changed during each of {MAX_ATTEMPTS} readings")

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(HEADER.pack(HEADER.size + len(body), kind, flags, self._sequence, 0) + body)

    def _receive(self) -> Iterator[tuple[int, bytes]]:
        """Flags and payload of each message of the list; of its end, which may tell that it changed, no payload."""
        while True:
            data, offset = said_by_kernel(self._socket), 0
            while offset < len(data):
                length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
                payload = data[offset + HEADER.size : offset + length]
                offset += (length + 3) & ~3
                if sequence != self._sequence:
                    continue
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    (code,) = CODE.unpack_from(payload)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    yield flags, b""
                    return
                yield flags, payload

"""Lists of rtnetlink, read without pyroute2, which takes ten times as long: links and addresses of one namespace.

Owns the layout of the two messages (linux/rtnetlink.h, linux/if_link.h). Hands over their fields. Must not know what is
done with them.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Self

from sgdataplane.host.nfnetlink import (
    HEADER,
    MAX_ATTEMPTS,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attribute,
    parse_attributes,
    said_by_kernel,
)

GETLINK, GETADDR = 18, 22  # RTM_*
IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
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

    def links(self, number: int | None = None) -> list[Entry]:
        """All interfaces; or those of the namespace that has this number here."""
        asked = attribute(EXT_MASK, SKIP_STATISTICS)
        target = b"" if number is None else attribute(TARGET, struct.pack("=i", number))
        return self._dump(GETLINK, IFINFOMSG, asked + target)

    def addresses(self) -> list[Entry]:
        """All addresses of all families."""
        return self._dump(GETADDR, IFADDRMSG)

    def _dump(self, kind: int, fields: struct.Struct, attributes: bytes = b"") -> list[Entry]:
        for _ in range(MAX_ATTEMPTS):
            self._sequence += 1
            body = bytes(fields.size) + attributes
            self._socket.send(
                HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, self._sequence, 0) + body
            )
            messages = list(self._receive())
            if not any(flags & NLM_F_DUMP_INTR for flags, _ in messages):
                return [
                    (fields.unpack_from(payload), parse_attributes(payload[fields.size :]))
                    for _, payload in messages
                    if payload
                ]
        raise InterruptedError(errno.EINTR, f"the list changed during each of {MAX_ATTEMPTS} readings")

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

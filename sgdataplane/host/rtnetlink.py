"""The rtnetlink protocol without pyroute2, which takes ten times as long: links, addresses, neighbours of a namespace.

Owns the layout of their messages (linux/rtnetlink.h, linux/if_link.h, linux/neighbour.h), and what interfaces call
themselves in a namespace that is read from outside. Must not know what is done with any of it.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from itertools import islice
from typing import Self

from sgdataplane.host.netlink import (
    NLM_F_ACK,
    NLM_F_DUMP,
    answer,
    attribute,
    open_netlink,
    parse_attributes,
    read_until_settled,
    receive_list,
    refusals_of,
    request,
    text_of,
)

GETLINK, GETADDR, GETNEIGH, GETNEIGHTBL = 18, 22, 30, 66  # RTM_*
IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
NDMSG = struct.Struct("=BxxxiHBB")  # family, interface, state, flags, type
NDTMSG = struct.Struct("=Bxxx")  # family
EXT_MASK, SKIP_STATISTICS = 29, struct.pack("=I", 1 << 3)  # IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS
TARGET = 46  # IFLA_TARGET_NETNSID
LINK_MAC, LINK_NAME, LINK_ALIAS = 1, 3, 20  # IFLA_*
Entry = tuple[tuple[int, ...], dict[int, bytes]]  # the fields of its header, and its attributes


class Rtnetlink:
    """A socket in the network namespace that the calling thread is in; it stays there. Errors are OSError."""

    def __init__(self) -> None:
        self._socket = open_netlink(socket.NETLINK_ROUTE)
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def links(self, number: int | None = None, most: int | None = None) -> list[Entry]:
        """Return all interfaces; with `number`, those of the namespace that has this number in ours.

        More than `most` are an error, after which this socket can't be used.
        """
        asked = attribute(EXT_MASK, SKIP_STATISTICS)
        return self._dump(GETLINK, IFINFOMSG, asked + _in(number), most)

    def link(self, asked: str | int, number: int | None = None) -> Entry | None:
        """Return the interface of that name or index; None if there is none. `number` is as for `links`.

        The cost doesn't depend on how many there are. The kernel also finds alternative names, which don't count.
        """
        name = asked.encode() + b"\0" if isinstance(asked, str) else b""
        index = 0 if isinstance(asked, str) else asked
        said = attribute(EXT_MASK, SKIP_STATISTICS) + (attribute(LINK_NAME, name) if name else b"") + _in(number)
        self._send(GETLINK, 0, IFINFOMSG.pack(0, 0, index, 0, 0) + said)
        try:
            payload = answer(self._socket, self._sequence)
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.ERANGE):  # none, or the name is longer than any can be
                raise
            return None
        found = parse_attributes(payload[IFINFOMSG.size :])
        return (IFINFOMSG.unpack_from(payload), found) if not name or found[LINK_NAME] == name else None

    def addresses(self) -> list[Entry]:
        """Return all addresses of all families."""
        return self._dump(GETADDR, IFADDRMSG)

    def neighbours(self) -> list[Entry]:
        """Return all neighbour entries of all families."""
        return self._dump(GETNEIGH, NDMSG)

    def neighbour_tables(self) -> list[Entry]:
        """Return the machine's neighbour tables, by family, with the settings of each interface here."""
        return self._dump(GETNEIGHTBL, NDTMSG)

    def change(self, kind: int, flags: int, body: bytes) -> None:
        """Request one change, and wait for the kernel's answer."""
        self._send(kind, NLM_F_ACK | flags, body)
        answer(self._socket, self._sequence)

    def _dump(self, kind: int, fields: struct.Struct, attributes: bytes = b"", most: int | None = None) -> list[Entry]:
        return read_until_settled(lambda: self._list(kind, fields, attributes, most))

    def _list(self, kind: int, fields: struct.Struct, attributes: bytes, most: int | None) -> list[Entry]:
        self._send(kind, NLM_F_DUMP, bytes(fields.size) + attributes)
        *payloads, _ = islice(receive_list(self._socket, self._sequence), None if most is None else most + 2)
        if most is not None and len(payloads) > most:
            raise OSError(errno.EMFILE, f"more than {most} interfaces")
        return [(fields.unpack_from(payload), parse_attributes(payload[fields.size :])) for payload in payloads]

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(request(kind, flags, body, self._sequence))


def _in(number: int | None) -> bytes:
    """Return what a request has that is about the namespace with this number."""
    return b"" if number is None else attribute(TARGET, struct.pack("=i", number))


IFF_LOOPBACK = 8
MAX_LINKS = 2000  # interfaces of a namespace; if its root makes more, we don't look at that namespace


@dataclass(frozen=True, slots=True)
class Label:
    """What an interface is called. Root of its namespace chooses that freely; what isn't UTF-8 is escaped."""

    ifname: str
    alias: str
    mac: str  # in lower case; "" if there is none
    is_loopback: bool = False


def labels_of(number: int) -> tuple[Label, ...]:
    """Return the labels of all interfaces, up or down, of the namespace with that number (host/events.py).

    Raises:
        HostError: No namespace has that number, or it has more than MAX_LINKS interfaces.
    """
    with refusals_of(f"namespace of number {number}"), Rtnetlink() as netlink:
        return tuple(_label(entry) for entry in netlink.links(number, MAX_LINKS))


def _label(entry: Entry) -> Label:
    (_, _, _, flags, _), said = entry
    return Label(
        text_of(said.get(LINK_NAME, b"")),
        text_of(said.get(LINK_ALIAS, b"")),
        said.get(LINK_MAC, b"").hex(":"),
        bool(flags & IFF_LOOPBACK),
    )

"""What the interfaces of a network namespace are called there, asked from outside.

Owns that one question to rtnetlink, as own netlink: pyroute2 is twenty times slower, and who looks at all namespaces
of a host asks often. Is given the number that a namespace has in ours (host/events.py). Must not know what names mean.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass

from sgdataplane.errors import HostError
from sgdataplane.host.nfnetlink import (
    HEADER,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    RECEIVE_BYTES,
    attribute,
    parse_attributes,
    text_of,
)

GETLINK = 18  # RTM_*, linux/rtnetlink.h
IFLA_ADDRESS, IFLA_IFNAME, IFLA_IFALIAS, IFLA_EXT_MASK, IFLA_TARGET_NETNSID = 1, 3, 20, 29, 46  # linux/if_link.h
SKIP_STATS = struct.pack("=I", 8)  # RTEXT_FILTER_SKIP_STATS
IFINFOMSG = struct.Struct("=BxHiII")  # family, hardware type, index, flags, change
IFF_LOOPBACK = 8
MAX_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Label:
    """What an interface says of itself: any bytes that who is root there likes; what is no UTF-8 is escaped. `mac` is
    in small letters, "" for none."""

    ifname: str
    alias: str
    mac: str
    is_loopback: bool = False


def labels_of(number: int) -> tuple[Label, ...]:
    """Of all interfaces of that namespace, up or down. HostError if there is none of that number."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as door:
            for _ in range(MAX_ATTEMPTS):
                found, was_interrupted = _dumped(door, number)
                if not was_interrupted:
                    return found
    except OSError as error:
        raise HostError(f"namespace of number {number}", error.strerror or str(error)) from error
    raise HostError(f"namespace of number {number}", f"its interfaces changed during each of {MAX_ATTEMPTS} readings")


def _dumped(door: socket.socket, number: int) -> tuple[tuple[Label, ...], bool]:
    """And whether they changed meanwhile."""
    body = IFINFOMSG.pack(0, 0, 0, 0, 0)
    body += attribute(IFLA_EXT_MASK, SKIP_STATS) + attribute(IFLA_TARGET_NETNSID, struct.pack("=i", number))
    door.send(HEADER.pack(HEADER.size + len(body), GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + body)
    found: list[Label] = []
    was_interrupted = False
    while True:
        data, offset = door.recv(RECEIVE_BYTES), 0
        while offset + HEADER.size <= len(data):
            length, kind, flags, *_ = HEADER.unpack_from(data, offset)
            payload = data[offset + HEADER.size : offset + length]
            was_interrupted |= bool(flags & NLM_F_DUMP_INTR)
            if kind in (NLMSG_DONE, NLMSG_ERROR):
                _raise_error(payload)
                return tuple(found), was_interrupted
            found.append(_label(payload))
            offset += (length + 3) & ~3


def _raise_error(payload: bytes) -> None:
    """Both ends of a list carry a negative errno, or none."""
    code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
    if code > 0:
        raise OSError(code, os.strerror(code))


def _label(payload: bytes) -> Label:
    _, _, _, flags, _ = IFINFOMSG.unpack_from(payload)
    said = parse_attributes(payload[IFINFOMSG.size :])
    return Label(
        text_of(said.get(IFLA_IFNAME, b"")),
        text_of(said.get(IFLA_IFALIAS, b"")),
        said.get(IFLA_ADDRESS, b"").hex(":"),
        bool(flags & IFF_LOOPBACK),
    )

"""nf_tables by hand: batches of raw netlink messages, with any bytes as names. It is what root of a namespace can send.

Owns the layout of these messages (linux/netfilter/nf_tables.h). Must not know what is expected of them.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sgdataplane.host import netns
from sgdataplane.host.netlink import (
    HEADER,
    attribute,
    list_attributes,
    nest,
    parse_attributes,
)
from sgdataplane.host.nfnetlink import GENMSG, Nfnetlink
from sgdataplane.host.nfsocket import NETLINK_NETFILTER

INET, NETDEV = 1, 5  # NFPROTO_*
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE, NLM_F_APPEND = 0x1, 0x4, 0x400, 0x800
BATCH_BEGIN, BATCH_END, SUBSYSTEM = 0x10, 0x11, 10
NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, NEWRULE, NEWSET, GETSET = 0, 1, 2, 3, 4, 6, 9, 10
NEWELEMENT, NEWOBJECT, GETOBJECT, NEWFLOWTABLE, GETFLOWTABLE = 12, 18, 19, 22, 23
MAX_ATTEMPTS = 50
SO_SNDBUFFORCE, SO_RCVBUFFORCE, BUFFER_BYTES = 32, 33, 1 << 28
COUNTER, QUOTA, CT_HELPER, LIMIT, CONNLIMIT, TUNNEL, CT_TIMEOUT, SECMARK, CT_EXPECT, SYNPROXY = range(1, 11)
ANONYMOUS, INTERVAL, MAP, TIMEOUT, EVAL, OBJECT = 0x1, 0x4, 0x8, 0x10, 0x20, 0x40  # NFT_SET_*
KEYS = {"ifname": (41, 16), "ipv4": (7, 4), "ipv6": (8, 16), "mark": (19, 4), "port": (13, 2)}  # type, bytes
VERDICT = 0xFFFFFF00


@dataclass(frozen=True, slots=True)
class Message:
    """`kind`: NFT_MSG_*."""

    kind: int
    family: int
    attributes: bytes
    flags: int = NLM_F_CREATE


def text(kind: int, value: bytes) -> bytes:
    return attribute(kind, value + b"\0")


def word(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value))


def table(name: bytes, family: int = INET, flags: int = 0) -> Message:
    return Message(NEWTABLE, family, text(1, name) + word(2, flags))


@dataclass(frozen=True, slots=True)
class In:
    """Makes the messages that make objects of one table."""

    table: bytes
    family: int = INET

    def message(self, kind: int, more: bytes, flags: int = NLM_F_CREATE) -> Message:
        return Message(kind, self.family, text(1, self.table) + more, flags)

    def chain(self, name: bytes, more: bytes = b"") -> Message:
        return self.message(NEWCHAIN, text(3, name) + more)

    def base_chain(
        self, name: bytes, hook: int, priority: int, device: bytes = b"", kind: bytes = b"filter"
    ) -> Message:
        where = word(1, hook) + attribute(2, struct.pack("!i", priority)) + (text(3, device) if device else b"")
        return self.chain(name, nest(4, [where]) + text(7, kind))

    def rule(self, chain: bytes, expressions: Sequence[bytes] = (), userdata: bytes = b"") -> Message:
        parts = text(2, chain) + nest(4, [nest(1, [one]) for one in expressions])
        data = attribute(7, userdata) if userdata else b""
        return self.message(NEWRULE, parts + data, NLM_F_CREATE | NLM_F_APPEND)

    def set(self, name: bytes, key: tuple[int, int], flags: int = 0, more: bytes = b"") -> Message:
        """`key`: its type, as user space numbers these, and its length."""
        kind, length = key
        shape = word(3, flags) + word(4, kind) + word(5, length) + word(10, 1)
        return self.message(NEWSET, text(2, name) + shape + more)

    def verdict_map(self, name: bytes, key: tuple[int, int], flags: int = 0, more: bytes = b"") -> Message:
        return self.set(name, key, flags | MAP, word(6, VERDICT) + word(7, 16) + more)

    def elements(self, name: bytes, elements: Iterable[bytes]) -> Message:
        return self.message(NEWELEMENT, text(2, name) + nest(3, [nest(1, [one]) for one in elements]))

    def object(self, name: bytes, kind: int, data: bytes = b"", more: bytes = b"") -> Message:
        return self.message(NEWOBJECT, text(2, name) + word(3, kind) + nest(4, [data]) + more)


def expression(name: bytes, data: bytes = b"") -> bytes:
    return text(1, name) + nest(2, [data])


def verdict(kind: int, code: int, chain: bytes = b"") -> bytes:
    """NFTA_DATA_VERDICT in an attribute of that kind. Codes: 0 drop, 1 accept, -3 jump, -4 goto, -5 return."""
    said = attribute(1, struct.pack("!i", code)) + (text(2, chain) if chain else b"")
    return nest(kind, [nest(2, [said])])


def immediate(code: int, chain: bytes = b"") -> bytes:
    return expression(b"immediate", word(1, 0) + verdict(2, code, chain))


def element(key: bytes, more: bytes = b"") -> bytes:
    return nest(1, [attribute(1, key)]) + more


def lasting(milliseconds: int) -> bytes:
    """Of an element that goes by itself."""
    return attribute(4, struct.pack("!Q", milliseconds))


def batch(messages: Sequence[Message], flags: int = 0) -> bytes:
    """What one send() takes. `flags` besides those of each message."""
    begin = _packed(BATCH_BEGIN, NLM_F_REQUEST, Message(0, 0, b""), 0)
    end = _packed(BATCH_END, NLM_F_REQUEST, Message(0, 0, b""), len(messages) + 1)
    body = [
        _packed(SUBSYSTEM << 8 | entry.kind, NLM_F_REQUEST | flags | entry.flags, entry, number)
        for number, entry in enumerate(messages, 1)
    ]
    return begin + b"".join(body) + end


def send(place: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
    """One batch there; the errors, as errno has them, each with its message's number, counted from 1 (0: the batch as a
    whole); none if it was taken."""
    with netns.inside(place), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as door:
        door.bind((0, 0))
        for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
            door.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        door.send(batch(messages, NLM_F_ACK))
        door.settimeout(30)
        return list(_errors(door, len(messages)))


def must_send(place: str, *messages: Message) -> None:
    found = send(place, messages)
    assert not found, [(number, errno.errorcode.get(code, code)) for number, code in found]


def send_what_fits(place: str, messages: Sequence[Message]) -> list[Message]:
    """In one batch those that the kernel takes: what it takes exception to is left out, until it does to nothing."""
    left = list(messages)
    for _ in range(MAX_ATTEMPTS):
        errors = {number for number, _ in send(place, left)}
        if not errors:
            return left
        assert 0 not in errors, "the batch as a whole was refused"
        left = [entry for number, entry in enumerate(left, 1) if number not in errors]
    raise AssertionError(f"something was refused {MAX_ATTEMPTS} times")


def _packed(kind: int, flags: int, entry: Message, number: int) -> bytes:
    resource = SUBSYSTEM if kind in (BATCH_BEGIN, BATCH_END) else 0
    body = GENMSG.pack(entry.family, 0, socket.htons(resource)) + entry.attributes
    return HEADER.pack(HEADER.size + len(body), kind, flags, number, 0) + body


def _errors(door: socket.socket, count: int) -> Iterator[tuple[int, int]]:
    answered = 0
    while answered < count:
        data, offset = door.recv(1 << 20), 0
        while offset < len(data):
            length, _, _, number, _ = HEADER.unpack_from(data, offset)
            (code,) = struct.unpack_from("=i", data, offset + HEADER.size)
            answered += 1
            if code:
                yield number, -code
            if number == 0:  # the batch as a whole
                return
            offset += (length + 3) & ~3


OBJECTS = {"chain": (GETCHAIN, 3), "set": (GETSET, 2), "object": (GETOBJECT, 2), "flowtable": (GETFLOWTABLE, 2)}


def names_in(place: str, name: bytes, family: int = INET) -> dict[str, set[bytes]]:
    """All that a table there has, by kind; sets without a name, which go with their rules, left out."""
    found: dict[str, set[bytes]] = {}
    with netns.inside(place), Nfnetlink() as door:
        for what, (message, key) in OBJECTS.items():
            entries = [entry for of, entry in door.dump(SUBSYSTEM << 8 | message, family) if of == family]
            named = (entry for entry in entries if entry[1].rstrip(b"\0") == name and not _is_nameless(what, entry))
            found[what] = {_suffix(what, entry) + entry[key].rstrip(b"\0") for entry in named}
    return found


def _is_nameless(what: str, entry: dict[int, bytes]) -> bool:
    return what == "set" and bool(int.from_bytes(entry.get(3, b""), "big") & ANONYMOUS)


def _suffix(what: str, entry: dict[int, bytes]) -> bytes:
    """Objects of different types may have one name."""
    return b"%d:" % int.from_bytes(entry[3], "big") if what == "object" else b""


def keys_of(place: str, name: bytes, map_name: bytes, family: int = INET) -> set[bytes]:
    """The keys of a set's elements."""
    with netns.inside(place), Nfnetlink() as door:
        asked = text(1, name) + text(2, map_name)
        parts = [entry.get(3, b"") for _, entry in door.dump(SUBSYSTEM << 8 | 13, family, asked)]
    found = (parse_attributes(one) for part in parts for _, one in list_attributes(part))
    return {parse_attributes(one[1])[1] for one in found}

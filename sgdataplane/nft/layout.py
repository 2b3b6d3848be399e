"""Know where the kernel has each field, and how keys and verdicts are written.

Owns the offsets in headers, the numbers of meta and ct keys, byte orders, and the codes of verdicts. It must not know
rules.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Literal

from sgdataplane.contract import names
from sgdataplane.contract.fields import PAIRED, Field, KeyType, Nfproto
from sgdataplane.host.netlink import parse_attributes, text_of
from sgdataplane.nft import uapi
from sgdataplane.nft.ir import Key, MapKey, Verdict, VerdictKind

LINK, NETWORK, TRANSPORT = 0, 1, 2  # NFT_PAYLOAD_*
VERDICTS = {
    0: VerdictKind.DROP,
    1: VerdictKind.ACCEPT,
    -3: VerdictKind.JUMP,
    -4: VerdictKind.GOTO,
    -5: VerdictKind.RETURN,
}
META = {
    1: Field.PROTOCOL,
    2: Field.PACKET_PRIORITY,
    3: Field.PACKET_MARK,
    6: Field.IIFNAME,
    7: Field.OIFNAME,
    13: Field.ROUTE_REALM,
    23: Field.SOCKET_CLASS,
    15: Field.NFPROTO,
    16: Field.L4PROTO,
}
ORIGINAL, REPLY = 0, 1  # IP_CT_DIR_*
CT: Mapping[tuple[int, int | None], Field] = {  # by key, and the tuple of the entry that has it
    (0, None): Field.CT_STATE,
    (1, None): Field.CT_DIRECTION,
    (3, None): Field.CT_MARK,
    (10, None): Field.CT_PROTOCOL,
    (11, ORIGINAL): Field.CT_ORIGINAL_SPORT,
    (12, ORIGINAL): Field.CT_ORIGINAL_DPORT,
    (11, REPLY): Field.CT_REPLY_SPORT,
    (12, REPLY): Field.CT_REPLY_DPORT,
    (19, ORIGINAL): Field.CT_ORIGINAL_IP_SADDR,
    (20, ORIGINAL): Field.CT_ORIGINAL_IP_DADDR,
    (19, REPLY): Field.CT_REPLY_IP_SADDR,
    (20, REPLY): Field.CT_REPLY_IP_DADDR,
    (21, ORIGINAL): Field.CT_ORIGINAL_IP6_SADDR,
    (22, ORIGINAL): Field.CT_ORIGINAL_IP6_DADDR,
    (21, REPLY): Field.CT_REPLY_IP6_SADDR,
    (22, REPLY): Field.CT_REPLY_IP6_DADDR,
}
MARK_KEY = 3  # the same for meta and ct
PRIORITY_KEY = 2  # for meta
PLACES: Mapping[Field, tuple[int, int, int]] = {  # header, offset and length, both in bytes
    Field.ETHER_SADDR: (LINK, 6, 6),
    Field.ETHER_TYPE: (LINK, 12, 2),
    Field.LINK_SADDR: (LINK, 6, 6),
    Field.LINK_TYPE: (LINK, 12, 2),
    Field.IP_FRAGMENT: (NETWORK, 6, 2),
    Field.IP_SADDR: (NETWORK, 12, 4),
    Field.IP_DADDR: (NETWORK, 16, 4),
    Field.IP6_HOPLIMIT: (NETWORK, 7, 1),
    Field.IP6_SADDR: (NETWORK, 8, 16),
    Field.IP6_DADDR: (NETWORK, 24, 16),
    Field.ARP_HTYPE: (NETWORK, 0, 2),
    Field.ARP_PTYPE: (NETWORK, 2, 2),
    Field.ARP_HLEN: (NETWORK, 4, 1),
    Field.ARP_PLEN: (NETWORK, 5, 1),
    Field.ARP_OPERATION: (NETWORK, 6, 2),
    Field.ARP_SENDER_MAC: (NETWORK, 8, 6),
    Field.ARP_SENDER_IP: (NETWORK, 14, 4),
    Field.ARP_TARGET_IP: (NETWORK, 24, 4),
    Field.TH_SPORT: (TRANSPORT, 0, 2),
    Field.TH_DPORT: (TRANSPORT, 2, 2),
    Field.TCP_FLAGS: (TRANSPORT, 13, 1),
    Field.ICMP_TYPE: (TRANSPORT, 0, 1),
    Field.ICMPV6_TYPE: (TRANSPORT, 0, 1),
    Field.ND_TARGET: (TRANSPORT, 8, 16),
}


def _at(*fields: Field) -> Mapping[tuple[int, int], Field]:
    return {PLACES[name][1:]: name for name in fields}


# The field at each (offset, length), by the protocol that the rule has asked for before.
HEADERS: Mapping[Key | None, Mapping[tuple[int, int], Field]] = {
    Nfproto.IPV4: _at(Field.IP_FRAGMENT, Field.IP_SADDR, Field.IP_DADDR),
    Nfproto.IPV6: _at(Field.IP6_HOPLIMIT, Field.IP6_SADDR, Field.IP6_DADDR),
}
PORTS = _at(Field.TH_SPORT, Field.TH_DPORT)
TRANSPORTS: Mapping[Key | None, Mapping[tuple[int, int], Field]] = {
    None: PORTS,
    6: {**PORTS, **_at(Field.TCP_FLAGS)},
    17: PORTS,
    1: _at(Field.ICMP_TYPE),
    58: _at(Field.ICMPV6_TYPE, Field.ND_TARGET),
}
# What a rule must ask before it may read a field: other packets don't have the field.
IPV4, IPV6 = ((Field.NFPROTO, int(family)) for family in (Nfproto.IPV4, Nfproto.IPV6))
TAKES: Mapping[Field, tuple[tuple[Field, int], ...]] = {
    Field.IP_SADDR: (IPV4,),
    Field.IP_DADDR: (IPV4,),
    Field.IP_FRAGMENT: (IPV4,),
    Field.IP6_SADDR: (IPV6,),
    Field.IP6_DADDR: (IPV6,),
    Field.IP6_HOPLIMIT: (IPV6,),
    Field.IP6_FRAGMENT: (IPV6,),
    Field.TCP_FLAGS: ((Field.L4PROTO, 6),),
    Field.ICMP_TYPE: (IPV4, (Field.L4PROTO, 1)),
    Field.ICMPV6_TYPE: (IPV6, (Field.L4PROTO, 58)),
}
HOST_ORDER = (KeyType.MARK, KeyType.CLASSID, KeyType.CT_STATE)
Order = Literal["little", "big"]
LONGEST: dict[KeyType, int] = {  # how many bytes a key has at most
    KeyType.IFNAME: 16,
    KeyType.IPV4: 4,
    KeyType.IPV6: 16,
    KeyType.NUMBER: 2,
    KeyType.MARK: 4,
    KeyType.CLASSID: 4,
    KeyType.NFPROTO: 1,
    KeyType.CT_STATE: 4,
    KeyType.CT_DIRECTION: 1,
    KeyType.MAC: 6,
    KeyType.ETHERTYPE: 2,
    KeyType.BITS: 8,
    KeyType.BITS128: 16,
}
LONGEST |= {pair: LONGEST[first] + LONGEST[KeyType.IFNAME] for pair, first in PAIRED.items()}


class UnreadableError(Exception):
    """A rule has something that we never write; str() says what."""


def key_of(key_type: KeyType, data: bytes, order: Order | None = None) -> Key:
    """Return the key that the kernel wrote as these bytes.

    An interface name without padding stands for all names that begin so. `order` is that of the bytes, if it isn't that
    of all keys of the type.

    Raises:
        UnreadableError: The key is longer than keys of that type, as it is made of several fields.
    """
    if len(data) > LONGEST[key_type]:
        raise UnreadableError("keys of several fields")
    if key_type is KeyType.IFNAME:
        return text_of(data) if b"\0" in data or len(data) == LONGEST[key_type] else text_of(data) + "*"
    return int.from_bytes(data, order or order_of_key(key_type))


def map_key_of(key_type: KeyType, data: bytes) -> MapKey:
    """Return a key of a named map or set, which may be a pair.

    Raises:
        UnreadableError: The name of an interface isn't one that we bind.
    """
    if key_type not in PAIRED:
        return key_of(key_type, data)
    size = LONGEST[PAIRED[key_type]]
    ifname = names.interface(data[size:])
    if ifname is None or len(data) != LONGEST[key_type]:
        raise UnreadableError("pairs of a kind that we don't make")
    return int(key_of(PAIRED[key_type], data[:size])), ifname


def verdict_of(data: bytes) -> Verdict:
    """Return the verdict in a nested NFTA_DATA_VERDICT.

    Raises:
        UnreadableError: We never write it.
    """
    attributes = parse_attributes(data)
    code = int.from_bytes(attributes[uapi.VERDICT_CODE], "big", signed=True)
    if code not in VERDICTS:
        raise UnreadableError(f"verdict {code}")
    chain = text_of(attributes[uapi.VERDICT_CHAIN]) if uapi.VERDICT_CHAIN in attributes else ""
    return Verdict(VERDICTS[code], chain)


def order_of(name: Field) -> Order:
    """Return the byte order of a field's values in the kernel."""
    return order_of_key(name.key_type)


def order_of_key(key_type: KeyType) -> Order:
    """Return the byte order of keys of that type in the kernel."""
    return sys.byteorder if key_type in HOST_ORDER else "big"


def fields_at(
    base: int, offset: int, length: int, known: Mapping[Field, Key]
) -> tuple[tuple[Field, ...], tuple[int, ...]]:
    """Return the fields in that part of a header, in order, and the length of each in bytes.

    A single field may be longer than `length`. `known` has the values that the rule has asked for before.

    Raises:
        UnreadableError: No field of ours begins there, or the last of several fields is cut off.
    """
    layout = _layout(base, known)
    found: list[Field] = []
    lengths: list[int] = []
    at = offset
    while at < offset + length:
        size, name = next(((size, name) for (start, size), name in layout.items() if start == at), (0, None))
        if name is None:
            raise UnreadableError(f"payload of header {base}, {length} bytes at {offset}")
        found.append(name)
        lengths.append(size)
        at += size
    if at > offset + length and len(found) > 1:
        raise UnreadableError(f"payload of header {base}, {length} bytes at {offset}")
    return tuple(found), tuple(lengths)


def _layout(base: int, known: Mapping[Field, Key]) -> Mapping[tuple[int, int], Field]:
    if base == NETWORK:
        return HEADERS.get(known.get(Field.NFPROTO), {})
    return TRANSPORTS.get(known.get(Field.L4PROTO), {}) if base == TRANSPORT else {}

"""The addresses and ports in a packet's own headers.

Owns how they are laid out. Is given the first bytes of a packet. Must not know where it was seen.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from sgdataplane.net.values import ICMP, ICMPV6, PORT_PROTOCOLS, TCP, Address, Family

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
AFTER_IPV6 = 40
OPTIONS, ROUTING, FRAGMENT = (0, 60, 135, 139, 140), 43, 44  # extension headers; 51 (AH) is a protocol to rules
OFFSET = 0x1FFF


@dataclass(frozen=True, slots=True)
class Headers:
    """What a packet says of itself; None: it has no such field, or is cut short before it. `length`: bytes of all of
    it, its own header included. Of ARP the addresses are the sender's and the one asked for."""

    family: Family | None = None
    source: Address | None = None
    destination: Address | None = None
    protocol: int | None = None
    source_port: int | None = None
    port: int | None = None
    icmp_type: int | None = None
    tcp_flags: int | None = None
    length: int = 0


def parse_headers(ethertype: int, data: bytes) -> Headers:
    """Never fails: of what makes no sense, all is None."""
    try:
        if ethertype == IPV4:
            return _ipv4(data)
        if ethertype == IPV6:
            return _ipv6(data)
        if ethertype == ARP:
            return Headers(source=_address(data[14:18]), destination=_address(data[24:28]), length=len(data))
    except (struct.error, IndexError, ValueError):
        pass
    return Headers(length=len(data))


def _address(data: bytes) -> Address:
    if len(data) not in (4, 16):
        raise ValueError("cut short")
    return Address(8 * len(data), int.from_bytes(data, "big"))


def _ipv4(data: bytes) -> Headers:
    length, offset = struct.unpack_from("!2xH2xH", data)
    ends = _address(data[12:16]), _address(data[16:20])
    rest = b"" if offset & OFFSET else data[4 * (data[0] & 15) :]
    return _transport(Headers(Family.IPV4, *ends, data[9], length=length), rest)


def _ipv6(data: bytes) -> Headers:
    (length,) = struct.unpack_from("!4xH", data)
    ends, protocol, at = (_address(data[8:24]), _address(data[24:40])), data[6], AFTER_IPV6
    is_later = False
    while protocol in (*OPTIONS, ROUTING, FRAGMENT) and at + 8 <= len(data):
        if protocol == FRAGMENT:
            is_later, step = int.from_bytes(data[at + 2 : at + 4], "big") >> 3 > 0, 8
        else:
            step = 8 * (data[at + 1] + 1)
        protocol, at = data[at], at + step
    headers = Headers(Family.IPV6, *ends, protocol, length=length + AFTER_IPV6)
    return _transport(headers, b"" if is_later else data[at:])


def _transport(headers: Headers, data: bytes) -> Headers:
    """With ports, flags or type, as far as they are there."""
    if headers.protocol in PORT_PROTOCOLS and len(data) >= 4:
        ports = struct.unpack_from("!HH", data)
        flags = data[13] if headers.protocol == TCP and len(data) >= 14 else None
        return replace(headers, source_port=ports[0], port=ports[1], tcp_flags=flags)
    if headers.protocol in (ICMP, ICMPV6) and data:
        return replace(headers, icmp_type=data[0])
    return headers

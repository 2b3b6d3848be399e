"""The addresses and ports in a packet's own headers.

Is given the first bytes of a packet. Must not know where it was seen.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from sgdataplane.net.headers import ETH_ARP, ETH_IPV4, ETH_IPV6, IPV6_HEADER, ends_of, family_of, find_upper
from sgdataplane.net.values import ICMP, ICMPV6, PORT_PROTOCOLS, TCP, Address, Family

FAMILIES = {ETH_IPV4: Family.IPV4, ETH_IPV6: Family.IPV6}
ARP_BYTES = 28


@dataclass(frozen=True, slots=True)
class Headers:
    """The fields of a packet's headers; None where it has no such field, or is cut off before it."""

    family: Family | None = None
    source: Address | None = None
    """The sender's address for ARP, too."""
    destination: Address | None = None
    """The address asked for, for ARP."""
    protocol: int | None = None
    source_port: int | None = None
    port: int | None = None
    """The destination port."""
    icmp_type: int | None = None
    icmp_code: int | None = None
    tcp_flags: int | None = None
    length: int = 0
    """Bytes of the whole packet, with its IP header."""


def parse_headers(ethertype: int, data: bytes) -> Headers:
    """Parse a packet's headers; never fail: if the bytes make no sense, all fields are None."""
    if ethertype in FAMILIES and family_of(data) is FAMILIES[ethertype]:
        return _ip(FAMILIES[ethertype], data)
    if ethertype == ETH_ARP and len(data) >= ARP_BYTES:
        sender, asked = (Address(32, int.from_bytes(data[at : at + 4])) for at in (14, 24))
        return Headers(source=sender, destination=asked, length=len(data))
    return Headers(length=len(data))


def _ip(family: Family, data: bytes) -> Headers:
    upper = find_upper(data)
    is_four = family is Family.IPV4
    length = int.from_bytes(data[2:4]) if is_four else IPV6_HEADER + int.from_bytes(data[4:6])
    headers = Headers(family, *ends_of(data), upper.protocol, length=length)
    return _transport(headers, data[upper.at :] if upper.is_here else b"")


def _transport(headers: Headers, data: bytes) -> Headers:
    """Add ports, flags or type, if they are there."""
    if headers.protocol in PORT_PROTOCOLS and len(data) >= 4:
        ports = struct.unpack_from("!HH", data)
        flags = data[13] if headers.protocol == TCP and len(data) >= 14 else None
        return replace(headers, source_port=ports[0], port=ports[1], tcp_flags=flags)
    if headers.protocol in (ICMP, ICMPV6) and data:
        return replace(headers, icmp_type=data[0], icmp_code=data[1] if len(data) >= 2 else None)
    return headers

"""Other addresses for a packet of a capture, in its headers and in what an ICMP error quotes.

Owns which checksums depend on addresses. Is given packets and addresses. Must not know why these.
Checksums follow by what changes (RFC 1624), so one that was wrong stays wrong by as much. The IPv4 header's is the
sending kernel's to make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sgdataplane.lab.frames import checksum
from sgdataplane.lab.replay.packets import IpPacket, internet_sum
from sgdataplane.model.always import ICMP_ERRORS, ICMPV6_ERRORS
from sgdataplane.net.headers import ENDS, ends_of, family_of, find_upper
from sgdataplane.net.values import ICMP, ICMPV6, TCP, UDP, Address, Family

DCCP, UDPLITE = 33, 136
WITH_ADDRESSES = {TCP: 16, UDP: 6, ICMPV6: 2, DCCP: 6, UDPLITE: 6}  # where the checksum is that covers a pseudo-header
Changed = Callable[[Address], Address]


@dataclass(frozen=True, slots=True)
class Readdressed:
    """A packet as it is sent, with what it was in the capture."""

    packet: IpPacket
    data: bytes
    source: Address
    target: Address


def readdress(packet: IpPacket, source: Address, target: Address, changed: Changed, hops: int) -> Readdressed:
    """The packet from `source` to `target`, to arrive with the hop limit that it has after so many routers; `changed`
    says what becomes of addresses that an ICMP error quotes."""
    data = bytearray(packet.data)
    if packet.is_filled:
        _make_right(data, packet)
    old, new = bytes(data[ENDS[packet.family]]), _octets(source) + _octets(target)
    data[ENDS[packet.family]] = new
    if packet.has_upper:
        _adjust_upper(data, packet.upper, packet.protocol, old, new)
        if is_error(packet.protocol, data[packet.upper] if len(data) > packet.upper else None):
            _readdress_quoted(data, packet, changed)
    at = 8 if packet.family is Family.IPV4 else 7
    data[at] = min(255, max(1, data[at]) + hops)
    return Readdressed(packet, bytes(data), source, target)


def is_error(protocol: int, kind: int | None) -> bool:
    """Whether an ICMP type is an error, which quotes the packet it is about."""
    return (protocol == ICMP and kind in ICMP_ERRORS) or (protocol == ICMPV6 and kind in ICMPV6_ERRORS)


def adjusted(check: int, old: bytes, new: bytes) -> int:
    """The checksum after octets that it covers became others, at an even place."""
    total = (~check & 0xFFFF) + (~internet_sum(old) & 0xFFFF) + internet_sum(new)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _octets(address: Address) -> bytes:
    return address.value.to_bytes(address.family_bits // 8, "big")


def _adjust_upper(data: bytearray, upper: int, protocol: int, old: bytes, new: bytes) -> None:
    if protocol not in WITH_ADDRESSES or old == new:
        return
    at = upper + WITH_ADDRESSES[protocol]
    _adjust_at(data, at, old, new, is_udp=protocol == UDP)


def _adjust_at(data: bytearray, at: int, old: bytes, new: bytes, *, is_udp: bool = False) -> None:
    """Where the checksum is there at all; UDP says 0 for none, and 0xffff for a sum of 0."""
    check = int.from_bytes(data[at : at + 2], "big")
    if len(data) < at + 2 or (is_udp and check == 0):
        return
    check = adjusted(check, old, new)
    data[at : at + 2] = ((check or 0xFFFF) if is_udp else check).to_bytes(2, "big")


def _readdress_quoted(data: bytearray, packet: IpPacket, changed: Changed) -> None:
    """The packet that an ICMP error quotes, as far as it is there, and the error's own checksum."""
    at = packet.upper + 8
    before, quoted = bytes(data[at:]), bytearray(data[at:])
    if family_of(before) is not packet.family:
        return
    place, upper = ENDS[packet.family], find_upper(before)
    old, new = before[place], b"".join(_octets(changed(end)) for end in ends_of(before))
    quoted[place] = new
    if packet.family is Family.IPV4:
        _adjust_at(quoted, 10, old, new)
    if upper.is_here:
        _adjust_upper(quoted, upper.at, upper.protocol, old, new)
    data[at:] = quoted
    _adjust_at(data, packet.upper + 2, before, bytes(quoted))


def _make_right(data: bytearray, packet: IpPacket) -> None:
    """The checksum of a packet that was filled up: what it was can't be known. (Before its addresses change.)"""
    upper, protocol = packet.upper, packet.protocol
    at = upper + (2 if protocol == ICMP else WITH_ADDRESSES[protocol])
    if protocol == UDP and data[at : at + 2] == b"\0\0":
        return
    data[at : at + 2] = b"\0\0"
    pseudo = b""
    if protocol != ICMP:
        size = len(data) - upper
        pseudo = bytes(data[ENDS[packet.family]]) + size.to_bytes(4, "big") + protocol.to_bytes(4, "big")
    data[at : at + 2] = (checksum(pseudo + bytes(data[upper:])) or 0xFFFF).to_bytes(2, "big")

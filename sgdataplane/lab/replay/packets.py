"""The IP packets of a capture: found in their frames, read, and given other addresses.

Owns link layers, which packets are whole, and which checksums depend on addresses. It is given octets and addresses.
Must not do I/O, nor know a lab.

Unfit says why a packet can't be replayed. All packets of one kind have the same reason, so they can be counted.
Checksums are updated by what changes (RFC 1624), so a wrong checksum stays wrong by the same amount. The sending kernel
writes the IPv4 header's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from sgdataplane.lab.frames import checksum, fold_carries, internet_sum
from sgdataplane.model.always import DISCOVERY_TYPES, ICMP_ERRORS, ICMPV6_ERRORS
from sgdataplane.net.headers import (
    ENDS,
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    EXTENSIONS,
    HOP_BY_HOP,
    IPV6_HEADER,
    NEXT_HEADER,
    UNIT,
    Fragment,
    ends_of,
    family_of,
    find_upper,
)
from sgdataplane.net.values import ICMP, ICMPV6, TCP, UDP, Address, Family

ETHERNET, LOOPBACK, SLL, SLL2, BSD_LOOPBACK, PPP = 1, 0, 113, 276, 108, 9  # tcpdump.org/linktypes.html
RAW_IP = (12, 14, 101, 228, 229)
VLAN = (0x8100, 0x88A8, 0x9100)
PPP_IP = (0x0021, 0x0057)
NAMES = {ETH_ARP: "ARP", 0x86DD: "IPv6", 0x8863: "PPPoE discovery", 0x8864: "PPPoE", 0x8847: "MPLS", 0x88CC: "LLDP"}
MIN_HEADERS = {6: 20, 17: 8, 1: 8, 58: 8}  # a packet that is cut off earlier can't be filled up
LINK_ONLY = "link-local traffic: multicast, broadcast, a link-local address, or neighbour discovery"


class Unfit(Exception):  # noqa: N818  # it is no error, but says why a packet is left out
    """This packet is left out of the replay; the text says why."""


@dataclass(frozen=True, slots=True)
class IpPacket:
    """An IP packet of the capture."""

    data: bytes
    """The whole packet and nothing else."""
    source: Address
    target: Address
    protocol: int
    """The transport protocol; meaningless in a later fragment."""
    upper: int
    """Where the transport header begins, behind all IPv6 extension headers; meaningless in a later fragment."""
    fragment: Fragment | None = None
    """None if the packet isn't one."""
    is_filled: bool = False
    """Whether the capture cut the packet off, and zeros fill it up."""

    @property
    def family(self) -> Family:
        """The address family."""
        return self.source.family

    @property
    def has_upper(self) -> bool:
        """Whether its transport header is here."""
        return self.fragment is None or self.fragment.offset == 0


def find_packet(linktype: int, frame: bytes, length: int) -> IpPacket:
    """Return the IP packet in a frame that was `length` octets long on the wire.

    Unfit if there is none to replay.
    """
    try:
        data = _strip(linktype, frame)
        if not data:
            raise Unfit("an empty frame")
        missing = max(0, length - len(frame))
        version = data[0] >> 4
        if version not in (4, 6):
            raise Unfit(f"IP version {version}")
        packet = _ipv4(data, missing) if version == 4 else _ipv6(data, missing)
        if packet.protocol == ICMPV6 and packet.has_upper and packet.data[packet.upper] in DISCOVERY_TYPES:
            raise Unfit(LINK_ONLY)
        return packet
    except (struct.error, IndexError):
        raise Unfit("cut off within its headers") from None


# link layers


def _strip(linktype: int, frame: bytes) -> bytes:
    """Return what is behind the link layer's header. Unfit if it isn't IP, or the link type isn't known."""
    if linktype == ETHERNET:
        return _of_type(int.from_bytes(frame[12:14], "big"), frame[14:])
    if linktype in RAW_IP:
        return frame
    if linktype == SLL:
        return _of_type(int.from_bytes(frame[14:16], "big"), frame[16:])
    if linktype == SLL2:
        return _of_type(int.from_bytes(frame[0:2], "big"), frame[20:])
    if linktype in (LOOPBACK, BSD_LOOPBACK):
        return frame[4:]
    if linktype == PPP:
        at = 2 if frame[:2] == b"\xff\x03" else 0
        protocol = int.from_bytes(frame[at : at + 2], "big")
        if protocol not in PPP_IP:
            raise Unfit(f"PPP protocol 0x{protocol:04x}, no IP")
        return frame[at + 2 :]
    raise Unfit(f"link type {linktype}, which isn't read here")


def _of_type(ethertype: int, data: bytes) -> bytes:
    """Return the data if its EtherType is IP. Unfit if it isn't."""
    if ethertype in (ETH_IPV4, ETH_IPV6):
        return data
    if ethertype in VLAN:
        raise Unfit("802.1Q tag: never passes an ENI")
    if ethertype < 0x600:
        raise Unfit("802.3 frame (LLC), no IP")
    raise Unfit(f"{NAMES.get(ethertype, f'EtherType 0x{ethertype:04x}')}, no IP")


# network layers


def _ipv4(data: bytes, missing: int) -> IpPacket:
    header, total = (data[0] & 15) * 4, int.from_bytes(data[2:4], "big")
    if header < 20 or len(data) < header:
        raise Unfit("cut off within its headers" if header >= 20 else "IPv4 header length below 20")
    total = total or min(len(data) + missing, 0xFFFF)  # 0: captured before the network card split it (TSO)
    if total < header:
        raise Unfit("IPv4 length shorter than its header")
    if internet_sum(data[:header]) not in (0, 0xFFFF):
        raise Unfit("wrong IPv4 header checksum: no network carries it")
    upper = find_upper(data)
    fragment = upper.fragments[0] if upper.fragments else None
    whole = _fill(data, total, missing, header, upper.protocol if fragment is None else -1)
    return IpPacket(whole, *ends_of(data), upper.protocol, header, fragment, len(data) < total)


def _ipv6(data: bytes, missing: int) -> IpPacket:
    total = IPV6_HEADER + int.from_bytes(data[4:6], "big")
    if len(data) < IPV6_HEADER:
        raise Unfit("cut off within its headers")
    if total == IPV6_HEADER and data[NEXT_HEADER] == HOP_BY_HOP:
        raise Unfit("IPv6 jumbogram")
    upper = find_upper(data[:total])
    pieces = [fragment for fragment in upper.fragments if not fragment.is_all]
    if pieces and pieces != [upper.fragments[0]]:
        raise Unfit("a fragment within a fragment")
    if (upper.is_here and upper.protocol in EXTENSIONS) or upper.at > min(len(data), total):
        raise Unfit("cut off within its headers")
    fragment = pieces[0] if pieces else None
    whole = _fill(data, total, missing, upper.at, upper.protocol if fragment is None else -1)
    return IpPacket(whole, *ends_of(data), upper.protocol, upper.at, fragment, len(data) < total)


def _fill(data: bytes, total: int, missing: int, upper: int, protocol: int) -> bytes:
    """Return the packet at its full length: without the frame's padding, or with zeros for what was cut off.

    Unfit if that isn't possible.
    """
    if len(data) >= total:
        return data[:total]
    if len(data) + missing < total:
        raise Unfit("IP length longer than the frame")
    if len(data) < upper + MIN_HEADERS.get(protocol, 1 << 16):
        raise Unfit("cut off within its headers, or a cut-off fragment or other protocol")
    return data.ljust(total, b"\0")


def without_fragment_header(data: bytes) -> bytes | None:
    """Return an IPv6 packet as a kernel that reassembles hands it on; None if it has no fragment header.

    That is without its first fragment header, even if it was in one piece.
    """
    fragments = find_upper(data).fragments
    if not fragments:
        return None
    named, start = fragments[0].named, fragments[0].start
    at = start - UNIT
    return data[:named] + data[at : at + 1] + data[named + 1 : at] + data[start:]


DCCP, UDPLITE = 33, 136
WITH_ADDRESSES = {TCP: 16, UDP: 6, ICMPV6: 2, DCCP: 6, UDPLITE: 6}  # place of a checksum that covers addresses
Changed = Callable[[Address], Address]


@dataclass(frozen=True, slots=True)
class Readdressed:
    """A packet as it is sent, with the packet of the capture."""

    packet: IpPacket
    data: bytes
    source: Address
    target: Address


def readdress(packet: IpPacket, source: Address, target: Address, changed: Changed, hops: int) -> Readdressed:
    """Return the packet from `source` to `target`.

    It arrives with the hop limit that it has in the capture, after `hops` routers. `changed` maps the addresses that an
    ICMP error quotes.
    """
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
    """Return whether an ICMP type is an error, which quotes the packet that it is about."""
    return (protocol == ICMP and kind in ICMP_ERRORS) or (protocol == ICMPV6 and kind in ICMPV6_ERRORS)


def adjust_checksum(check: int, old: bytes, new: bytes) -> int:
    """Return the checksum after octets that it covers, at an even place, have changed."""
    total = (~check & 0xFFFF) + (~internet_sum(old) & 0xFFFF) + internet_sum(new)
    return ~fold_carries(total) & 0xFFFF


def _octets(address: Address) -> bytes:
    return address.value.to_bytes(address.family_bits // 8, "big")


def _adjust_upper(data: bytearray, upper: int, protocol: int, old: bytes, new: bytes) -> None:
    """Update the transport checksum for other addresses, where the protocol's covers them."""
    if protocol not in WITH_ADDRESSES or old == new:
        return
    at = upper + WITH_ADDRESSES[protocol]
    _adjust_at(data, at, old, new, is_udp=protocol == UDP)


def _adjust_at(data: bytearray, at: int, old: bytes, new: bytes, *, is_udp: bool = False) -> None:
    """Update the checksum at a place, if it is there.

    UDP writes 0 for no checksum, and 0xffff for a sum of 0.
    """
    check = int.from_bytes(data[at : at + 2], "big")
    if len(data) < at + 2 or (is_udp and check == 0):
        return
    check = adjust_checksum(check, old, new)
    data[at : at + 2] = ((check or 0xFFFF) if is_udp else check).to_bytes(2, "big")


def _readdress_quoted(data: bytearray, packet: IpPacket, changed: Changed) -> None:
    """Readdress the packet that an ICMP error quotes, as far as it is there, and update the error's checksum."""
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
    """Give a filled-up packet a right checksum, because nobody knows what it had.

    Called before its addresses change.
    """
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

"""Where the headers of an IP packet are, and which IPv6 extension headers are skipped on the way to the upper one.

Owns both: there is no other list, and no other walk. Is given octets. Must not know where they were seen, or rules.

What is skipped is what the kernel skips (ipv6_find_hdr, which nftables asks for `meta l4proto`), so this reads the same
header as the rules judge:

    0, 43, 44, 60    hop-by-hop options, routing, fragment, destination options (RFC 8200, section 4): skipped
    51               AH: an extension header for conntrack, but a protocol for rules (docs/design/sessions.md)
    50, 59           ESP, behind which everything is encrypted, and no next header: nothing follows that can be read
    135, 139, 140    mobility, HIP, Shim6: IANA lists them, too (RFC 7045), and they have the same form; but no kernel
    253, 254         skips them, nor the two for experiments. Rules judge them as protocols, without ports
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.net.values import Address, Family

ETH_IPV4, ETH_ARP, ETH_IPV6 = 0x0800, 0x0806, 0x86DD
IPV6_HEADER = 40
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS = 0, 43, 44, 60
EXTENSIONS = frozenset((HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS))
UNIT = 8  # octets: the least length of an extension header, and the unit of its length field
NEXT_HEADER = 6  # where the IPv6 header names the next one
ENDS = {Family.IPV4: slice(12, 20), Family.IPV6: slice(8, 40)}  # where the two addresses are


@dataclass(frozen=True, slots=True)
class Fragment:
    """A fragment of a datagram, as its header (in IPv4, the IP header itself) describes it."""

    ident: int  # the datagram's id
    offset: int  # where the fragment stands in its datagram, in octets
    is_last: bool
    start: int  # where the fragment's data begin in the packet
    named: int = 0  # in IPv6, where the octet is that names the fragment header

    @property
    def is_all(self) -> bool:
        """Whether it is its whole datagram, an atomic fragment (RFC 6946)."""
        return not self.offset and self.is_last


@dataclass(frozen=True, slots=True)
class Upper:
    """What follows IP in a packet.

    If the packet ends within extension headers, it is the first one that isn't whole.
    """

    protocol: int  # its IANA number
    at: int  # where it begins in the packet
    fragments: tuple[Fragment, ...] = ()  # the fragment headers on the way to it

    @property
    def is_here(self) -> bool:
        """Whether the packet has the beginning of what follows. Only a first fragment has it."""
        return not (self.fragments and self.fragments[-1].offset)


def family_of(packet: bytes) -> Family | None:
    """Return the family of a packet; None if it isn't IP, or if the IP header isn't whole.

    The functions below need a packet that has a family.
    """
    match packet[0] >> 4 if packet else 0:
        case 4 if 20 <= 4 * (packet[0] & 15) <= len(packet):
            return Family.IPV4
        case 6 if len(packet) >= IPV6_HEADER:
            return Family.IPV6
    return None


def ends_of(packet: bytes) -> tuple[Address, Address]:
    """Return the packet's source and destination."""
    octets = packet[ENDS[Family.IPV4 if packet[0] >> 4 == 4 else Family.IPV6]]
    size = len(octets) // 2
    return Address(8 * size, int.from_bytes(octets[:size])), Address(8 * size, int.from_bytes(octets[size:]))


def find_upper(packet: bytes) -> Upper:
    """Return what follows IP, behind the extension headers that the kernel skips."""
    return _behind_ipv4(packet) if packet[0] >> 4 == 4 else _behind_ipv6(packet)


def _behind_ipv4(packet: bytes) -> Upper:
    start, word = 4 * (packet[0] & 15), int.from_bytes(packet[6:8])
    if not word & 0x3FFF:
        return Upper(packet[9], start)
    piece = Fragment(int.from_bytes(packet[4:6]), 8 * (word & 0x1FFF), not word & 0x2000, start)
    return Upper(packet[9], start, (piece,))


def _behind_ipv6(packet: bytes) -> Upper:
    """Walk from header to header: the header at `at` is named by the octet at `named`."""
    named, at = NEXT_HEADER, IPV6_HEADER
    fragments: tuple[Fragment, ...] = ()
    while packet[named] in EXTENSIONS and at + UNIT <= len(packet):
        size = UNIT
        if packet[named] == FRAGMENT:
            fragments = (*fragments, _fragment(packet, named, at))
        else:
            size += UNIT * packet[at + 1]
        named, at = at, at + size
        if fragments and fragments[-1].offset:
            break
    return Upper(packet[named], at, fragments)


def _fragment(packet: bytes, named: int, at: int) -> Fragment:
    word = int.from_bytes(packet[at + 2 : at + 4])
    return Fragment(int.from_bytes(packet[at + 4 : at + 8]), word & 0xFFF8, not word & 1, at + UNIT, named)

"""What passes whatever the rules say (semantics.md, section 3), as data that both `decide()` and the compiler read.

Owns the shapes of neighbour discovery, MLD and DHCP. Must not know rules or nftables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sgdataplane.model.options import DHCP_BROADCAST, DHCPV6_SERVERS, Options, Placement
from sgdataplane.model.state import Eni
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import ICMPV6, UDP, Direction, Family, Prefix

LINK_LOCAL, MULTICAST = Prefix.parse("fe80::/10"), Prefix.parse("ff00::/8")
UNSPECIFIED = Prefix.parse("::")
UNNUMBERED = (UNSPECIFIED, LINK_LOCAL)  # sources of IPv6 nodes that use no address of their own
DHCP_UNNUMBERED = {Family.IPV4: Prefix.parse("0.0.0.0"), Family.IPV6: LINK_LOCAL}
# Destinations that an ENI shares with others. Anything else that it receives must be addressed to the ENI itself.
SHARED = {
    Family.IPV4: (Prefix.parse("224.0.0.0/4"), Prefix.parse("255.255.255.255")),
    Family.IPV6: (MULTICAST, LINK_LOCAL),
}
SOLICIT_ROUTER, ADVERTISE_ROUTER, SOLICIT, ADVERTISE, REDIRECT = range(133, 138)  # RFC 4861
MLD = (130, 131, 132, 143)  # RFC 2710, RFC 3810
DISCOVERY_TYPES = (*MLD, *range(133, 138))
# Errors, and only errors: an IPv4 redirect (5) would move the ENI's traffic elsewhere (RFC 792, RFC 4443).
ICMP_ERRORS = (3, 11, 12)
ICMPV6_ERRORS = (1, 2, 3, 4)
SUBNET_BITS = 64  # neighbours have these bits of an address in common (RFC 4291, 2.5.4), as in the cloud's subnets
# (family) -> (client port, server port, where a client that knows no server sends)
DHCP = {Family.IPV4: (68, 67, DHCP_BROADCAST), Family.IPV6: (546, 547, DHCPV6_SERVERS)}


@dataclass(frozen=True, slots=True)
class DiscoveryShape:
    """A shape of neighbour discovery or MLD that passes without being judged by rules."""

    types: tuple[int, ...]
    """The ICMPv6 types of this shape."""
    hop_limit: int
    """255: the packet can't come from beyond the link (RFC 4861, 3.1). 1: it can't leave the link."""
    sources: tuple[Prefix, ...] | None
    """The only sources from which it passes; None if any source may send it."""


# Only routers send router advertisements and redirects (RFC 4861, 6.1.2 and 8.1); an ENI never does.
DISCOVERY = {
    Direction.INGRESS: (
        DiscoveryShape((SOLICIT_ROUTER, SOLICIT, ADVERTISE), 255, None),
        DiscoveryShape((ADVERTISE_ROUTER, REDIRECT), 255, (LINK_LOCAL,)),
        DiscoveryShape(MLD, 1, UNNUMBERED),
    ),
    Direction.EGRESS: (
        DiscoveryShape((SOLICIT_ROUTER, SOLICIT, ADVERTISE), 255, None),
        DiscoveryShape(MLD, 1, UNNUMBERED),
    ),
}


def discovery_sources(eni: Eni) -> tuple[Prefix, ...]:
    """Return the sources, besides its own addresses, from which an ENI may send discovery.

    These are the unspecified address, for an ENI that has no address yet (RFC 4862, 5.4), and the ENI's own link-local
    address. With the link-local address of another node, it could take over that node's traffic, even the gateway's.
    """
    return (UNSPECIFIED, *eni.link_prefixes)


def on_link(own: Iterable[Prefix], options: Options, placement: Placement) -> tuple[Prefix, ...]:
    """Return the IPv6 addresses that may be on the link of an ENI with these own addresses (CHOSEN).

    These are the link-local and multicast addresses, and the gateways. In instance placement they include the ENI's own
    subnets: the link may have more ends there, as a bridge has, and neighbours solicit each other by their own
    addresses. In host placement the link is routed.
    """
    gateways = (Prefix.of(address) for address in options.gateways if address.family is Family.IPV6)
    subnets = (_subnet_of(prefix) for prefix in own if prefix.family is Family.IPV6)
    return (LINK_LOCAL, MULTICAST, *gateways, *(() if placement.is_outside else subnets))


def _subnet_of(prefix: Prefix) -> Prefix:
    """Return the /64 around an IPv6 address or block; a larger block is its own subnet."""
    host_bits = prefix.family_bits - SUBNET_BITS
    return Prefix(prefix.family_bits, prefix.first >> host_bits << host_bits, min(prefix.length, SUBNET_BITS))


def dhcp_sources(eni: Eni, family: Family) -> tuple[Prefix, ...]:
    """Return the addresses from which a DHCP client sends while it has no address."""
    return eni.link_prefixes if family is Family.IPV6 else (DHCP_UNNUMBERED[family],)


def is_discovery_type(packet: Packet) -> bool:
    """Return whether a packet is neighbour discovery or MLD at all, in whatever shape.

    Such a packet passes if its shape is right; otherwise it never passes.
    """
    return packet.family is Family.IPV6 and packet.protocol == ICMPV6 and packet.icmp_type in DISCOVERY_TYPES


def is_discovery(eni: Eni, packet: Packet) -> bool:
    """Return whether a packet is neighbour discovery or MLD in the right shape.

    An ENI may send it only from an address of its own or of its link.
    """
    if not is_discovery_type(packet):
        return False
    source = packet.remote if packet.direction is Direction.INGRESS else packet.local
    is_from_here = any(source in prefix for prefix in (*discovery_sources(eni), *eni.own_prefixes))
    if packet.direction is Direction.EGRESS and not is_from_here:
        return False
    return any(
        packet.icmp_type in shape.types
        and packet.hop_limit == shape.hop_limit
        and (shape.sources is None or any(source in prefix for prefix in shape.sources))
        for shape in DISCOVERY[packet.direction]
    )


def is_far_discovery(eni: Eni, packet: Packet, options: Options, placement: Placement) -> bool:
    """Return whether an ENI sends discovery to an address beyond its link.

    Nobody there may heed it (RFC 4861, 7.1), and on its way it would pass all rules.
    """
    if packet.direction is Direction.INGRESS or not is_discovery_type(packet):
        return False
    return not any(packet.remote in prefix for prefix in on_link(eni.own_prefixes, options, placement))


def is_dhcp(eni: Eni, packet: Packet, options: Options) -> bool:
    """Return whether a packet has the shape of DHCP between the ENI and its gateway (RFC 2131, RFC 8415)."""
    if packet.protocol != UDP:
        return False
    client, server, everyone = DHCP[packet.family]
    if packet.direction is Direction.INGRESS:
        return (packet.source_port, packet.port) == (server, client) and packet.remote in options.gateways
    is_to_server = (packet.source_port, packet.port) == (client, server)
    is_from_here = any(packet.local in prefix for prefix in (*dhcp_sources(eni, packet.family), *eni.own_prefixes))
    return is_to_server and is_from_here and packet.remote in (*options.gateways, everyone)


def is_dhcp_server(packet: Packet) -> bool:
    """Return whether an ENI offers addresses to others, as a DHCP server does.

    Only the gateway may do so (CHOSEN, because a client believes any server). An ENI may still answer a client that
    asked it by unicast: that answer is a reply.
    """
    client, server, _ = DHCP[packet.family]
    is_answer = packet.protocol == UDP and (packet.source_port, packet.port) == (server, client)
    return packet.direction is Direction.EGRESS and is_answer


def is_metadata(packet: Packet, options: Options) -> bool:
    """Return whether an ENI sends to a destination that it can always reach (`Options.metadata`)."""
    return packet.direction is Direction.EGRESS and any(packet.remote in prefix for prefix in options.metadata)

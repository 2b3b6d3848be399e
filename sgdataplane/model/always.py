"""What passes whatever the rules say, as data that both `decide` and the compiler read (semantics.md section 3).

Owns the shapes of neighbour discovery, MLD and DHCP. Must not know rules or nftables.
"""

from __future__ import annotations

from sgdataplane.model.options import DHCP_BROADCAST, DHCPV6_SERVERS, Options
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import ICMPV6, UDP, Address, Direction, Family, Prefix

LINK_LOCAL = Prefix.parse("fe80::/10")
UNSPECIFIED = Address.parse("::")
IPV4_UNSPECIFIED = Address.parse("0.0.0.0")

# RFC 4861 and RFC 2710/3810. A redirect is believed only from link scope, and an ENI never sends RA or redirect:
# only routers do (RFC 4861, 6.1.2 and 8.1).
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT, REDIRECT = range(133, 138)
MLD_TYPES = (130, 131, 132, 143)
ND_TYPES = {
    Direction.INGRESS: (
        ROUTER_SOLICITATION,
        ROUTER_ADVERTISEMENT,
        NEIGHBOUR_SOLICITATION,
        NEIGHBOUR_ADVERTISEMENT,
        REDIRECT,
    ),
    Direction.EGRESS: (ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT),
}
LINK_SCOPE_ONLY = (ROUTER_ADVERTISEMENT, REDIRECT)
# (family) -> (client port, server port, addresses besides the gateway that a client sends to or receives on)
DHCP = {Family.IPV4: (68, 67, DHCP_BROADCAST), Family.IPV6: (546, 547, DHCPV6_SERVERS)}


def is_always(packet: Packet, options: Options) -> bool:
    """Whether the packet passes whatever the rules say."""
    return is_discovery(packet) or is_dhcp(packet, options) or is_metadata(packet, options)


def is_discovery(packet: Packet) -> bool:
    """Neighbour discovery and MLD; advertisements and redirects only from link scope."""
    if packet.protocol != ICMPV6 or packet.family is not Family.IPV6:
        return False
    if packet.icmp_type in MLD_TYPES:
        return True
    if packet.icmp_type not in ND_TYPES[packet.direction]:
        return False
    source = packet.remote if packet.direction is Direction.INGRESS else packet.local
    return packet.icmp_type not in LINK_SCOPE_ONLY or source in LINK_LOCAL


def is_dhcp(packet: Packet, options: Options) -> bool:
    """DHCP between the ENI and its gateway, by shape (RFC 2131, RFC 8415)."""
    if packet.protocol != UDP:
        return False
    client, server, everyone = DHCP[packet.family]
    if packet.direction is Direction.EGRESS:
        return (packet.source_port, packet.port) == (client, server) and packet.remote in (*options.gateways, everyone)
    return (packet.source_port, packet.port) == (server, client) and packet.remote in options.gateways


def is_metadata(packet: Packet, options: Options) -> bool:
    return packet.direction is Direction.EGRESS and any(packet.remote in prefix for prefix in options.metadata)

"""The choices that semantics.md leaves open, as one value that is passed, never read from a global.

Owns Options and the constants behind it. Must not know files, hosts or nftables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sgdataplane.net.values import Address, Prefix

# CHOSEN: every ENI's link is a point-to-point one to its VPC's router, at these link-local addresses.
GATEWAY_IPV4 = Address.parse("169.254.1.1")
GATEWAY_IPV6 = Address.parse("fe80::1")
DHCP_BROADCAST = Address.parse("255.255.255.255")
DHCPV6_SERVERS = Address.parse("ff02::1:2")  # RFC 8415, 7.1
CLOUD_METADATA = Prefix.parse("100.100.100.200")


@dataclass(frozen=True, slots=True)
class Options:
    """How to read what semantics.md marks CHOSEN.

    inner_accept_egress: `first` puts the implicit accept between members before custom egress rules,
        `custom_first` after them.    midstream_egress: what becomes of an egress TCP packet of no known session that
    is not a bare SYN.    strict_syn: refuse those on ingress too.    metadata: destinations always reachable outbound.
    """

    inner_accept_egress: Literal["first", "custom_first"] = "first"
    midstream_egress: Literal["drop", "judge"] = "drop"
    strict_syn: bool = False
    metadata: tuple[Prefix, ...] = ()
    gateways: tuple[Address, ...] = (GATEWAY_IPV4, GATEWAY_IPV6)


DEFAULTS = Options()

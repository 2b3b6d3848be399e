"""What `decide()` needs to know besides the state: the choices that semantics.md leaves open, and the placement.

Both are passed as values and never read from a global. Owns Options, Placement and the constants behind them. Must not
know files, hosts, hooks or nftables.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from sgdataplane.net.values import Address, Prefix

# CHOSEN: every ENI has a point-to-point link to its VPC's router, which has these link-local addresses.
GATEWAY_IPV4 = Address.parse("169.254.1.1")
GATEWAY_IPV6 = Address.parse("fe80::1")
DHCP_BROADCAST = Address.parse("255.255.255.255")
DHCPV6_SERVERS = Address.parse("ff02::1:2")  # RFC 8415, 7.1
CLOUD_METADATA = Prefix.parse("100.100.100.200")

SESSIONS_PER_ENI = 32_768  # CHOSEN: a sixteenth of the conntrack table that the package sets, an eighth of the kernel's


class Placement(Enum):
    """Where a policy is enforced, as seen from the instances that it protects."""

    INSTANCE = "instance"
    """In the instance's own namespace, on its ENIs' own interfaces."""
    HOST = "host"
    """Out of the instance's reach: in the namespace of its VPC's router, on the host ends of the ENIs' links."""

    @property
    def is_outside(self) -> bool:
        """Whether the policy stands outside the instance, on the host ends of links."""
        return self is not Placement.INSTANCE


@dataclass(frozen=True, slots=True)
class Options:
    """How to read what semantics.md marks CHOSEN."""

    inner_accept_egress: Literal["first", "custom_first"] = "first"
    """`first` puts the implicit accept between members before the custom egress rules, `custom_first` after them."""
    midstream_egress: Literal["drop", "judge"] = "drop"
    """What happens at egress to a TCP packet that belongs to no known session and isn't a bare SYN."""
    strict_syn: bool = False
    """Whether such packets are dropped at ingress, too."""
    metadata: tuple[Prefix, ...] = ()
    """Destinations that an ENI can always reach."""
    gateways: tuple[Address, ...] = (GATEWAY_IPV4, GATEWAY_IPV6)
    """Addresses of the ENIs' gateways, with which DHCP always passes."""
    sessions_per_eni: int = SESSIONS_PER_ENI
    """How many sessions of an ENI may be open at once where ENIs share a router's conntrack table.

    Sessions that the ENI has opened and those that were opened to it from outside have a limit each. 0 means any
    number. No verdict of `decide()` depends on it.
    """


DEFAULTS = Options()

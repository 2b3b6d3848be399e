"""What a namespace needs to be one end of links that have two ends, or to route between such links.

Owns these settings, and the names of a router's ends. Must not know labs, clouds or policy.
"""

from __future__ import annotations

import hashlib
import re

from sgdataplane.net.values import IFNAME

# What a namespace may have by itself: the last row where the kernel's tunnel modules are loaded.
TAKEN_IFNAMES = (
    *("lo", "all", "default"),
    *("tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "sit0", "ip6tnl0", "ip6gre0", "ip6_vti0"),
)
# Neither side believes what a router elsewhere says, nor waits for duplicate addresses: each link has two ends, ours.
QUIET = {
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/all/accept_redirects": "0",
    "ipv4/conf/default/accept_redirects": "0",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv4/conf/default/arp_announce": "2",  # ask with an address of the interface that asks
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/default/disable_ipv6": "0",
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/accept_ra": "0",
    "ipv6/conf/default/accept_redirects": "0",
    "ipv6/conf/default/router_solicitations": "0",
}
ROUTER = QUIET | {
    "ipv4/conf/all/accept_source_route": "0",  # policy judges whom a packet is for, not whom it asks to be sent to
    "ipv4/conf/default/proxy_arp": "1",  # so that a node may think that its subnet is on the link
}
FORWARDING = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv6/conf/default/forwarding": "1"}


def router_ifname(key: str) -> str:
    """The router's end of an interface's link: the key (an ENI's id) where it fits, or its start and a hash."""
    if IFNAME.fullmatch(key) and key not in TAKEN_IFNAMES:
        return key
    readable = re.sub(r"[^A-Za-z0-9]", "", key)[:6]
    return f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"

"""The settings of a namespace that routes between links with two ends, or is one end of such a link.

Owns these settings, reassembly's among them, and the names of a router's ends. Must not know labs, clouds or policy.
"""

from __future__ import annotations

import hashlib
import os
import re

from sgdataplane.host import sysctl
from sgdataplane.net.values import IFNAME

# Names that a namespace may have by itself. The last row comes with the kernel's tunnel modules.
TAKEN_IFNAMES = (
    *("lo", "all", "default"),
    *("tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "sit0", "ip6tnl0", "ip6gre0", "ip6_vti0"),
)
# Both ends of each link are ours: redirects and router advertisements are ignored, duplicate addresses not awaited.
QUIET = {
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/all/accept_redirects": "0",
    "ipv4/conf/default/accept_redirects": "0",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv4/conf/default/arp_announce": "2",  # ARP requests come from an address of their interface
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/default/disable_ipv6": "0",
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/accept_ra": "0",
    "ipv6/conf/default/accept_redirects": "0",
    "ipv6/conf/default/router_solicitations": "0",
}
ROUTER = QUIET | {
    "ipv4/conf/all/accept_source_route": "0",  # the policy judges a packet's destination, not its source route
    "ipv4/conf/default/proxy_arp": "1",  # so that a node can reach its whole subnet on the link
}
FORWARDING = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv6/conf/default/forwarding": "1"}


def router_ifname(key: str) -> str:
    """Return the name of the router's end of a link.

    It is the key (an ENI's id) if it can be one, else its start and a hash.
    """
    if IFNAME.fullmatch(key) and key not in TAKEN_IFNAMES:
        return key
    readable = re.sub(r"[^A-Za-z0-9]", "", key)[:6]
    return f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


FRAGMENTS_WAIT_S = 2  # the kernel's 30 and 60 s are for slower links, and hold as much more
FRAGMENTS_USUAL = 4 << 20  # bytes: the kernel's own limit
PART_OF_MEMORY = 8  # of the machine's memory, at most; it is a limit, no memory is taken now
REASSEMBLY = {  # by family: the setting of the time, and that of the bytes
    "ipv4/ipfrag_time": "ipv4/ipfrag_high_thresh",
    "netfilter/nf_conntrack_frag6_timeout": "netfilter/nf_conntrack_frag6_high_thresh",
}


def make_room_for_fragments(limited: int) -> None:
    """Set how long the calling thread's namespace waits for the rest of a datagram, and in how much memory.

    There are `limited` bytes for senders that something limits to that much, and as much as usual for all others.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    room = max(FRAGMENTS_USUAL, min(FRAGMENTS_USUAL + limited, memory // PART_OF_MEMORY))
    for timeout, limit in REASSEMBLY.items():
        sysctl.write(timeout, str(FRAGMENTS_WAIT_S))
        sysctl.write(limit, str(room))

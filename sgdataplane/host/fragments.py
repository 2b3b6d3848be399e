"""How long the calling thread's network namespace waits for the rest of a datagram, and in how much memory.

Owns these settings of reassembly, which conntrack does. Is given how much senders with a limit may take. Must not know
who limits them.
"""

from __future__ import annotations

import os

from sgdataplane.host import sysctl

WAIT_S = 2  # the kernel's 30 and 60 s are for slower links, and hold as much more
KERNELS_OWN = 4 << 20  # what a namespace has for all
PART_OF_MEMORY = 8  # of the machine's, at most: it is a limit, and no memory that is taken now
SETTINGS = {  # of each family: how long, how many bytes
    "ipv4/ipfrag_time": "ipv4/ipfrag_high_thresh",
    "netfilter/nf_conntrack_frag6_timeout": "netfilter/nf_conntrack_frag6_high_thresh",
}


def make_room(limited: int) -> None:
    """For senders that can't have more than so many bytes between them, and for all others as ever."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    room = max(KERNELS_OWN, min(KERNELS_OWN + limited, memory // PART_OF_MEMORY))
    for timeout, limit in SETTINGS.items():
        sysctl.write(timeout, str(WAIT_S))
        sysctl.write(limit, str(room))

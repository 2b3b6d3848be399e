"""Idle timeouts of sessions: the conntrack settings of the calling thread's network namespace.

Owns their names and values (semantics.md section 4). Is given a scale. Must not know policy.
"""

from __future__ import annotations

import os

from sgdataplane.errors import UnsupportedError
from sgdataplane.host import sysctl
from sgdataplane.host.modules import TRACKING, require

FOLDER = "netfilter"
TCP_ESTABLISHED, TCP_CLOSED, OTHERS = 910, 3, 30  # seconds

# Every kernel with conntrack has these.
ALWAYS_THERE = {
    "nf_conntrack_tcp_timeout_established": TCP_ESTABLISHED,
    "nf_conntrack_tcp_timeout_close": TCP_CLOSED,
    "nf_conntrack_tcp_timeout_time_wait": TCP_CLOSED,
    "nf_conntrack_udp_timeout": OTHERS,
    "nf_conntrack_udp_timeout_stream": OTHERS,
    "nf_conntrack_icmp_timeout": OTHERS,
    "nf_conntrack_icmpv6_timeout": OTHERS,
    "nf_conntrack_generic_timeout": OTHERS,
}
# A kernel without such a tracker counts the protocol's packets to the generic ones. (DCCP's left in Linux 6.16.)
IF_TRACKED = {
    "nf_conntrack_gre_timeout": OTHERS,
    "nf_conntrack_gre_timeout_stream": OTHERS,
    "nf_conntrack_sctp_timeout_established": OTHERS,
    "nf_conntrack_sctp_timeout_heartbeat_sent": OTHERS,
    "nf_conntrack_dccp_timeout_request": OTHERS,
    "nf_conntrack_dccp_timeout_respond": OTHERS,
    "nf_conntrack_dccp_timeout_partopen": OTHERS,
    "nf_conntrack_dccp_timeout_open": OTHERS,
    "nf_conntrack_dccp_timeout_closereq": OTHERS,
    "nf_conntrack_dccp_timeout_closing": OTHERS,
    "nf_conntrack_dccp_timeout_timewait": OTHERS,
}
# Opening and closing sessions keep the kernel's own limits, here its defaults (nf_conntrack_proto_tcp.c): written
# only to scale them. So what a namespace had before it was scaled is not what it gets back by a scale of 1: a lab has
# one scale for life.
KERNELS_OWN = {
    "nf_conntrack_tcp_timeout_syn_sent": 120,
    "nf_conntrack_tcp_timeout_syn_recv": 60,
    "nf_conntrack_tcp_timeout_fin_wait": 120,
    "nf_conntrack_tcp_timeout_close_wait": 60,
    "nf_conntrack_tcp_timeout_last_ack": 30,
    "nf_conntrack_tcp_timeout_max_retrans": 300,
    "nf_conntrack_tcp_timeout_unacknowledged": 300,
    "nf_conntrack_sctp_timeout_closed": 10,
}


def set_timeouts(time_scale: float = 1.0) -> tuple[str, ...]:
    """Set all timeouts, multiplied by `time_scale`; the names of those that this kernel has no tracker for.

    The settings are there once the kernel's module is, so it is asked for first. UnsupportedError if the kernel has no
    conntrack, HostError if it refuses a value.
    """
    require(TRACKING)
    present = _present()
    if not set(ALWAYS_THERE) <= present:
        raise UnsupportedError("setting session timeouts", f"{sysctl.ROOT}/{FOLDER}/nf_conntrack_*")
    wanted = ALWAYS_THERE | IF_TRACKED | (KERNELS_OWN if time_scale != 1.0 else {})
    for name in sorted(wanted.keys() & present):
        value = str(scaled(wanted[name], time_scale))
        if sysctl.read(f"{FOLDER}/{name}") != value:
            sysctl.write(f"{FOLDER}/{name}", value)
    return tuple(sorted(wanted.keys() - present))


def scaled(seconds: int, time_scale: float) -> int:
    """At least one second: the kernel counts in whole ones."""
    return max(1, round(seconds * time_scale))


def _present() -> set[str]:
    try:
        return set(os.listdir(f"{sysctl.ROOT}/{FOLDER}"))
    except FileNotFoundError:
        return set()

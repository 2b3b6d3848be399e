"""The timeouts of conntrack's trackers as kernels have them in a new namespace: name under net.netfilter -> seconds.

Owns these tables, read from the kernels' sources (net/netfilter/nf_conntrack_proto_*.c, nf_conntrack_standalone.c) with
all trackers that Debian builds. Must not know what we make of them.
"""

from __future__ import annotations

from collections.abc import Mapping

_TCP = {
    "nf_conntrack_tcp_timeout_syn_sent": 120,
    "nf_conntrack_tcp_timeout_syn_recv": 60,
    "nf_conntrack_tcp_timeout_established": 432000,
    "nf_conntrack_tcp_timeout_fin_wait": 120,
    "nf_conntrack_tcp_timeout_close_wait": 60,
    "nf_conntrack_tcp_timeout_last_ack": 30,
    "nf_conntrack_tcp_timeout_time_wait": 120,
    "nf_conntrack_tcp_timeout_close": 10,
    "nf_conntrack_tcp_timeout_max_retrans": 300,
    "nf_conntrack_tcp_timeout_unacknowledged": 300,
}
_UDP = {"nf_conntrack_udp_timeout": 30, "nf_conntrack_udp_timeout_stream": 120}  # and UDP-Lite's, while it is tracked
_GRE = {"nf_conntrack_gre_timeout": 30, "nf_conntrack_gre_timeout_stream": 180}
_OTHERS = {
    "nf_conntrack_icmp_timeout": 30,
    "nf_conntrack_icmpv6_timeout": 30,
    "nf_conntrack_generic_timeout": 600,
}
# Not of a tracker: how long IPv6 fragments wait for the rest, and what a flowtable keeps.
BESIDE = {"nf_conntrack_frag6_timeout": 60, "nf_flowtable_tcp_timeout": 30, "nf_flowtable_udp_timeout": 30}
_SCTP = {
    "nf_conntrack_sctp_timeout_closed": 10,
    "nf_conntrack_sctp_timeout_cookie_wait": 3,
    "nf_conntrack_sctp_timeout_cookie_echoed": 3,
    "nf_conntrack_sctp_timeout_established": 210,
    "nf_conntrack_sctp_timeout_shutdown_sent": 3,
    "nf_conntrack_sctp_timeout_shutdown_recd": 3,
    "nf_conntrack_sctp_timeout_shutdown_ack_sent": 3,
    "nf_conntrack_sctp_timeout_heartbeat_sent": 30,
}
# As 6.1 began. Its stable releases have lost the two last states since, and have today's numbers. 0: 0.3 s.
_SCTP_OLD = _SCTP | {
    "nf_conntrack_sctp_timeout_established": 432000,
    "nf_conntrack_sctp_timeout_shutdown_sent": 0,
    "nf_conntrack_sctp_timeout_shutdown_recd": 0,
    "nf_conntrack_sctp_timeout_heartbeat_acked": 210,
    "nf_conntrack_sctp_timeout_data_sent": 30,
}
_DCCP = {
    "nf_conntrack_dccp_timeout_request": 240,
    "nf_conntrack_dccp_timeout_respond": 480,
    "nf_conntrack_dccp_timeout_partopen": 480,
    "nf_conntrack_dccp_timeout_open": 43200,
    "nf_conntrack_dccp_timeout_closereq": 64,
    "nf_conntrack_dccp_timeout_closing": 64,
    "nf_conntrack_dccp_timeout_timewait": 240,
}
LINUX_6_18: Mapping[str, int] = {**_TCP, **_UDP, **_OTHERS, **_GRE, **_SCTP, **BESIDE}  # DCCP's left in 6.16
LINUX_6_12: Mapping[str, int] = {**LINUX_6_18, **_DCCP}
LINUX_6_1: Mapping[str, int] = {**LINUX_6_12, **_SCTP_OLD}
KERNELS: Mapping[str, Mapping[str, int]] = {"6.1": LINUX_6_1, "6.12": LINUX_6_12, "6.18": LINUX_6_18}

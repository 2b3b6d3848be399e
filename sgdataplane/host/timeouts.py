"""Idle timeouts of sessions: the conntrack settings of the calling thread's network namespace.

Owns their names and values (semantics.md, section 4). Its input is a scale. Must not know policy.

    nf_conntrack_<tracker>_timeout[_<state>]    one for each state of each tracker that the kernel has
    nf_flowtable_<tracker>_timeout              how long a flowtable carries an idle session

These names are the only list of its trackers that a kernel offers, so the trackers are read from them. Kernels differ:
Linux 6.1 added states of SCTP, 6.16 dropped DCCP's tracker, and UDP-Lite shares UDP's timeouts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from sgdataplane.errors import UnsupportedError
from sgdataplane.host import sysctl
from sgdataplane.host.modules import TRACKING, require

FOLDER = "netfilter"
TCP_ESTABLISHED, TCP_CLOSED, OTHERS = 910, 3, 30  # seconds
NAME = re.compile(r"nf_conntrack_(?!frag6_)(?P<tracker>[a-z0-9_]+?)_timeout(_[a-z0-9_]+)?")  # frag6 tracks no session

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
# A kernel without such a tracker treats the protocol's packets as generic ones.
IF_TRACKED = {
    "nf_conntrack_gre_timeout": OTHERS,
    "nf_conntrack_gre_timeout_stream": OTHERS,
    "nf_conntrack_sctp_timeout_established": OTHERS,
    "nf_conntrack_sctp_timeout_heartbeat_acked": OTHERS,
    "nf_conntrack_dccp_timeout_partopen": OTHERS,
    "nf_conntrack_dccp_timeout_open": OTHERS,
}
SPECIFIED = ALWAYS_THERE | IF_TRACKED
# Opening and closing sessions keep the kernel's own limits if these are shorter than their protocol's. Here are the
# kernel's defaults (nf_conntrack_proto_*.c), written only to lower or scale a limit. A scale of 1 after another one
# doesn't restore what a namespace had: a lab keeps one scale for life.
KERNELS_OWN = {
    "nf_conntrack_tcp_timeout_syn_sent": 120,
    "nf_conntrack_tcp_timeout_syn_recv": 60,
    "nf_conntrack_tcp_timeout_fin_wait": 120,
    "nf_conntrack_tcp_timeout_close_wait": 60,
    "nf_conntrack_tcp_timeout_last_ack": 30,
    "nf_conntrack_tcp_timeout_max_retrans": 300,
    "nf_conntrack_tcp_timeout_unacknowledged": 300,
    "nf_conntrack_sctp_timeout_closed": 10,
    "nf_conntrack_sctp_timeout_cookie_wait": 3,
    "nf_conntrack_sctp_timeout_cookie_echoed": 3,
    "nf_conntrack_sctp_timeout_shutdown_sent": 3,
    "nf_conntrack_sctp_timeout_shutdown_recd": 3,
    "nf_conntrack_sctp_timeout_shutdown_ack_sent": 3,
    "nf_conntrack_sctp_timeout_heartbeat_sent": 30,
    "nf_conntrack_sctp_timeout_data_sent": 30,
    "nf_conntrack_dccp_timeout_request": 240,
    "nf_conntrack_dccp_timeout_respond": 480,
    "nf_conntrack_dccp_timeout_closereq": 64,
    "nf_conntrack_dccp_timeout_closing": 64,
    "nf_conntrack_dccp_timeout_timewait": 240,
}
KNOWN = SPECIFIED.keys() | KERNELS_OWN.keys()
# Whose sessions a flowtable carries, and their timeout. A session that it gives back has this timeout less the
# flowtable's own left (flow_offload_fixup_ct). With the kernel's defaults that is nothing for UDP: 30 - 30 s.
CARRIED = {"nf_flowtable_tcp_timeout": TCP_ESTABLISHED, "nf_flowtable_udp_timeout": OTHERS}
CARRIED_PART = 3  # of the session's timeout


@dataclass(frozen=True, slots=True)
class Trackers:
    """How a kernel's trackers differ from those that we know."""

    untracked: tuple[str, ...]  # protocols without a tracker, which the generic one serves
    unknown: tuple[str, ...]  # timeouts that we don't know; they are bounded


def set_timeouts(time_scale: float = 1.0) -> Trackers:
    """Set all timeouts, multiplied by `time_scale`.

    It first has the kernel load the module that has these settings.

    Raises:
        UnsupportedError: The kernel has no conntrack.
        HostError: The kernel refuses a value.
    """
    require(TRACKING)
    names = _list_known_names(sysctl.ROOT)
    found = sysctl.read_numbers(FOLDER, names)
    for name, seconds in list_wanted(found, time_scale).items():
        if seconds != found[name]:
            sysctl.write(f"{FOLDER}/{name}", str(seconds))
    _leave_time_to_carried(time_scale)
    untracked = {_tracker(name) for name in KNOWN} - {_tracker(name) for name in found}
    return Trackers(tuple(sorted(untracked)), unknown(found))


def _leave_time_to_carried(time_scale: float) -> None:
    """Lower what a flowtable waits for an idle session, so that the session is still there when it is given back."""
    for name, seconds in CARRIED.items():
        path, most = f"{FOLDER}/{name}", scale_seconds(seconds, time_scale / CARRIED_PART)
        found = sysctl.number_if_there(path)
        if found is not None and found > most:
            sysctl.write(path, str(most))


def list_wanted(found: Mapping[str, int], time_scale: float = 1.0) -> dict[str, int]:
    """Return what each of a namespace's timeouts has to be, given what it is.

    Applying the result doesn't change the result any more.
    """
    return {name: _choose_wanted(name, seconds, time_scale) for name, seconds in found.items()}


def _choose_wanted(name: str, seconds: int, time_scale: float) -> int:
    if name in SPECIFIED:
        return scale_seconds(SPECIFIED[name], time_scale)
    is_tcp = name in KERNELS_OWN and _tracker(name) == "tcp"
    limit = scale_seconds(TCP_ESTABLISHED if is_tcp else OTHERS, time_scale)
    if name in KERNELS_OWN and time_scale != 1.0:
        return min(scale_seconds(KERNELS_OWN[name], time_scale), limit)
    return min(seconds, limit)


def scale_seconds(seconds: int, time_scale: float) -> int:
    """Return scaled seconds, at least one: the kernel counts in whole ones."""
    return max(1, round(seconds * time_scale))


def longest_of_tcp(state: str, time_scale: float = 1.0) -> int:
    """Return the most seconds that a TCP session in that state (as in conntrack.Tracked) may have left."""
    name = f"nf_conntrack_tcp_timeout_{state.lower().removesuffix('2')}"
    return scale_seconds((SPECIFIED | KERNELS_OWN).get(name, TCP_ESTABLISHED), time_scale)


def unknown(names: Iterable[str]) -> tuple[str, ...]:
    """Return those names that we don't know."""
    return tuple(sorted(set(names) - KNOWN))


def read_unknown() -> tuple[str, ...]:
    """Return the timeouts of this namespace that we don't know. Every namespace has the same: they are the kernel's."""
    return unknown(_names())


def describe_unknown_timeouts(names: Iterable[str], time_scale: float = 1.0) -> str:
    """Return one line about unknown timeouts for people; "" if there are none."""
    listed = ", ".join(names)
    words = (
        f"this kernel has conntrack timeouts that sgdp doesn't know, limited to {scale_seconds(OTHERS, time_scale)} s"
    )
    return f"{words}: {listed}" if listed else ""


@cache
def _list_known_names(root: str) -> tuple[str, ...]:
    """Return the names of all timeouts, which are listed once.

    They are the same, once conntrack is loaded, in every namespace. A list takes 1 ms beside 1,000 namespaces
    (ownproc.py says why).
    """
    found = tuple(_names())
    if not ALWAYS_THERE.keys() <= {*found}:
        raise UnsupportedError("setting session timeouts", f"{root}/{FOLDER}/nf_conntrack_*")
    return found


def _names() -> list[str]:
    """Return the names of all timeouts of trackers in the namespace."""
    try:
        return [name for name in os.listdir(f"{sysctl.ROOT}/{FOLDER}") if NAME.fullmatch(name)]
    except FileNotFoundError:
        return []


def _tracker(name: str) -> str:
    match = NAME.fullmatch(name)
    assert match is not None
    return match["tracker"]

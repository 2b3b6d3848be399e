"""Kernel modules of netlink subsystems: a question to each makes the kernel load it.

Owns the questions, and the error if one isn't answered. Runs in a namespace. Must not know what is asked next.

A question to a subsystem that isn't loaded makes the kernel load it at once (request_module in
net/netfilter/nfnetlink.c). That needs CAP_NET_ADMIN in the namespace, and no right to load modules: the kernel itself
runs modprobe. So it works inside the sandbox of the systemd units, too. A loaded module serves all namespaces, and has
its settings under /proc/sys/net.

Expressions of nftables, kinds of links, families of sockets and socket lists are loaded the same way when used.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from sgdataplane.errors import HostError, PrivilegeError, UnsupportedError, module_needed
from sgdataplane.host import sysctl
from sgdataplane.host.nfnetlink import Nfnetlink, message_kind


@dataclass(frozen=True, slots=True)
class Subsystem:
    """A netlink subsystem."""

    feature: str  # its name for people
    module: str
    question: int  # a message that changes nothing and has one answer in any namespace


TRACKING = Subsystem("connection tracking", "nf_conntrack_netlink", message_kind(1, 5))  # IPCTNL_MSG_CT_GET_STATS
NFTABLES = Subsystem("nftables", "nf_tables", message_kind(10, 16))  # NFT_MSG_GETGEN
COUNT = "netfilter/nf_conntrack_count"  # how many sessions the namespace has


_ANSWERED = set[Subsystem]()  # what has answered this process is loaded, for all namespaces


def require(subsystem: Subsystem) -> None:
    """Have the kernel load a subsystem, if it isn't loaded.

    Raises:
        UnsupportedError: The kernel can't.
        PrivilegeError: We may not ask.
    """
    if subsystem in _ANSWERED:
        return
    with Nfnetlink() as netlink:
        _ask(netlink, subsystem)
    _ANSWERED.add(subsystem)


def is_tracking(netlink: Nfnetlink) -> bool:
    """Whether the kernel tracks sessions in the namespace of this socket, which has to be the calling thread's.

    Raises:
        UnsupportedError: It does, but can't be asked about them.
    """
    try:
        _ask(netlink, TRACKING)
    except UnsupportedError:
        if Path(f"{sysctl.ROOT}/{COUNT}").exists():
            raise
        return False
    return True


def _ask(netlink: Nfnetlink, subsystem: Subsystem) -> None:
    try:
        netlink.ask(subsystem.question)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise PrivilegeError("CAP_NET_ADMIN") from error
        if error.errno == errno.EINVAL:  # there is no such subsystem
            raise UnsupportedError(subsystem.feature, module_needed(subsystem.module)) from error
        raise HostError(subsystem.feature, os.strerror(error.errno or 0)) from error

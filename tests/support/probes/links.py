"""Interfaces of a namespace: those that tests make, which are veths, and those that it has by itself.

Owns telling them apart, and imitating the latter on kernels that don't make them. Must not know what is tested.

Where the kernel's tunnel modules are loaded, Linux puts their fallback devices into each new namespace: down, without
addresses, of kinds of their own (net.core.fb_tunnels_only_for_init_net switches that off; Debian's default is on). So a
test that asks which links there are asks for veths.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.host.netlink import HEADER, attribute, nest
from sgdataplane.host.rtnetlink import LINK_NAME
from tests.support.probes.flood import wait_until
from tests.support.run.isolation import BY_ITSELF

KIND = b"ifb"  # what most kernels have, and is down and without addresses at first
NEWLINK, REQUEST_CREATE, LINK_INFO, INFO_KIND = 16, 0x605, 18, 1  # linux/rtnetlink.h, if_link.h


def veths_in(place: str) -> dict[str, bool]:
    """Each with whether it is up."""
    with Links(place) as links:
        return {link.ifname: link.is_up for link in links.links() if link.kind == "veth"}


def wait_carried(place: str, *ifnames: str) -> None:
    """Until these carry packets: that is some time after both ends are up, on a busy machine. What is sent before is
    lost."""
    with Links(place) as links:
        wait_until(lambda: not {link.ifname for link in links.links() if link.operstate != "UP"} & {*ifnames})


def imitate_fallback(set_: Callable[[object, str, object], None] = setattr) -> None:
    """From here on, each namespace that this process makes has such interfaces; `set_` may be one that is undone."""
    enter_nowhere = netns.enter_nowhere

    def enter() -> None:
        enter_nowhere()
        add_fallback()

    set_(netns, "enter_nowhere", enter)


def add_fallback() -> None:
    """Where the calling thread is, those that aren't there. OSError if the kernel has no such kind of interface."""
    there = {name for _, name in socket.if_nameindex()}
    info = nest(LINK_INFO, [attribute(INFO_KIND, KIND)])
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as door:
        for name in BY_ITSELF:
            if name in there:
                continue
            body = bytes(16) + attribute(LINK_NAME, name.encode() + b"\0") + info
            door.send(HEADER.pack(HEADER.size + len(body), NEWLINK, REQUEST_CREATE, 0, 0) + body)
            (code,) = struct.unpack_from("=i", door.recv(4096), HEADER.size)
            if code:
                raise OSError(-code, f"no interface {name} of kind {KIND.decode()}")

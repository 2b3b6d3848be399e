"""`python -m tests.fence.reach NUMBER [LINK KIND MODE]`: what reaches into another namespace by rtnetlink.

Owns the messages. Without LINK, prints the interfaces of the namespace that has that number here, as JSON; with it,
makes a device `spy0` here whose lower interface is that one there (IFLA_LINK_NETNSID). KIND bridge makes one there,
whose ports are the other end of `spy0` and a macvlan over that interface. It shows the hooks of IP its packets (needs
br_netfilter) if KIND is showing-bridge. MODE is its name, if any: what has that name there is deleted.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterable

from sgdataplane.host.netlink import attribute, nest, text_of
from sgdataplane.host.rtnetlink import IFINFOMSG, LINK_NAME, TARGET, Rtnetlink

NEWLINK, DELLINK, SETLINK, CREATE = 16, 17, 19, 0x600  # RTM_*; NLM_F_CREATE | NLM_F_EXCL
LINK, MASTER, LINKINFO, OF_PROCESS, LINK_NETNSID, NESTED = 5, 10, 18, 19, 37, 0x8000  # IFLA_*; NLA_F_NESTED
PEER = 1  # VETH_INFO_PEER
KIND, DATA = 1, 2  # IFLA_INFO_*
U32, U16 = struct.Struct("=I"), struct.Struct("=H")
NF_CALLS = 36, 37, 38  # IFLA_BR_NF_CALL_*: IP, IPv6, ARP
NAME, BRIDGE, UPPER, SHOWING = "spy0", "spybr", "spymac", "showing-bridge"
MACVLAN = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}  # IFLA_MACVLAN_MODE is 1
IPVLAN = {"l2": 0, "l3": 1, "l3s": 2}  # IFLA_IPVLAN_MODE is 1
VXLAN_ID, VXLAN_REMOTE, VXLAN_LOCAL, VXLAN_PORT = 1, 2, 4, 15  # IFLA_VXLAN_*


def details(kind: str, mode: str) -> list[bytes]:
    """IFLA_INFO_DATA of such a device."""
    if kind == "macvlan":
        return [attribute(1, U32.pack(MACVLAN[mode]))]
    if kind == "ipvlan":
        return [attribute(1, U16.pack(IPVLAN[mode]))]
    if kind == "vlan":
        return [attribute(1, U16.pack(int(mode)))]
    if kind == "vxlan":
        remote, port = mode.split(":")
        address = bytes(map(int, remote.split(".")))
        number = attribute(VXLAN_ID, U32.pack(7))
        return [number, attribute(VXLAN_REMOTE, address), attribute(VXLAN_PORT, struct.pack("!H", int(port)))]
    return []


def make(number: int, link: int, kind: str, mode: str, name: str = NAME) -> None:
    parts = [attribute(LINK_NAME, name.encode() + b"\0"), attribute(LINK_NETNSID, struct.pack("=i", number))]
    parts += [attribute(LINK, U32.pack(link))] if link else []
    change(NEWLINK, 0, [*parts, info(kind, details(kind, mode))], CREATE)


def bridge(number: int, link: int, called: str, *, is_showing: bool) -> None:
    there = attribute(TARGET, struct.pack("=i", number))

    def add(name: str, kind: str, data: Iterable[bytes], *more: bytes) -> None:
        named = attribute(LINK_NAME, name.encode() + b"\0")
        change(NEWLINK, 0, [named, there, *more, info(kind, data)], CREATE, up=True)

    replaced = dict(links(number)).get(called)
    if replaced is not None:
        change(DELLINK, replaced, [there])
    add(called, "bridge", [attribute(calls, b"\1") for calls in NF_CALLS if is_showing])
    of_bridge = attribute(MASTER, U32.pack(dict(links(number))[called]))
    peer = [attribute(LINK_NAME, NAME.encode() + b"\0"), attribute(OF_PROCESS, U32.pack(os.getpid()))]
    add("spyport", "veth", [attribute(PEER, IFINFOMSG.pack(0, 0, 0, 0, 0) + b"".join(peer))], of_bridge)
    make(number, link, "macvlan", "passthru", UPPER)
    with Rtnetlink() as door:
        (((_, _, made, *_), _),) = [found for found in door.links() if text_of(found[1][LINK_NAME]) == UPPER]
    change(SETLINK, made, [there, of_bridge], up=True)  # moves it there, and then finds the bridge


def info(kind: str, data: Iterable[bytes]) -> bytes:
    return nest(LINKINFO | NESTED, (attribute(KIND, kind.encode()), nest(DATA | NESTED, data)))


def change(verb: int, index: int, parts: Iterable[bytes], flags: int = 0, *, up: bool = False) -> None:
    with Rtnetlink() as door:
        door.change(verb, flags, IFINFOMSG.pack(0, 0, index, int(up), int(up)) + b"".join(parts))


def links(number: int) -> Iterable[tuple[str, int]]:
    with Rtnetlink() as door:
        return [(text_of(found[LINK_NAME]), fields[2]) for fields, found in door.links(number)]


def main() -> None:
    number, *rest = sys.argv[1:]
    if rest:
        link, kind, mode = rest
        if kind in ("bridge", SHOWING):
            bridge(int(number), int(link), mode or BRIDGE, is_showing=kind == SHOWING)
        else:
            make(int(number), int(link), kind, mode)
    else:
        print(json.dumps(dict(links(int(number)))))


if __name__ == "__main__":
    main()

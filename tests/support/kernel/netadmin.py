"""A process with CAP_NET_ADMIN and no other capability, in a workload's namespace and the initial user namespace, and
what it asks rtnetlink for in namespaces that it reaches by number.

    with NetAdmin(place) as attacker:
        router = attacker.reach()            the number that the router has in its namespace, found at its own eth0
        attacker.ask(DELLINK, at(router, index))

Owns these messages (linux/rtnetlink.h, linux/if_link.h), and starting and ending the process. Must not know what is
expected. The process sends what it gets on stdin, a message in hexadecimal a line, and prints the kernel's answer.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from sgdataplane.host import netns
from sgdataplane.host.netlink import NLM_F_ACK, NLM_F_DUMP, attribute, messages, nest, parse_attributes
from sgdataplane.host.netlink import request as message

ROOT = Path(__file__).resolve().parents[3]
NEWLINK, DELLINK, GETLINK, SETLINK, NEWADDR, NEWROUTE = 16, 17, 18, 19, 20, 24  # RTM_*
CREATE = 0x600  # NLM_F_CREATE, NLM_F_EXCL
ERROR, DONE = 2, 3  # NLMSG_*
IFINFOMSG = struct.Struct("=BxHiII")
IFADDRMSG = struct.Struct("=BBBBI")
IFF_UP, IFF_PROMISC = 1, 0x100
# IFLA_*
MAC, NAME, MTU, LINK, MASTER, TXQLEN, INFO, NS_PID, ALIAS, GROUP = 1, 3, 4, 5, 10, 13, 18, 19, 20, 27
NS_FD, CARRIER, LINK_NSID, PROTO_DOWN, XDP, NEW_NSID, TARGET, ALTNAME = 28, 33, 37, 39, 43, 45, 46, 53
KIND, DATA, PEER, MACVLAN_MODE = 1, 2, 1, 1
PRIVATE, BRIDGE, PASSTHRU, SOURCE = 1, 4, 8, 16
MACVLAN_FLAGS, MACVLAN_MAC_MODE, MACVLAN_MAC, MACVLAN_MACS = 2, 3, 4, 5
SET_MACS, NO_PROMISC = 3, 1  # MACVLAN_MACADDR_SET, MACVLAN_FLAG_NOPROMISC
CAP_NET_ADMIN, PR_CAPBSET_DROP, CAPABILITY_VERSION = 12, 24, 0x20080522


def number(value: int) -> bytes:
    return struct.pack("=i", value)


def name(text: str) -> bytes:
    return attribute(NAME, text.encode() + b"\0")


def link(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    """The header of a message about a link."""
    return IFINFOMSG.pack(0, 0, index, flags, change)


def at(nsid: int, index: int = 0, *more: bytes, flags: int = 0, change: int = 0) -> bytes:
    """About a link of the namespace with that number."""
    return link(index, flags, change) + attribute(TARGET, number(nsid)) + b"".join(more)


def kind(text: str, data: Sequence[bytes] = ()) -> bytes:
    parts = [attribute(KIND, text.encode()), *([nest(DATA, data)] if data else [])]
    return nest(INFO, parts)


def macvlan(mode: int) -> bytes:
    return kind("macvlan", [attribute(MACVLAN_MODE, struct.pack("=I", mode))])


def veth(peer: str, index: int = 0, *more: bytes) -> bytes:
    return kind("veth", [nest(PEER, [link(index) + name(peer) + b"".join(more)])])


class NetAdmin:
    """In the namespace at `place`."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> Self:
        with netns.inside(self._place):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.kernel.netadmin"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        assert self._line() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, kind: int, body: bytes, flags: int = 0) -> str:
        """The kernel's answer to a request: "" or the name of an error."""
        return self._say(message(kind, NLM_F_ACK | flags, body, 1))[0]

    def links(self, nsid: int | None = None) -> dict[str, dict[int, bytes]]:
        """The links that it sees, by name, with their attributes; 0 is the index."""
        body = link() if nsid is None else at(nsid)
        error, data = self._say(message(GETLINK, NLM_F_DUMP, body, 1))
        assert error == ""
        found = {}
        for payload in data:
            said = parse_attributes(payload[IFINFOMSG.size :])
            said[0] = number(IFINFOMSG.unpack_from(payload)[2])
            found[said[NAME].rstrip(b"\0").decode()] = said
        return found

    def reach(self) -> int:
        """The number that the namespace of its eth0's other end has in its own."""
        return value(self.links()["eth0"][LINK_NSID])

    def index(self, ifname: str, nsid: int | None = None) -> int:
        return value(self.links(nsid)[ifname][0])

    def set(self, index: int, *more: bytes, flags: int = 0, change: int = 0) -> str:
        """Of a link of its own namespace: Linux changes no others by number, up to 6.18 at least."""
        return self.ask(SETLINK, link(index, flags, change) + b"".join(more))

    def set_down(self, index: int) -> str:
        return self.set(index, change=IFF_UP)

    def rename(self, index: int, ifname: str) -> str:
        return self.set(index, name(ifname))

    def delete(self, nsid: int, index: int) -> str:
        return self.ask(DELLINK, at(nsid, index))

    def make(self, *more: bytes, nsid: int | None = None, index: int = 0, is_up: bool = True) -> str:
        """A new link, here or there."""
        flags = IFF_UP if is_up else 0
        body = link(index, flags, flags) + (b"" if nsid is None else attribute(TARGET, number(nsid))) + b"".join(more)
        return self.ask(NEWLINK, body, CREATE)

    def over(self, ifname: str, nsid: int, lower: int, mode: int = BRIDGE, into: int | None = None) -> str:
        """A macvlan over a link there, in its own namespace or `into` another one."""
        below = attribute(LINK, number(lower)) + attribute(LINK_NSID, number(nsid))
        return self.make(name(ifname), macvlan(mode), below, nsid=into)

    def add_address(self, ifname: str, address: str, length: int = 24) -> str:
        value = socket.inet_aton(address)
        body = IFADDRMSG.pack(socket.AF_INET, length, 0, 0, self.index(ifname)) + attribute(1, value)
        return self.ask(NEWADDR, body + attribute(2, value), CREATE)

    def _say(self, data: bytes) -> tuple[str, list[bytes]]:
        assert self._process.stdin is not None
        self._process.stdin.write(data.hex().encode() + b"\n")
        self._process.stdin.flush()
        error, *payloads = self._line().split(" ")
        return error.strip("-"), [bytes.fromhex(payload) for payload in payloads if payload]

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().rstrip("\n")


def value(data: bytes) -> int:
    return int(struct.unpack("=i", data)[0])


def _keep_net_admin() -> None:
    """Drop all other capabilities, from the bounding set, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    for other in range(64):
        if other != CAP_NET_ADMIN:
            libc.prctl(PR_CAPBSET_DROP, other, 0, 0, 0)
    bit = 1 << CAP_NET_ADMIN
    header, data = struct.pack("=Ii", CAPABILITY_VERSION, 0), struct.pack("=6I", bit, bit, 0, 0, 0, 0)
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def main() -> None:
    _keep_net_admin()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as door:
        print("ready", flush=True)
        for line in sys.stdin:
            print(_asked(door, bytes.fromhex(line)), flush=True)


def _asked(door: socket.socket, data: bytes) -> str:
    """The error, or "-", and the payloads, if it is a list."""
    try:
        door.send(data)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "?")
    found: list[str] = []
    while True:
        for kind, _, _, payload in messages(door.recv(1 << 17)):
            if kind not in (ERROR, DONE):
                found.append(payload.hex())
                continue
            (code,) = struct.unpack_from("=i", payload)
            return " ".join([errno.errorcode.get(-code, os.strerror(-code).replace(" ", "-")) if code else "-", *found])


if __name__ == "__main__":
    main()

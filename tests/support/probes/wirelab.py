"""One instance's namespace and one neighbour's, and a way to put any packet on the wire between them.

An observer table in the instance's namespace notes each packet just before and just after our hooks, by the number that
the packet carries (IPv4 id, IPv6 flow label), and then drops it. So every packet is the first of its session, and
"dropped" means that it was seen on one side of our chain and not on the other.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Self

from scapy.layers import inet
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6Unknown, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import ICMP, ICMPV6, TCP, UDP, Direction, Family
from tests.support.probes.links import wait_carried

# What the kernel routes to itself (our own address, 0.0.0.0) goes by lo and is none of an ENI's.
OBSERVER = """
table inet observer {
  %(sets)s
  chain in_before { type filter hook prerouting priority -151; iifname != "eth*" return; %(in_before)s }
  chain in_after { type filter hook prerouting priority -149; iifname != "eth*" return; %(in_after)s }
  chain out_before { type filter hook postrouting priority 149; oifname != "eth*" return; %(out_before)s }
  chain out_after { type filter hook postrouting priority 151; oifname != "eth*" return; %(out_after)s }
}
"""
PLACES = tuple(f"{way}_{side}" for way in ("in", "out") for side in ("before", "after"))
FIELDS = {Family.IPV4: "ip id", Family.IPV6: "ip6 flowlabel"}
DIGIT = {Family.IPV4: "4", Family.IPV6: "6"}
WAY = {Direction.INGRESS: "in", Direction.EGRESS: "out"}


def observer() -> str:
    """The observer table: a set for each place and family, and a rule that notes the number. Afterwards it drops the
    packet."""
    sets = "\n  ".join(
        f"set {place}{DIGIT[family]} {{ typeof {field}; flags dynamic; size 65535; }}"
        for place in PLACES
        for family, field in FIELDS.items()
    )
    rules = {
        place: " ".join(
            f"{field} 1-65535 add @{place}{DIGIT[family]} {{ {field} }} {'drop' if place.endswith('after') else ''};"
            for family, field in FIELDS.items()
        )
        for place in PLACES
    }
    return OBSERVER % {"sets": sets, **rules}


def load(namespace: str, text: str) -> None:
    """Run nft commands in a namespace."""
    command = ["nsenter", f"--net={netns.path_of(namespace)}", "nft", "-f", "-"]
    subprocess.run(command, input=text, text=True, check=True, capture_output=True)


def listed(namespace: str, what: str) -> list[dict[str, Any]]:
    """What nft lists in a namespace, as values."""
    command = ["nsenter", f"--net={netns.path_of(namespace)}", "nft", "-j", "list", *what.split()]
    done = subprocess.run(command, text=True, check=True, capture_output=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)["nftables"]
    return found


class WireLab:
    """Two namespaces and the veths between them; use as a context manager."""

    def __init__(self, prefix: str, macs: Sequence[str]) -> None:
        self.instance, self.neighbour = f"{prefix}-i", f"{prefix}-n"
        self._macs = macs
        self._frames: list[socket.socket] = []
        self._raw: dict[tuple[int, Family], socket.socket] = {}

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _build(self) -> None:
        for name in (self.instance, self.neighbour):
            netns.create(name)
        with Links(self.neighbour) as outside, Links(self.instance) as inside:
            for index, mac in enumerate(self._macs):
                outside.add_veth(f"n{index}", self.instance, f"eth{index}", mac)
                for door, ifname in ((outside, f"n{index}"), (inside, f"eth{index}")):
                    door.set_up(ifname)
            inside.set_up("lo")
        wait_carried(self.instance, *(f"eth{index}" for index in range(len(self._macs))))
        wait_carried(self.neighbour, *(f"n{index}" for index in range(len(self._macs))))
        self._route()
        load(self.instance, observer())
        self._open()

    def __exit__(self, *_: object) -> None:
        for sock in (*self._frames, *self._raw.values()):
            sock.close()
        for name in (self.instance, self.neighbour):
            netns.remove(name)

    def _route(self) -> None:
        """Everything leaves by the interface that the socket is bound to, to a neighbour whose address is known."""
        for option in ("-4", "-6"):
            lines = "".join(f"route add default dev eth{i} metric {i + 1}\n" for i in range(len(self._macs)))
            command = ["nsenter", f"--net=/run/netns/{self.instance}", "ip", option, "-b", "-"]
            subprocess.run(command, input=lines, text=True, check=True, capture_output=True)

    def _open(self) -> None:
        with netns.inside(self.neighbour):
            for index in range(len(self._macs)):
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                sock.bind((f"n{index}", 0))
                self._frames.append(sock)
        with netns.inside(self.instance):
            for index in range(len(self._macs)):
                for family, number in ((Family.IPV4, socket.AF_INET), (Family.IPV6, socket.AF_INET6)):
                    sock = socket.socket(number, socket.SOCK_RAW, socket.IPPROTO_RAW)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, f"eth{index}".encode())
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                    self._raw[index, family] = sock

    def clear(self) -> None:
        """Forget all numbers."""
        load(
            self.instance,
            "\n".join(f"flush set inet observer {place}{digit}" for place in PLACES for digit in DIGIT.values()),
        )

    def put(self, number: int, packet: Packet, index: int) -> None:
        """Put a packet on the wire at interface `index`: as a frame from outside, or from a raw socket inside."""
        content = build(number, packet)
        if packet.direction is Direction.INGRESS:
            self._frames[index].send(bytes(Ether(dst=self._macs[index], src="02:00:00:00:00:01") / content))
            return
        with suppress(OSError):  # EPERM: dropped on the way out; others: `before` won't have noted it
            self._raw[index, packet.family].sendto(bytes(content), (str(packet.remote), 0))

    def noted(self) -> dict[tuple[str, Family], frozenset[int]]:
        """Which numbers were seen where: ("in_before", IPV4) -> numbers."""
        listing = listed(self.instance, "table inet observer")
        sets = {entry["set"]["name"]: entry["set"].get("elem", ()) for entry in listing if "set" in entry}
        return {
            (place, family): frozenset(_numbers(sets[f"{place}{digit}"]))
            for place in PLACES
            for family, digit in DIGIT.items()
        }

    def counters(self, table: str) -> dict[str, int]:
        """The packets that each named counter of one of our tables has counted."""
        listing = listed(self.instance, f"counters table inet {table}")
        counters = [entry["counter"] for entry in listing if "counter" in entry]
        return {counter["name"]: int(counter["packets"]) for counter in counters}


def _numbers(elements: Iterable[Any]) -> Iterable[int]:
    for element in elements:
        yield int(element["elem"]["val"] if isinstance(element, dict) else element)


def build(number: int, packet: Packet) -> inet.IP | IPv6:
    """The kernel's packet for one of the policy's, with a number and right checksums."""
    is_ingress = packet.direction is Direction.INGRESS
    source, target = (packet.remote, packet.local) if is_ingress else (packet.local, packet.remote)
    if packet.family is Family.IPV4:
        header: inet.IP | IPv6 = inet.IP(
            src=str(source), dst=str(target), id=number, proto=packet.protocol, ttl=packet.hop_limit
        )
    else:
        header = IPv6(src=str(source), dst=str(target), fl=number, nh=packet.protocol, hlim=packet.hop_limit)
    return header / payload(packet)


def payload(packet: Packet) -> Any:  # noqa: ANN401  # scapy's layers are built at run time
    match packet.protocol:
        case n if n == TCP:
            return inet.TCP(sport=packet.source_port, dport=packet.port, flags="S" if packet.is_syn else "A")
        case n if n == UDP:
            return inet.UDP(sport=packet.source_port, dport=packet.port) / Raw(b"sgdataplane")
        case n if n == ICMP:
            return inet.ICMP(type=packet.icmp_type, id=7)
        case n if n == ICMPV6 and packet.icmp_type == 128:
            return ICMPv6EchoRequest(id=7)
        case n if n == ICMPV6 and packet.icmp_type == 136:
            # of an own address, if the ENI sends it: decide() doesn't look at it
            return ICMPv6ND_NA(tgt=str(packet.local))
        case n if n == ICMPV6:
            return ICMPv6Unknown(type=packet.icmp_type, msgbody=bytes(20))
        case _:
            return Raw(bytes(16))

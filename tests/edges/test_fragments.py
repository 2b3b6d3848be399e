"""Fragments and extension headers hide nothing: towards an open and a closed port, at ingress and at egress.

Each row is sent by both ends in turn; a packet of an accepted session follows it on the same way, and must arrive.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    fragment6,
)
from scapy.layers.ipsec import AH, ESP
from scapy.packet import Packet, Raw

from sgdataplane.host import netns, sysctl
from sgdataplane.host.routing import REASSEMBLY
from sgdataplane.net.values import Family
from tests.edges.scene import Scene, drained, grown, is_refused
from tests.support.scenes.sessionlab import Place

pytestmark = pytest.mark.traffic

OPEN, CLOSED, CONTROL = 53, 54, 55
RULES = tuple(
    f"{way} any".replace("udp", f"udp {port}/{port}")
    for way in ("ingress udp from", "egress udp to")
    for port in (OPEN, CONTROL)
)
BODY = bytes(range(256)) * 5 + bytes(24)
IP_NODEFRAG = 22  # linux/in.h
WAYS = ["ingress", "egress"]
NUMBERS = itertools.count(1000)
Ends = dict[str, str]
Build = Callable[[Ends, int], Sequence[Packet]]

ACCEPTED, REFUSED, INVALID, NOTHING = "rule", "default", "invalid", ""


def datagram(port: int, source_port: int = 4000) -> Packet:
    return UDP(sport=source_port, dport=port) / Raw(BODY)


def whole4(ends: Ends, port: int) -> bytes:
    """The transport part of a datagram, its checksum right."""
    return bytes(IP(bytes(IP(**ends) / datagram(port)))[UDP])


def whole6(ends: Ends, port: int) -> bytes:
    return bytes(IPv6(bytes(IPv6(**ends) / datagram(port)))[UDP])


def piece4(ends: Ends, data: bytes, start: int, end: int, number: int) -> Packet:
    """Bytes start..end of the transport part as a fragment of IPv4."""
    more = "MF" if end < len(data) else 0
    return IP(**ends, id=number, proto=17, frag=start // 8, flags=more) / Raw(data[start:end])


def piece6(ends: Ends, data: bytes, start: int, end: int, number: int) -> Packet:
    more = int(end < len(data))
    return IPv6(**ends) / IPv6ExtHdrFragment(nh=17, offset=start // 8, m=more, id=number) / Raw(data[start:end])


def cut(whole: Callable[[Ends, int], bytes], piece: Callable[..., Packet], *ranges: tuple[int, int]) -> Build:
    """A datagram cut so; an end of 0 is that of the datagram. Each has a number of its own: what waits for the rest of
    one before must not be completed by it."""

    def build(ends: Ends, port: int) -> list[Packet]:
        data, number = whole(ends, port), next(NUMBERS)
        return [piece(ends, data, start, end or len(data), number) for start, end in ranges]

    return build


def swapped(whole: Callable[[Ends, int], bytes], piece: Callable[..., Packet]) -> Build:
    """The same first fragment twice, towards the other port and then this one; then the tail."""

    def build(ends: Ends, port: int) -> list[Packet]:
        data, other, number = whole(ends, port), whole(ends, OPEN + CLOSED - port), next(NUMBERS)
        parts = (other, 0, 512), (data, 0, 520), (data, 520, len(data))
        return [piece(ends, *part, number) for part in parts]

    return build


def behind(*headers: Packet) -> Build:
    """A datagram behind IPv6 extension headers."""

    def build(ends: Ends, port: int) -> list[Packet]:
        packet = IPv6(**ends)
        for header in headers:
            packet = packet / header
        return [packet / datagram(port)]

    return build


def authenticated4(ends: Ends, port: int) -> list[Packet]:
    return [IP(**ends, proto=51) / AH(nh=17, spi=1, icv=bytes(12), payloadlen=4) / Raw(whole4(ends, port))]


def authenticated6(ends: Ends, port: int) -> list[Packet]:
    """Behind AH, which is a protocol of its own to rules. Nobody here has the key: it's delivered to nobody."""
    return [IPv6(**ends, nh=51) / AH(nh=17, spi=1, icv=bytes(12), payloadlen=4) / Raw(whole6(ends, port))]


def ports_in_the_second(ends: Ends, port: int) -> list[Packet]:
    """The first fragment ends before the transport header begins (RFC 7112 forbids it)."""
    options = bytes(IPv6ExtHdrDestOpt(nh=17, options=[PadN(optdata=bytes(4))]))
    data, number = options + whole6(ends, port), next(NUMBERS)
    head, tail = piece6(ends, data, 0, 8, number), piece6(ends, data, 8, len(data), number)
    for part in (head, tail):
        part[IPv6ExtHdrFragment].nh = 60
    return [head, tail]


def fragment_behind_options(ends: Ends, port: int) -> Sequence[Packet]:
    packet = IPv6(**ends) / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment(id=next(NUMBERS)) / datagram(port)
    found: Sequence[Packet] = fragment6(packet, 1280)
    return found


HALVES, REVERSED, OVERLAP, TAIL, ALONE = (
    ((0, 1024), (1024, 0)),
    ((1024, 0), (0, 1024)),
    ((0, 1024), (512, 0)),
    ((1024, 0),),
    ((0, 1024),),
)
TINY = ((0, 8), (8, 0))
# name, family, packets, what an open port's and a closed port's meet, whether what is accepted is delivered
ROWS: list[tuple[str, Family, Build, str, str, bool]] = [
    ("plain", Family.IPV4, lambda ends, port: [IP(**ends) / datagram(port)], ACCEPTED, REFUSED, True),
    ("fragments", Family.IPV4, cut(whole4, piece4, *HALVES), ACCEPTED, REFUSED, True),
    ("last fragment first", Family.IPV4, cut(whole4, piece4, *REVERSED), ACCEPTED, REFUSED, True),
    ("ports and nothing else in the first", Family.IPV4, cut(whole4, piece4, *TINY), ACCEPTED, REFUSED, True),
    ("overlapping", Family.IPV4, cut(whole4, piece4, *OVERLAP), NOTHING, NOTHING, False),
    ("two firsts of different ports", Family.IPV4, swapped(whole4, piece4), NOTHING, NOTHING, False),
    ("tail only", Family.IPV4, cut(whole4, piece4, *TAIL), NOTHING, NOTHING, False),
    ("first only", Family.IPV4, cut(whole4, piece4, *ALONE), NOTHING, NOTHING, False),
    ("AH", Family.IPV4, authenticated4,
     REFUSED, REFUSED, False),
    ("ESP", Family.IPV4, lambda ends, port: [IP(**ends) / ESP(spi=1, data=bytes(datagram(port)))],
     REFUSED, REFUSED, False),
    ("plain", Family.IPV6, behind(), ACCEPTED, REFUSED, True),
    ("fragments", Family.IPV6, cut(whole6, piece6, *HALVES), ACCEPTED, REFUSED, True),
    ("last fragment first", Family.IPV6, cut(whole6, piece6, *REVERSED), ACCEPTED, REFUSED, True),
    ("ports and nothing else in the first", Family.IPV6, cut(whole6, piece6, *TINY), ACCEPTED, REFUSED, True),
    ("atomic fragment", Family.IPV6, cut(whole6, piece6, (0, 0)), ACCEPTED, REFUSED, True),
    ("overlapping", Family.IPV6, cut(whole6, piece6, *OVERLAP), NOTHING, NOTHING, False),
    ("two firsts of different ports", Family.IPV6, swapped(whole6, piece6), NOTHING, NOTHING, False),
    ("tail only", Family.IPV6, cut(whole6, piece6, *TAIL), NOTHING, NOTHING, False),
    ("first only", Family.IPV6, cut(whole6, piece6, *ALONE), NOTHING, NOTHING, False),
    ("ports in the second", Family.IPV6, ports_in_the_second, INVALID, INVALID, False),
    ("fragments behind options", Family.IPV6, fragment_behind_options, ACCEPTED, REFUSED, True),
    ("hop-by-hop", Family.IPV6, behind(IPv6ExtHdrHopByHop()), ACCEPTED, REFUSED, True),
    ("destination options", Family.IPV6, behind(IPv6ExtHdrDestOpt()), ACCEPTED, REFUSED, True),
    ("routing header", Family.IPV6, behind(IPv6ExtHdrRouting(segleft=0)), ACCEPTED, REFUSED, True),
    ("four headers", Family.IPV6,
     behind(IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrRouting(segleft=0), IPv6ExtHdrDestOpt()),
     ACCEPTED, REFUSED, True),
    ("AH", Family.IPV6, authenticated6, REFUSED, REFUSED, False),
    ("ESP", Family.IPV6, lambda ends, port: [IPv6(**ends) / ESP(spi=1, data=bytes(datagram(port)))],
     REFUSED, REFUSED, False),
]  # fmt: skip


class Road:
    """One direction in one family, and what came of packets on it."""

    def __init__(self, scene: Scene, way: str, family: Family) -> None:
        self.scene, self.way, self.family = scene, way, family
        here, there = (scene.outside, scene.near) if way == "ingress" else (scene.near, scene.outside)
        self.sender: Place = here
        self.ends = {"src": here.address(family), "dst": there.address(family)}
        self.receivers = {port: scene.udp(there, family, port) for port in (OPEN, CLOSED, CONTROL)}
        self.control = scene.udp(here, family)
        self.check()

    def check(self) -> None:
        """A packet of an accepted session must arrive; so all that was sent before it and could, has."""
        self.control.sendto(b"control", (self.ends["dst"], CONTROL))
        assert self.receivers[CONTROL].recv(100) == b"control"

    def fate(self, packets: Iterable[Packet], port: int) -> tuple[dict[str, int], int]:
        """What the packets were counted as (any rule is `rule`), and how often that port's socket got the datagram."""
        self.scene.forget_all()
        self.check()
        before = self.scene.counts()
        for packet in packets:
            self.scene.send(self.sender, packet)
        self.check()
        counted = self.counted(before)
        others = {OPEN: CLOSED, CLOSED: OPEN}
        assert drained(self.receivers[others.get(port, OPEN)]) == []
        got = drained(self.receivers[port]) if port in self.receivers else []
        assert [data for data in got if data != BODY] == []
        return counted, len(got)

    def counted(self, before: dict[str, int]) -> dict[str, int]:
        """Since then, but for what kernels tell each other at any time."""
        since = grown(before, self.scene.counts())
        counted = {self.cause(name): number for name, number in since.items()}
        return {cause: number for cause, number in counted.items() if cause not in ("always", "icmp-error")}

    @staticmethod
    def cause(name: str) -> str:
        head, *rest = name.split(".")
        return head if head in ("rule", "default") else rest[0]


def enforce_and_hold(scene: Scene) -> None:
    """What never gets whole stays until the end: its sender would be told of it (time exceeded), in whichever test."""
    scene.enforce(*RULES)
    with netns.inside(scene.enforced):
        sysctl.write_all(dict.fromkeys(REASSEMBLY, "600"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("family", "build", "outcome"),
    [pytest.param(*row[1:3], row[3:], id=f"{row[1].value}-{row[0]}") for row in ROWS],
)
def test_ports_are_judged_wherever_they_stand(
    scene: Scene, way: str, family: Family, build: Build, outcome: tuple[str, str, bool]
) -> None:
    enforce_and_hold(scene)
    opened, closed, delivered = outcome
    road = Road(scene, way, family)
    for port, cause in ((CLOSED, closed), (OPEN, opened)):
        expected = {cause: 1} if cause else {}
        is_delivered = delivered and cause == ACCEPTED
        assert road.fate(build(road.ends, port), port) == (expected, int(is_delivered)), port


@pytest.mark.parametrize("way", WAYS)
def test_what_a_rule_lets_pass_behind_ah_opens_nothing_for_what_is_in_it(scene: Scene, way: str) -> None:
    """To conntrack, unlike to rules, AH over IPv6 is a header in between: both packets are of one session."""
    scene.enforce(*RULES, "ingress 51 from any", "egress 51 to any")
    road = Road(scene, way, Family.IPV6)
    scene.forget_all()
    road.check()
    before = scene.counts()
    (hidden,) = authenticated6(road.ends, CLOSED)
    scene.send(road.sender, hidden)
    road.check()
    assert {road.cause(name): n for name, n in grown(before, scene.counts()).items()}["rule"] == 1
    scene.send(road.sender, IPv6(**road.ends) / datagram(CLOSED))
    road.check()
    assert drained(road.receivers[CLOSED]) == []


@pytest.mark.parametrize("first_port", [OPEN, CLOSED])
def test_a_sender_that_avoids_reassembly_gains_nothing(scene: Scene, first_port: int) -> None:
    """IPv4 fragments from a raw socket that asks its kernel not to reassemble them: the tail belongs to no session. A
    router asks nobody, and puts them together."""
    enforce_and_hold(scene)
    road = Road(scene, "egress", Family.IPV4)
    data, number = whole4(road.ends, first_port), next(NUMBERS)
    before = scene.counts()
    with netns.inside(scene.near.netns), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as door:
        door.setsockopt(socket.IPPROTO_IP, IP_NODEFRAG, 1)
        for start, end in HALVES:
            packet = bytes(piece4(road.ends, data, start, end or len(data), number))
            is_refused(partial(door.sendto, packet, (road.ends["dst"], 0)))
    road.check()
    counted = road.counted(before)
    if scene.is_host:
        assert counted == {"rule" if first_port == OPEN else "default": 1}
    else:
        assert counted == {"invalid": 2}  # the first says that it is longer than it is
    assert len(drained(road.receivers[first_port])) == (scene.is_host and first_port == OPEN)

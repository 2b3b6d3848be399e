"""What a packet's own headers say, however much of it is cut off."""

from __future__ import annotations

import random

import pytest
from scapy.layers import inet, inet6
from scapy.layers.l2 import ARP
from scapy.packet import Packet, Raw

from sgdataplane.net.values import Family
from sgdataplane.observe.headers import parse_headers

FOUR, SIX = {"src": "192.0.2.1", "dst": "192.0.2.2"}, {"src": "2001:db8::1", "dst": "2001:db8::2"}
ROWS = [
    ("udp", inet.IP(**FOUR) / inet.UDP(sport=5, dport=6) / b"xyz", (17, 5, 6, None, None, 31)),
    ("options", inet.IP(**FOUR, options=[inet.IPOption_NOP()] * 4) / inet.TCP(dport=22), (6, 20, 22, None, 2, 44)),
    ("icmp", inet.IP(**FOUR) / inet.ICMP(), (1, None, None, 8, None, 28)),
    ("later-fragment", inet.IP(**FOUR, frag=4, proto=17) / Raw(b"12345678"), (17, None, None, None, None, 28)),
    ("gre", inet.IP(**FOUR, proto=47), (47, None, None, None, None, 20)),
    ("tcp6", inet6.IPv6(**SIX) / inet.TCP(sport=1, dport=2, flags="SA"), (6, 1, 2, None, 18, 60)),
    (
        "extension-headers",
        inet6.IPv6(**SIX) / inet6.IPv6ExtHdrHopByHop() / inet6.IPv6ExtHdrDestOpt() / inet.UDP(sport=5, dport=6),
        (17, 5, 6, None, None, 64),
    ),
    (
        "later-fragment6",
        inet6.IPv6(**SIX) / inet6.IPv6ExtHdrFragment(offset=1, nh=17) / Raw(b"12345678"),
        (17, None, None, None, None, 56),
    ),
    ("icmp6", inet6.IPv6(**SIX) / inet6.ICMPv6EchoRequest(), (58, None, None, 128, None, 48)),
]


def ethertype(packet: Packet) -> int:
    return 0x0800 if isinstance(packet, inet.IP) else 0x86DD


@pytest.mark.parametrize(("name", "packet", "wanted"), ROWS, ids=[row[0] for row in ROWS])
def test_fields(name: str, packet: Packet, wanted: tuple[int | None, ...]) -> None:
    found = parse_headers(ethertype(packet), bytes(packet))
    fields = (found.protocol, found.source_port, found.port, found.icmp_type, found.tcp_flags, found.length)
    assert fields == wanted, name
    is_four = ethertype(packet) == 0x0800
    assert found.family is (Family.IPV4 if is_four else Family.IPV6)
    ends = FOUR if is_four else SIX
    assert (str(found.source), str(found.destination)) == (ends["src"], ends["dst"])


def test_arp() -> None:
    found = parse_headers(0x0806, bytes(ARP(psrc="192.0.2.1", pdst="192.0.2.9")))
    assert (str(found.source), str(found.destination), found.family) == ("192.0.2.1", "192.0.2.9", None)


def test_anything_can_be_cut_or_broken() -> None:
    chance = random.Random(7)
    for _, packet, _ in ROWS:
        whole = bytes(packet)
        for length in range(len(whole)):
            parse_headers(ethertype(packet), whole[:length])
        for _ in range(200):
            broken = bytearray(whole)
            broken[chance.randrange(len(broken))] = chance.randrange(256)
            parse_headers(ethertype(packet), bytes(broken))
    assert parse_headers(0x88CC, b"x").protocol is None

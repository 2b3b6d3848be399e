"""Packets get other addresses, and what depends on these is updated; fragments become datagrams."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)
from scapy.packet import Packet, Raw

from sgdataplane.lab.replay.datagrams import Reassembly
from sgdataplane.lab.replay.packets import Readdressed, Unfit, find_packet, readdress
from sgdataplane.net.values import Address

BARE = 101
NEW = {4: ("203.0.113.1", "203.0.113.2"), 6: ("2001:db8:1::1", "2001:db8:1::2")}


def sent(packet: Packet, *, kept: int | None = None, hops: int = 1) -> Readdressed:
    whole = bytes(packet)
    found = find_packet(BARE, whole[:kept], len(whole))
    source, target = map(Address.parse, NEW[whole[0] >> 4])
    mapped = {found.source: source, found.target: target}
    return readdress(found, source, target, lambda address: mapped.get(address, address), hops)


def packets() -> list[Packet]:
    source, found = random.Random(5), []
    for _ in range(40):
        text = Raw(source.randbytes(source.randint(0, 60)))
        for ip in (IP(src="10.0.0.1", dst="10.0.0.2", ttl=9), IPv6(src="fd00::1", dst="fd00::2", hlim=9)):
            found += [
                ip / TCP(sport=source.randrange(65536), seq=source.getrandbits(32)) / text,
                ip / UDP(dport=9) / text,
            ]
            found.append(ip / (ICMP() if ip.version == 4 else ICMPv6EchoRequest()) / text)
    return found


def rebuilt(packet: Packet) -> Packet:
    """The same packet as scapy makes it with the new addresses."""
    wanted = packet.copy()
    wanted.src, wanted.dst = NEW[packet.version]
    wanted[0].setfieldval("ttl" if packet.version == 4 else "hlim", 10)
    return wanted


def test_transport_checksums_are_those_of_the_new_addresses() -> None:
    for packet in packets():
        header = 20 if packet.version == 4 else 40
        assert sent(packet).data[header:] == bytes(rebuilt(packet))[header:], packet.command()
        assert sent(packet).data[8 if header == 20 else 7] == 10


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_wrong_checksum_stays_wrong(protocol: type[Packet]) -> None:
    for packet in packets():
        if protocol in packet:
            right = bytes(packet)
            wrong = IP(right) if packet.version == 4 else IPv6(right)
            wrong[protocol].chksum ^= 0x0101
            assert sent(wrong).data != sent(packet).data
            again = sent(wrong).data
            assert (IP(again) if packet.version == 4 else IPv6(again))[protocol].chksum != rebuilt_sum(packet, protocol)


def rebuilt_sum(packet: Packet, protocol: type[Packet]) -> int:
    octets = bytes(rebuilt(packet))
    return int((IP(octets) if packet.version == 4 else IPv6(octets))[protocol].chksum)


def test_no_udp_checksum_stays_none() -> None:
    packet = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(chksum=0) / Raw(b"x")
    assert IP(sent(packet).data)[UDP].chksum == 0


def test_a_packet_captured_in_part_gets_the_checksum_of_what_is_sent() -> None:
    for packet in (IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / Raw(b"x" * 99), packets()[0] / Raw(b"y" * 99)):
        data = sent(packet, kept=40).data
        again = IP(data)
        del again[1].chksum
        assert len(data) == len(bytes(packet))
        assert data[20:] == bytes(again)[20:]


def test_what_an_icmp_error_quotes_is_readdressed_and_its_checksum_is_right() -> None:
    quoted = IP(src="10.0.0.2", dst="10.0.0.1") / UDP(sport=5, dport=6) / Raw(b"abc")
    error = IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(type=3, code=3) / Raw(bytes(quoted))
    data = sent(error).data
    inner = quoted.copy()
    inner.src, inner.dst = NEW[4][1], NEW[4][0]
    wanted = IP(src=NEW[4][0], dst=NEW[4][1], ttl=65) / ICMP(type=3, code=3) / Raw(bytes(inner))
    assert data[20:] == bytes(wanted)[20:]


def test_fragments_in_any_order_become_one_datagram_with_its_ports() -> None:
    pieces = fragment(IP(src="10.0.0.1", dst="10.0.0.2", id=7) / UDP(sport=5, dport=6) / Raw(b"z" * 3000), fragsize=800)
    for seed in range(20):
        order = list(pieces)
        random.Random(seed).shuffle(order)
        reassembly = Reassembly()
        *early, last = [reassembly.add(sent(IP(bytes(piece)))) for piece in order]
        assert early == [None] * (len(order) - 1)
        assert last is not None
        sizes = [len(form) for form in last.forms]
        assert (last.header.ports, sizes, len(last.packets)) == ((5, 6), [3008], len(order)), f"seed {seed}"


HEADERS = {
    "options": lambda: IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]),
    "hop-by-hop": lambda: IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]),
    "fragment": lambda: IPv6ExtHdrFragment(id=7),
}


def chained(names: list[str]) -> Packet:
    head = IPv6(src="2001:db8::1", dst="2001:db8::2")
    for name in names:
        head /= HEADERS[name]()
    return head / UDP(sport=5, dport=6) / Raw(b"z" * 40)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(sorted(HEADERS)), max_size=5))
def test_a_datagram_is_known_with_and_without_each_of_its_fragment_headers(names: list[str]) -> None:
    """Each kernel on the way removes one fragment header; what is left is what would be there without it."""
    datagram = Reassembly().add(sent(chained(names)))
    assert datagram is not None
    assert (datagram.header.protocol, datagram.header.ports) == (17, (5, 6))
    left = [names]
    while "fragment" in left[-1]:
        at = left[-1].index("fragment")
        left.append(left[-1][:at] + left[-1][at + 1 :])
    assert datagram.forms == tuple(sent(chained(fewer)).data[40:] for fewer in left)


def test_a_fragment_within_a_fragment_is_left_out() -> None:
    packet = IPv6(src="::1:1", dst="::1:2") / IPv6ExtHdrFragment(id=7) / IPv6ExtHdrFragment(id=8, m=1) / UDP()
    with pytest.raises(Unfit, match="a fragment within a fragment"):
        find_packet(101, bytes(packet), len(bytes(packet)))


def test_a_duplicate_fragment_changes_nothing_and_an_overlapping_one_spoils_the_datagram() -> None:
    first, second = fragment(IP(src="10.0.0.1", dst="10.0.0.2", id=7) / UDP() / Raw(b"z" * 1000), fragsize=800)
    overlapping = IP(src="10.0.0.1", dst="10.0.0.2", id=7, frag=50, flags="MF", proto=17) / Raw(b"z" * 800)
    for more, is_whole in ((first, True), (overlapping, False)):
        reassembly = Reassembly()
        found = [reassembly.add(sent(IP(bytes(piece)))) for piece in (first, more, second)]
        assert (found[-1] is not None) is is_whole

"""What taps read and probers build, compared with scapy's version of the same packets."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, GRE, Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit, SCTPChunkInitAck
from scapy.packet import Packet, Raw

from sgdataplane.lab import frames
from sgdataplane.lab.frames import ANSWER, ASK, ProbeMessage
from sgdataplane.net.values import Family

TOKEN = "0123456789abcdef"
ASKED = ProbeMessage(ASK, TOKEN)
V4, V6 = {"src": "10.0.0.1", "dst": "10.0.0.2"}, {"src": "2001:db8::1", "dst": "2001:db8::2"}
NONCE = bytes(range(8))
MAC = bytes.fromhex("00163e000001")


@pytest.mark.parametrize(
    ("packet", "key"),
    [
        pytest.param(IP(**V4) / TCP(sport=5, dport=22), "6 10.0.0.1 5 > 10.0.0.2 22", id="tcp"),
        pytest.param(IP(**V4, options=b"\x01\x01\x01\x00") / UDP(sport=5, dport=53), "17 10.0.0.1 5 > 10.0.0.2 53",
                     id="udp behind IP options"),
        pytest.param(IPv6(**V6) / UDP(sport=5, dport=53), "17 2001:db8::1 5 > 2001:db8::2 53", id="udp over ipv6"),
        pytest.param(IPv6(**V6) / IPv6ExtHdrDestOpt() / TCP(sport=5, dport=22), "6 2001:db8::1 5 > 2001:db8::2 22",
                     id="tcp behind an extension header"),
        pytest.param(IPv6(**V6) / IPv6ExtHdrFragment(m=1) / UDP(sport=5, dport=53), "17 2001:db8::1 5 > 2001:db8::2 53",
                     id="first ipv6 fragment"),
        pytest.param(IPv6(**V6) / IPv6ExtHdrFragment(offset=185, m=0, nh=17) / Raw(b"more"), None,
                     id="later ipv6 fragment"),
        pytest.param(IP(**V4, flags="MF") / UDP(sport=5, dport=53), "17 10.0.0.1 5 > 10.0.0.2 53", id="first fragment"),
        pytest.param(IP(**V4, frag=185, proto=17) / Raw(b"more"), None, id="later fragment"),
        pytest.param(IP(**V4) / ICMP(type=8, id=77), "echo 10.0.0.1 > 10.0.0.2 77", id="echo"),
        pytest.param(IP(**V4) / ICMP(type=0, id=77), None, id="echo reply"),
        pytest.param(IPv6(**V6) / ICMPv6EchoRequest(id=77), "echo 2001:db8::1 > 2001:db8::2 77", id="echo over ipv6"),
        pytest.param(IPv6(**V6) / ICMPv6EchoReply(id=77), None, id="echo reply over ipv6"),
        pytest.param(IP(**V4) / GRE(proto=0x88B5) / Raw(ASKED.encode()), f"47 10.0.0.1 > 10.0.0.2 {TOKEN}", id="gre"),
        pytest.param(IP(**V4, proto=253) / Raw(ASKED.encode()), f"253 10.0.0.1 > 10.0.0.2 {TOKEN}", id="253"),
        pytest.param(IP(**V4, proto=253) / Raw(b"of somebody else"), None, id="253 without a token"),
        pytest.param(ARP(op=1, pdst="169.254.1.1") / Raw(NONCE), f"arp? 169.254.1.1 {NONCE.hex()}", id="arp request"),
        pytest.param(ARP(op=2, psrc="169.254.1.1"), "arp! 169.254.1.1", id="arp reply"),
        pytest.param(IPv6(**V6) / ICMPv6ND_NA(tgt="fe80::1"), "nd! fe80::1", id="neighbour advertisement"),
        pytest.param(Dot1Q(vlan=5) / IP(**V4) / TCP(), None, id="in a VLAN"),
    ],
)  # fmt: skip
def test_key_of_a_packet(packet: Packet, key: str | None) -> None:
    frame = bytes(Ether(src="00:16:3e:00:00:01", dst="00:16:3e:00:00:02") / packet)
    assert frames.key_of_frame(frame) == key


@pytest.mark.parametrize("length", range(60))
def test_truncated_frame_names_nothing_and_breaks_nothing(length: int) -> None:
    for packet in (IP(**V4) / TCP(), IPv6(**V6) / IPv6ExtHdrDestOpt() / UDP(), ARP()):
        frames.key_of_frame(bytes(Ether() / packet)[:length])


def test_arp_request_is_one_and_carries_the_nonce() -> None:
    frame = frames.arp_request(MAC, "10.0.0.1", "169.254.1.1", NONCE)
    arp = Ether(frame)[ARP]
    assert (arp.op, arp.hwsrc, arp.psrc, arp.pdst) == (1, "00:16:3e:00:00:01", "10.0.0.1", "169.254.1.1")
    assert Ether(frame).dst == "ff:ff:ff:ff:ff:ff"
    assert frames.key_of_frame(frame) == f"arp? 169.254.1.1 {NONCE.hex()}"


def test_neighbour_solicitation_is_one_and_carries_the_nonce() -> None:
    message = frames.neighbour_solicitation(MAC, "fe80::1", NONCE)
    packet = Ether() / IPv6(src="fe80::2", dst=frames.derive_solicited_node("fe80::1"), nh=58, hlim=255) / Raw(message)
    parsed = Ether(bytes(packet))
    assert parsed[ICMPv6ND_NS].tgt == "fe80::1"
    assert parsed[IPv6].dst == "ff02::1:ff00:1"
    assert frames.key_of_frame(bytes(packet)) == f"nd? fe80::1 {NONCE.hex()}"


def test_echo_request_has_a_right_checksum() -> None:
    built = frames.echo_request(Family.IPV4, 77, ASKED.encode())
    assert bytes(ICMP(type=8, id=77, seq=1) / Raw(ASKED.encode())) == built


@pytest.mark.parametrize(("kind", "chunk"), [(ASK, SCTPChunkInit), (ANSWER, SCTPChunkInitAck)])
def test_sctp_packet_is_a_legal_one(kind: bytes, chunk: type[Packet]) -> None:
    built = frames.other_payload(frames.SCTP, ProbeMessage(kind, TOKEN))
    parsed = SCTP(built)
    assert parsed[chunk].init_tag != 0
    assert parsed.tag == (0 if kind == ASK else SCTP(frames.other_payload(frames.SCTP, ASKED))[SCTPChunkInit].init_tag)
    wrong = SCTP(built)
    del wrong.chksum
    assert bytes(wrong) == built  # scapy computes the same checksum
    assert ProbeMessage.find(built) == ProbeMessage(kind, TOKEN)


def test_message_is_found_among_other_bytes() -> None:
    assert ProbeMessage.find(b"\x00\x01" + ProbeMessage(ANSWER, TOKEN).encode() + b"rest") == ProbeMessage(
        ANSWER, TOKEN
    )
    assert ProbeMessage.find(b"sgdp-ask:0123") is None

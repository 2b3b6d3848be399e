"""Frames from packet sockets, which meet no policy: the fence stops them, and without it every one of them leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_RA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, LLC, SNAP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Packet, Padding, Raw

from sgdataplane.nft.kernel import NetlinkKernel
from tests.fence.bench import (
    EVERYONE,
    GATEWAY,
    HOST,
    HOST6,
    MAC,
    OTHER,
    OTHER6,
    OTHER_MAC,
    OWN,
    OWN6,
    Bench,
    Build,
    arp,
    bench,
    unfenced,
)

pytestmark = pytest.mark.traffic

EAPOL, MPLS, PPPOE = 0x888E, 0x8847, 0x8864


def frame(*layers: Packet, src: str = MAC, dst: str = EVERYONE, kind: int | None = None) -> Build:
    """An Ethernet frame of these layers and the token."""

    def build(known: bytes) -> Packet:
        made = Ether(src=src, dst=dst) if kind is None else Ether(src=src, dst=dst, type=kind)
        for layer in layers:
            made = made / layer
        return made / (Padding(known) if any(isinstance(layer, ARP) for layer in layers) else Raw(known))

    return build


def dhcp(source: str, target: str, sport: int = 68, dport: int = 67, **header: object) -> Build:
    """A client's message, which carries the token as an option of the vendor's."""

    def build(known: bytes) -> Packet:
        options = DHCP(options=[("message-type", "discover"), ("vendor_class_id", known), "end"])
        udp = UDP(sport=sport, dport=dport) / BOOTP(chaddr=b"\0\x16\x3e\0\0\x0a") / options
        return Ether(src=MAC, dst=EVERYONE) / IP(src=source, dst=target, **header) / udp

    return build


ALLOWED = IP(src=OWN, dst=HOST) / UDP(sport=5353, dport=53)
ALLOWED6 = IPv6(src=OWN6, dst=HOST6) / UDP(sport=5353, dport=53)
CLAIM = ICMPv6ND_NA(tgt=OTHER6, R=0) / ICMPv6NDOptDstLLAddr(lladdr=MAC)
OWN_ARP = ARP(psrc=OWN, hwsrc=MAC, pdst=GATEWAY)
STOPPED: dict[str, tuple[Build, str]] = {
    "udp-that-the-policy-allows": (frame(ALLOWED), "unapproved"),
    "udp6-that-the-policy-allows": (frame(ALLOWED6), "unapproved"),
    "tcp": (frame(IP(src=OWN, dst=HOST) / TCP(dport=22)), "unapproved"),
    "ping": (frame(IP(src=OWN, dst=OTHER) / ICMP()), "unapproved"),
    "another's-address": (frame(IP(src=OTHER, dst=HOST) / UDP(dport=53)), "unapproved"),
    "another's-address6": (frame(IPv6(src=OTHER6, dst=HOST6) / UDP(dport=53)), "unapproved"),
    "router-advertisement": (frame(IPv6(src="fe80::1", dst="ff02::1", hlim=255) / ICMPv6ND_RA()), "unapproved"),
    "neighbour-claim": (frame(IPv6(src=OWN6, dst="ff02::1", hlim=255) / CLAIM), "unapproved"),
    "dhcp-to-elsewhere": (dhcp("0.0.0.0", HOST), "unapproved"),
    "dhcp-from-another": (dhcp(OTHER, "255.255.255.255"), "unapproved"),
    "dhcp-server": (dhcp(OWN, "255.255.255.255", sport=67, dport=68), "unapproved"),
    "dhcp-ports-in-a-first-fragment": (dhcp("0.0.0.0", "255.255.255.255", flags="MF"), "unapproved"),
    "dhcp-ports-in-a-later-fragment": (dhcp("0.0.0.0", "255.255.255.255", frag=100), "unapproved"),
    "another's-mac": (frame(OWN_ARP, src=OTHER_MAC), "other-mac"),
    "another's-mac-and-address": (arp(OTHER, OTHER_MAC, OTHER_MAC), "other-mac"),
    "arp-question-of-another": (arp(OTHER), "arp-claim"),
    "arp-announcement-of-another": (arp(OTHER, pdst=OTHER), "arp-claim"),
    "arp-answer-for-another": (arp(OTHER, op=2, pdst=GATEWAY), "arp-claim"),
    "arp-answer-for-the-gateway": (arp(GATEWAY, op=2, pdst=OTHER), "arp-claim"),
    "arp-with-another's-mac-in-it": (arp(OWN, OTHER_MAC), "arp-claim"),
    "arp-beside-the-delegated-prefix": (arp("10.0.16.16"), "arp-claim"),
    "arp-of-odd-lengths": (arp(hwlen=8), "arp-claim"),
    "arp-of-no-ethernet": (arp(hwtype=6), "arp-claim"),
    "rarp-operation": (arp(op=3), "arp-claim"),
    "802.1q-ip": (frame(Dot1Q(vlan=7), ALLOWED), "tagged"),
    "802.1q-priority-only": (frame(Dot1Q(vlan=0), ALLOWED), "tagged"),
    "802.1q-arp": (frame(Dot1Q(vlan=7), OWN_ARP), "tagged"),
    "802.1ad-ip": (frame(Dot1AD(vlan=7), ALLOWED), "tagged"),
    "qinq-ip": (frame(Dot1AD(vlan=7), Dot1Q(vlan=8), ALLOWED), "tagged"),
    "qinq-9100": (frame(Dot1Q(vlan=7), ALLOWED, kind=0x9100), "tagged"),
    "eapol": (frame(Raw(b"\1\1\0\0"), kind=EAPOL), "other"),
    "mpls": (frame(Raw(b"\0\0\x11\x40"), ALLOWED, kind=MPLS), "other"),
    "pppoe": (frame(Raw(b"\x11\0\0\1\0\x30\0\x21"), ALLOWED, kind=PPPOE), "other"),
    "snap-ip": (lambda known: Dot3(src=MAC, dst=EVERYONE) / LLC() / SNAP(code=0x800) / ALLOWED / Raw(known), "other"),
}
PASSES: dict[str, Build] = {
    "arp-question": arp(),
    "arp-announcement": arp(pdst=OWN),
    "arp-announcement-as-answer": arp(op=2, pdst=OWN),
    "arp-answer": arp(op=2, pdst=GATEWAY, hwdst=OTHER_MAC),
    "arp-probe": arp("0.0.0.0", pdst=OWN),
    "arp-of-the-delegated-prefix": arp("10.0.16.15"),
    "arp-of-the-allowed-pair": arp("10.0.32.9", op=2, pdst=GATEWAY),
    "dhcp-discover": dhcp("0.0.0.0", "255.255.255.255"),
    "dhcp-renewal": dhcp(OWN, GATEWAY),
}
IP_TYPE, ARP_TYPE, ODD_TYPE = 0x0800, 0x0806, 0x88B5


@pytest.fixture(scope="module")
def open_bench(make_lab_name: Callable[[], str]) -> Iterator[Bench]:
    """The same without the fence."""
    with bench(make_lab_name(), unfenced) as made:
        yield made


@pytest.mark.parametrize("name", STOPPED)
@pytest.mark.parametrize("bypass", [False, True], ids=["", "past-the-queue"])
def test_frame_is_stopped_and_counted(fenced: Bench, name: str, bypass: bool) -> None:
    build, cause = STOPPED[name]
    before = fenced.counted()
    assert not fenced.leaves(build, bypass=bypass)
    after = fenced.counted()
    assert {key: after[key] - before[key] for key in after if after[key] != before[key]} == {f"fence.{cause}": 1}


@pytest.mark.parametrize("name", STOPPED)
def test_without_the_fence_it_leaves(open_bench: Bench, name: str) -> None:
    """The control: it is well formed, and the tap would have seen it."""
    assert open_bench.leaves(STOPPED[name][0])


@pytest.mark.parametrize("name", PASSES)
def test_what_an_own_address_needs_leaves(fenced: Bench, name: str) -> None:
    assert fenced.leaves(PASSES[name])


@pytest.mark.parametrize("protocol", [IP_TYPE, ARP_TYPE, ODD_TYPE], ids=hex)
@pytest.mark.parametrize("name", ["udp-that-the-policy-allows", "arp-question-of-another", "802.1q-ip", "eapol"])
def test_what_the_kernel_is_told_of_a_frame_does_not_help(fenced: Bench, name: str, protocol: int) -> None:
    assert not fenced.leaves(STOPPED[name][0], protocol)


@pytest.mark.parametrize("name", ["udp-that-the-policy-allows", "udp6-that-the-policy-allows", "802.1q-ip"])
@pytest.mark.parametrize("is_right", [False, True], ids=["wrong", "right"])
def test_mark_does_not_help(fenced: Bench, name: str, is_right: bool) -> None:
    """Not even the right one, which a tap of the instance's own can read: such a frame was not routed."""
    secret = secret_of(fenced)
    assert not fenced.leaves(STOPPED[name][0], mark=secret if is_right else secret ^ 1)


def secret_of(fenced: Bench) -> int:
    """As root of the instance can read it."""
    with NetlinkKernel(fenced.instance) as kernel:
        stamp = kernel.inventory("sgdataplane").stamp
    assert stamp is not None
    assert stamp.secret
    return stamp.secret

"""Kinds of frames at the host end, from inside an instance: no receiver sees what may not pass, and it is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption_LSRR, fragment
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, GRE, LLC, SNAP, Dot1AD, Dot1Q, Dot3
from scapy.packet import Packet, Padding, Raw

from tests.fence.bench import EVERYONE, token
from tests.fence.hostbench import ENDS, GATEWAY, MAC, NEIGHBOUR, OUTSIDE, OWN, OWN6, End, HostBench, Party

pytestmark = pytest.mark.traffic

ALLOWED, REFUSED = UDP(sport=5353, dport=53), UDP(sport=5353, dport=54)
AH = Raw(b"\x11\x04\0\0\0\0\0\1\0\0\0\1" + bytes(12))  # UDP is next; 24 octets
NOBODY, NOBODY6 = "10.0.0.9", "2001:db8:a::9"
LINK, GATEWAY6, ALL_NODES = "fe80::216:3eff:fe00:a", "fe80::1", "ff02::1"
MPLS, PPPOE, QINQ = 0x8847, 0x8864, 0x9100
DEFAULT = "default.egress.drop"
Layers = Callable[[End], Packet]


@dataclass(frozen=True)
class Kind:
    """Layers for a target; who drops it; whether a router without policy and fence would carry it on. `src`, `dst`,
    `kind`: of the frame, other than usual."""

    layers: Layers
    counter: str
    is_routed: bool = True
    src: str = ""
    dst: str = ""
    kind: int = 0

    def build(self, party: Party, end: End, known: bytes) -> Packet:
        ether = party.ether(self.src, self.dst)
        if self.kind:
            ether.type = self.kind
        layers = self.layers(end)
        return ether / layers / (Padding(known) if ARP in layers else Raw(known))


def own(end: End, **fields: object) -> Packet:
    return IP(src=OWN, dst=end.v4, **fields)


def own6(end: End, **fields: object) -> Packet:
    return IPv6(src=OWN6, dst=end.v6, **fields)


def udp(end: End) -> Packet:
    return own(end) / ALLOWED


def discovery(source: str, *layers: Packet, to: str = "") -> Layers:
    """Neighbour discovery from a source, with the hop limit that shows it is from the link."""

    def build(end: End) -> Packet:
        made = IPv6(src=source, dst=to or end.v6, hlim=255)
        for layer in layers:
            made /= layer
        return made

    return build


def claim(target: str) -> tuple[Packet, Packet]:
    return ICMPv6ND_NA(tgt=target, R=0, O=1), ICMPv6NDOptDstLLAddr(lladdr=MAC)


def arp(end: End, **fields: object) -> Packet:
    return ARP(**({"op": 1, "hwsrc": MAC, "psrc": end.v4, "pdst": GATEWAY} | fields))


TAGS = {
    "802.1q": (False, [Dot1Q(vlan=7)]),
    "802.1q-priority-only": (True, [Dot1Q(vlan=0, prio=5)]),
    "802.1ad-priority-only": (True, [Dot1AD(vlan=0)]),
    "qinq": (False, [Dot1AD(vlan=7), Dot1Q(vlan=8)]),
    "qinq-priority-only": (True, [Dot1AD(vlan=0), Dot1Q(vlan=0)]),
    "two-tags": (False, [Dot1Q(vlan=7), Dot1Q(vlan=8)]),
    "two-priority-tags": (True, [Dot1Q(vlan=0), Dot1Q(vlan=0)]),
    "priority-and-vlan": (False, [Dot1Q(vlan=0), Dot1Q(vlan=7)]),
}


def tagged(tags: list[Packet], inner: Layers, end: End) -> Packet:
    made = tags[0].copy()
    for layer in (*tags[1:], inner(end)):
        made /= layer
    return made


STOPPED: dict[str, Kind] = {
    **{name: Kind(partial(tagged, tags, udp), "fence.tagged", routed) for name, (routed, tags) in TAGS.items()},
    **{
        f"{name}6": Kind(partial(tagged, tags, lambda end: own6(end) / ALLOWED), "fence.tagged", routed)
        for name, (routed, tags) in TAGS.items()
    },
    "802.1q-arp": Kind(partial(tagged, [Dot1Q(vlan=0)], arp), "fence.tagged", is_routed=False, dst=EVERYONE),
    "qinq-9100": Kind(lambda end: Dot1Q(vlan=0) / udp(end), "fence.tagged", is_routed=False, kind=QINQ),
    "mpls": Kind(lambda end: Raw(b"\0\0\x11\x40") / udp(end), "fence.other", is_routed=False, kind=MPLS),
    "pppoe": Kind(lambda end: Raw(b"\x11\0\0\1\0\x30\0\x21") / udp(end), "fence.other", is_routed=False, kind=PPPOE),
    "neighbour's-mac": Kind(udp, "fence.other-mac", src="00:16:3e:00:00:0b"),
    "multicast-mac": Kind(udp, "fence.other-mac", src="01:00:5e:00:00:01"),
    "arp-question-of-another": Kind(arp, "fence.arp-claim", is_routed=False, dst=EVERYONE),
    "arp-answer-for-another": Kind(partial(arp, op=2), "fence.arp-claim", is_routed=False),
    "arp-announcement-of-another": Kind(
        lambda end: arp(end, pdst=end.v4), "fence.arp-claim", is_routed=False, dst=EVERYONE
    ),
    "arp-answer-for-the-gateway": Kind(partial(arp, op=2, psrc=GATEWAY), "fence.arp-claim", is_routed=False),
    "advertisement-of-another": Kind(
        discovery(OWN6, *claim(NEIGHBOUR.v6), to=ALL_NODES), "egress.neighbour-claim", is_routed=False
    ),
    "advertisement-of-another-to-the-gateway": Kind(
        discovery(LINK, *claim(OUTSIDE.v6), to=GATEWAY6), "egress.neighbour-claim", is_routed=False
    ),
    "advertisement-of-the-gateway": Kind(
        discovery(OWN6, *claim(GATEWAY6), to=ALL_NODES), "egress.neighbour-claim", is_routed=False
    ),
    "probe-for-the-gateway": Kind(
        discovery("::", ICMPv6ND_NS(tgt=GATEWAY6), to="ff02::1:ff00:1"), "egress.neighbour-claim", is_routed=False
    ),
    "solicitation-as-the-gateway": Kind(
        discovery(GATEWAY6, ICMPv6ND_NS(tgt=NEIGHBOUR.v6), ICMPv6NDOptSrcLLAddr(lladdr=MAC), to=ALL_NODES),
        "fence.spoofed",
        is_routed=False,
    ),
    "arp-probe-for-another's": Kind(
        lambda end: arp(end, psrc="0.0.0.0", pdst=end.v4), "fence.arp-claim", is_routed=False, dst=EVERYONE
    ),
    "solicitation-as-another": Kind(
        discovery(NOBODY6, ICMPv6ND_NS(tgt=GATEWAY6), ICMPv6NDOptSrcLLAddr(lladdr=MAC), to="ff02::1:ff00:1"),
        "fence.spoofed",
        is_routed=False,
    ),
    "solicitation-to-elsewhere": Kind(discovery(OWN6, ICMPv6ND_NS(tgt=OWN6)), "fence.discovery"),
    "advertisement-to-elsewhere": Kind(discovery(OWN6, ICMPv6ND_NA(tgt=OWN6)), "fence.discovery"),
    "advertisement-of-its-link-to-elsewhere": Kind(
        discovery(LINK, ICMPv6ND_NA(tgt=LINK)), "fence.discovery", is_routed=False
    ),
    "solicitation-behind-options": Kind(
        lambda end: own6(end, hlim=255) / IPv6ExtHdrDestOpt() / ICMPv6ND_NS(tgt=end.v6), "fence.discovery"
    ),
    "router-advertisement": Kind(
        discovery(GATEWAY6, ICMPv6ND_RA(), to=ALL_NODES), "fence.spoofed", is_routed=False, dst="33:33:00:00:00:01"
    ),
    "router-advertisement-of-its-link": Kind(
        discovery(LINK, ICMPv6ND_RA(), to=ALL_NODES), "egress.spoofed", is_routed=False
    ),
    "router-advertisement-of-its-own": Kind(
        discovery(OWN6, ICMPv6ND_RA(), to=ALL_NODES), "egress.malformed-discovery", is_routed=False
    ),
    "redirect": Kind(
        discovery(GATEWAY6, ICMPv6ND_Redirect(tgt="fe80::2", dst=NOBODY6), to=ALL_NODES),
        "fence.spoofed",
        is_routed=False,
    ),
    "dhcp-server": Kind(lambda end: own(end) / UDP(sport=67, dport=68), "egress.dhcp-server"),
    "dhcp-server-to-all": Kind(
        lambda _: IP(src=OWN, dst="255.255.255.255") / UDP(sport=67, dport=68),
        "egress.dhcp-server",
        is_routed=False,
        dst=EVERYONE,
    ),
    "dhcp-server-as-gateway": Kind(
        lambda end: IP(src=GATEWAY, dst=end.v4) / UDP(sport=67, dport=68), "fence.spoofed", is_routed=False
    ),
    "dhcp-server6": Kind(lambda end: own6(end) / UDP(sport=547, dport=546), "egress.dhcp-server"),
    "dhcp-server6-to-all": Kind(
        lambda _: IPv6(src=LINK, dst=ALL_NODES) / UDP(sport=547, dport=546), "egress.spoofed", is_routed=False
    ),
    "dhcp-server6-behind-options": Kind(
        lambda end: own6(end) / IPv6ExtHdrDestOpt() / UDP(sport=547, dport=546), "egress.dhcp-server"
    ),
    "other-port": Kind(lambda end: own(end) / REFUSED, DEFAULT),
    "other-protocol": Kind(lambda end: own(end) / TCP(dport=53), DEFAULT),
    "other-port-behind-options": Kind(lambda end: own6(end) / IPv6ExtHdrDestOpt() / REFUSED, DEFAULT),
    "other-port-hop-by-hop": Kind(lambda end: own6(end) / IPv6ExtHdrHopByHop() / REFUSED, DEFAULT),
    "ipv4-in-ipv6": Kind(lambda end: own6(end) / udp(end), DEFAULT),
    "ip-in-ip-to-the-gateway": Kind(lambda end: IP(src=OWN, dst=GATEWAY) / udp(end), DEFAULT, is_routed=False),
    "gre-to-the-gateway": Kind(lambda end: IP(src=OWN, dst=GATEWAY) / GRE() / udp(end), DEFAULT, is_routed=False),
}
PASSES: dict[str, Layers] = {
    "udp": udp,
    "udp6": lambda end: own6(end) / ALLOWED,
    "udp6-behind-options": lambda end: own6(end) / IPv6ExtHdrDestOpt() / ALLOWED,
    "udp6-hop-by-hop": lambda end: own6(end) / IPv6ExtHdrHopByHop() / ALLOWED,
}
TUNNELS: dict[str, Layers] = {  # the rules let them go outside only
    "ip-in-ip": lambda end: own(end) / IP(src=NOBODY, dst=end.v4) / REFUSED,
    "ipv6-in-ip": lambda end: own(end) / IPv6(src=NOBODY6, dst=end.v6) / REFUSED,
    "gre": lambda end: own(end) / GRE() / IP(src=NOBODY, dst=end.v4) / REFUSED,
    "ethernet-in-gre": lambda end: own(end) / GRE(proto=0x6558) / Raw(bytes(14)) / udp(end),
    "ah": lambda end: own(end, proto=51) / AH / ALLOWED,
    "ah6": lambda end: own6(end, nh=51) / AH / ALLOWED,
}
to_each = pytest.mark.parametrize("end", ENDS, ids=[end.name for end in ENDS])


@to_each
@pytest.mark.parametrize("name", STOPPED)
def test_kind_is_stopped_and_counted(hosted: HostBench, name: str, end: End) -> None:
    kind = STOPPED[name]
    fate = hosted.fate(lambda known: kind.build(hosted.instance, end, known))
    assert (fate.seen_by, fate.drops) == (frozenset(), {kind.counter: 1})


@to_each
@pytest.mark.parametrize("name", STOPPED)
def test_without_policy_it_arrives(open_host: HostBench, name: str, end: End) -> None:
    """The control. What no router carries on has no other: there the counter above is the evidence."""
    kind = STOPPED[name]
    fate = open_host.fate(lambda known: kind.build(open_host.instance, end, known))
    assert (end.name in fate.seen_by) == kind.is_routed


@to_each
@pytest.mark.parametrize("name", PASSES)
def test_what_the_rules_accept_passes(hosted: HostBench, name: str, end: End) -> None:
    fate = hosted.fate(lambda known: hosted.instance.ether() / PASSES[name](end) / Raw(known))
    assert (end.name in fate.seen_by, fate.drops) == (True, {})


@pytest.mark.parametrize("name", TUNNELS)
def test_tunnel_passes_as_its_rules_allow(hosted: HostBench, name: str) -> None:
    fates = {
        end: hosted.fate(lambda known: hosted.instance.ether() / TUNNELS[name](end) / Raw(known))  # noqa: B023  (called here only)
        for end in ENDS
    }
    assert (OUTSIDE.name in fates[OUTSIDE].seen_by, fates[OUTSIDE].drops) == (True, {})
    assert (fates[NEIGHBOUR].seen_by, fates[NEIGHBOUR].drops) == (frozenset(), {DEFAULT: 1})


@to_each
@pytest.mark.parametrize("port", [53, 54])
def test_fragments_are_judged_as_one_packet(hosted: HostBench, end: End, port: int) -> None:
    known = token()
    fragments = fragment(own(end, id=port) / UDP(sport=5353, dport=port) / Raw(bytes(40) + known), 24)
    frames = [(hosted.instance.wire.send, hosted.instance.ether() / each) for each in fragments]
    fate = hosted.fate_of_all(known, frames)
    assert len(fragments) == 3
    assert (end.name in fate.seen_by, fate.drops) == ((True, {}) if port == 53 else (False, {DEFAULT: 1}))


@to_each
@pytest.mark.parametrize(("sport", "dport", "split"), [(5353, 53, 24), (5353, 53, 16), (547, 546, 24), (547, 546, 16)])
def test_ports_out_of_the_first_fragment_help_nobody(
    hosted: HostBench, end: End, sport: int, dport: int, split: int
) -> None:
    """With destination options of 16 octets in front: a first fragment of 16 has no ports, so conntrack refuses it."""
    known = token()
    datagram = bytes(own6(end) / UDP(sport=sport, dport=dport) / Raw(bytes(40) + known))[40:]
    content = bytes([17, 1, 1, 12]) + bytes(12) + datagram
    pieces = ((0, content[:split]), (split // 8, content[split:]))
    frames = [
        own6(end) / IPv6ExtHdrFragment(nh=60, offset=start, m=int(start == 0), id=sport + split) / Raw(octets)
        for start, octets in pieces
    ]
    fate = hosted.fate_of_all(known, [(hosted.instance.wire.send, hosted.instance.ether() / each) for each in frames])
    cause = "egress.invalid" if split == 16 else "egress.dhcp-server" if dport == 546 else ""
    assert (end.name in fate.seen_by, fate.drops) == ((False, {cause: 1}) if cause else (True, {}))


NOT_FOR_THE_ROUTER = {
    "neighbour's-mac": ("00:16:3e:00:00:0b", udp),
    "broadcast-mac": (EVERYONE, udp),
    "multicast-mac": ("33:33:00:00:00:01", lambda end: own6(end) / ALLOWED),
    "source-route": (
        "",
        lambda end: (
            IP(src=OWN, dst=GATEWAY, options=[IPOption_LSRR(routers=[end.v4])]) / UDP(sport=5353, dport=53, chksum=0)
        ),
    ),
    "routing-header": (
        "",
        lambda end: IPv6(src=OWN6, dst=GATEWAY6) / IPv6ExtHdrRouting(addresses=[end.v6], segleft=1) / ALLOWED,
    ),
}


@to_each
@pytest.mark.parametrize("name", NOT_FOR_THE_ROUTER)
def test_router_carries_on_only_what_is_addressed_to_it_and_by_its_own_routes(
    hosted: HostBench, open_host: HostBench, name: str, end: End
) -> None:
    """Its kernel sees to that, also without policy; the same packet in a frame for the router arrives (above)."""
    mac, layers = NOT_FOR_THE_ROUTER[name]
    for bench in (hosted, open_host):
        fate = bench.fate(lambda known: bench.instance.ether(dst=mac) / layers(end) / Raw(known))  # noqa: B023  (called here only)
        assert fate.seen_by == frozenset()


@to_each
def test_llc_frame_carries_nothing(hosted: HostBench, end: End) -> None:
    head = Dot3(src=MAC, dst=hosted.instance.gateway_mac) / LLC() / SNAP(code=0x800)
    fate = hosted.fate(lambda known: head / udp(end) / Raw(known))
    assert (fate.seen_by, fate.drops) == (frozenset(), {"fence.other": 1})

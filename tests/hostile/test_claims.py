"""An instance on a link with more ends than two says that it is the gateway: by advertisements, solicitations and ARP.
Its own addresses it may claim, and these arrive: the control."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from sgdataplane.host import netns, sysctl
from sgdataplane.host.links import InterfaceAddress, Links
from sgdataplane.net.values import Address, link_local
from tests.hostile.scene import PLAIN, policy
from tests.support.inputs.builders import mac_of
from tests.support.inputs.building import enforce
from tests.support.kernel.nft import nft
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.scenes.labs import run_in

pytestmark = [pytest.mark.traffic, pytest.mark.optional]

ATTACKER, VICTIM, GATEWAY = (mac_of(name) for name in ("eni-a", "victim", "gateway"))
OWN, OWN6, OWN_LINK = "10.0.0.2", "2001:db8::2", str(link_local(ATTACKER))
VICTIM4, VICTIM_LINK = "10.0.0.3", str(link_local(VICTIM))
GATEWAY4, GATEWAY6 = "10.0.0.1", "fe80::1"
ALL_NODES, EVERYONE = "ff02::1", "ff:ff:ff:ff:ff:ff"


@dataclass(frozen=True)
class Wire:
    """Three namespaces at one bridge."""

    attacker: str
    victim: str

    def believes(self, address: str) -> str:
        """The MAC that the victim takes an address to have."""
        entries = json.loads(run_in(self.victim, "ip", "-j", "neigh", "show", address))
        return next((str(entry.get("lladdr", "")) for entry in entries), "")

    def send(self, packet: Packet) -> None:
        """By the way that is left: IP by a raw socket, which the policy judges; ARP by a packet socket."""
        with netns.inside(self.attacker):
            if ARP in packet:
                with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
                    sender.bind(("eth0", 0))
                    _send(lambda: sender.send(bytes(packet)))
                return
            with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
                sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, _index(self.attacker))
                _send(lambda: sender.sendto(bytes(packet), (packet.dst, 0, 0, _index(self.attacker))))

    def know_the_gateway(self) -> None:
        """The victim asks who it is, and is told."""
        run_in(self.victim, "ip", "neigh", "flush", "dev", "eth0", "nud", "all")
        for address in (GATEWAY4, GATEWAY6):
            family, scope = (socket.AF_INET6, (0, _index(self.victim))) if ":" in address else (socket.AF_INET, ())
            with netns.inside(self.victim), socket.socket(family, socket.SOCK_DGRAM) as asker:
                asker.sendto(b"", (address, 9, *scope))
        wait_until(lambda: [self.believes(address) for address in (GATEWAY4, GATEWAY6)] == [GATEWAY, GATEWAY])


def _send(send: Callable[[], object]) -> None:
    try:
        send()
    except OSError:
        """The sender is told of a drop."""


def _index(namespace: str) -> int:
    with Links(namespace) as links:
        return links.index_of("eth0")


@pytest.fixture(scope="module")
def wire(make_lab_name: Callable[[], str]) -> Iterator[Wire]:
    bridge, attacker, victim, gateway = (make_lab_name() for _ in range(4))
    ends = {
        attacker: (ATTACKER, (OWN, OWN6)),
        victim: (VICTIM, (VICTIM4,)),
        gateway: (GATEWAY, (GATEWAY4, GATEWAY6)),
    }
    for name in (bridge, *ends):
        netns.create(name)
    run_in(bridge, "ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
    run_in(bridge, "ip", "link", "set", "br0", "up")
    for number, (name, (mac, addresses)) in enumerate(ends.items()):
        with Links(bridge) as links:
            links.add_veth(f"p{number}", name, "eth0", mac)
        run_in(bridge, "ip", "link", "set", f"p{number}", "master", "br0", "up")
        with netns.inside(name):
            sysctl.write_all({"ipv6/conf/eth0/accept_dad": "0", "ipv4/neigh/eth0/locktime": "0"})
        with Links(name) as links:
            for text in addresses:
                links.add_address(InterfaceAddress("eth0", Address.parse(text), 64 if ":" in text else 24))
            links.set_up("eth0")
    wait_until(lambda: run_in(bridge, "bridge", "link", "show").count("state forwarding") == len(ends))
    yield Wire(attacker, victim)
    for name in (*ends, bridge):
        netns.remove(name)


def advertisement(source: str, target: str) -> Packet:
    claim = ICMPv6ND_NA(tgt=target, R=1, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=ATTACKER)
    return IPv6(src=source, dst=ALL_NODES, hlim=255) / claim


def solicitation(source: str) -> Packet:
    """Who is asked takes over what the asker says of itself."""
    question = ICMPv6ND_NS(tgt=VICTIM_LINK) / ICMPv6NDOptSrcLLAddr(lladdr=ATTACKER)
    return IPv6(src=source, dst=VICTIM_LINK, hlim=255) / question


def arp(sender: str, target: str = VICTIM4, operation: int = 1) -> Packet:
    said = ARP(op=operation, hwsrc=ATTACKER, psrc=sender, hwdst=VICTIM, pdst=target)
    return Ether(src=ATTACKER, dst=EVERYONE) / said


ATTACKS = {
    "advertisement": (advertisement(OWN6, GATEWAY6), GATEWAY6, "egress.neighbour-claim"),
    "advertisement-of-its-link": (advertisement(OWN_LINK, GATEWAY6), GATEWAY6, "egress.neighbour-claim"),
    "advertisement-as-the-gateway": (advertisement(GATEWAY6, GATEWAY6), GATEWAY6, "egress.neighbour-claim"),
    "solicitation": (solicitation(GATEWAY6), GATEWAY6, "egress.spoofed"),
    "arp-question": (arp(GATEWAY4), GATEWAY4, "fence.arp-claim"),
    "arp-answer": (arp(GATEWAY4, operation=2), GATEWAY4, "fence.arp-claim"),
    "arp-announcement": (arp(GATEWAY4, GATEWAY4), GATEWAY4, "fence.arp-claim"),
}
OWN_CLAIMS = {OWN6: solicitation(OWN6), OWN_LINK: solicitation(OWN_LINK), OWN: arp(OWN)}


def counted(wire: Wire, counter: str) -> int:
    family = "netdev" if counter.startswith("fence.") else "inet"
    text = nft(wire.attacker, f"list counter {family} sgdataplane {counter}")
    return int(text.partition("packets ")[2].split()[0])


@pytest.mark.parametrize("name", ATTACKS)
def test_nobody_takes_the_gateway_over(wire: Wire, name: str) -> None:
    attack, address, counter = ATTACKS[name]
    nft(wire.attacker, "flush ruleset")
    wire.know_the_gateway()
    wire.send(attack)
    wait_until(lambda: wire.believes(address) == ATTACKER)  # the harm, where nothing is enforced
    desired = policy()
    enforce(wire.attacker, desired, None, PLAIN)
    wire.know_the_gateway()
    before = counted(wire, counter)
    wire.send(attack)
    assert counted(wire, counter) > before
    for own, claim in OWN_CLAIMS.items():
        wire.send(claim)
        wait_until(lambda: wire.believes(own) == ATTACKER)  # noqa: B023  (called here only)
    assert wire.believes(address) == GATEWAY


def test_nobody_is_kept_from_an_address_by_another_s_probe(wire: Wire) -> None:
    """Whoever is about to take an address gives it up if another one probes for it (RFC 4862, 5.4.3; RFC 5227)."""
    enforce(wire.attacker, policy(), None, PLAIN)
    probe = IPv6(src="::", dst=ALL_NODES, hlim=255)
    with netns.inside(wire.victim), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as tap:
        tap.bind(("eth0", 3))
        tap.settimeout(DEADLINE)
        for packet in (
            probe / ICMPv6ND_NS(tgt=VICTIM_LINK),
            arp("0.0.0.0", VICTIM4),
            probe / ICMPv6ND_NS(tgt=OWN6),
            arp("0.0.0.0", OWN),
        ):
            wire.send(packet)
        seen = [_probed(tap) for _ in range(2)]
    assert seen == [OWN6, OWN]


def _probed(tap: socket.socket) -> str:
    """The address that the next probe to come is for."""
    while True:
        frame = Ether(tap.recv(65535))
        if ICMPv6ND_NS in frame and frame[IPv6].src == "::":
            return str(frame[ICMPv6ND_NS].tgt)
        if ARP in frame and frame[ARP].psrc == "0.0.0.0":
            return str(frame[ARP].pdst)

"""What a router's own kernel and programs send leaves by host ends and uplinks, although its fence drops the rest."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from sgdataplane.host import netns
from tests.fence.bench import EVERYONE, token
from tests.fence.hostbench import GATEWAY, OUTSIDE, OWN, OWN6, PORT, HostBench, Party
from tests.support.probes.flood import DEADLINE
from tests.support.scenes.labs import run_in

pytestmark = pytest.mark.traffic


def awaited(party: Party, is_it: Callable[[Packet], bool]) -> Packet:
    """The first such frame that comes to this wire."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        party.wire.settimeout(DEADLINE)
        frame = Ether(party.wire.recv(65535))
        if is_it(frame):
            return frame
    raise AssertionError("it did not come")


@contextmanager
def nothing_dropped(bench: HostBench) -> Iterator[None]:
    before = bench.drops()
    yield
    assert bench.drops() == before


def send_from_router(bench: HostBench, address: str, known: bytes) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with netns.inside(bench.router), socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.sendto(known, (address, PORT))


@pytest.mark.parametrize("address", [OUTSIDE.v4, OUTSIDE.v6])
def test_programs_in_the_router_send(hosted: HostBench, address: str) -> None:
    known = token()
    with nothing_dropped(hosted):
        send_from_router(hosted, address, known)
        awaited(hosted.parties[OUTSIDE.name], lambda frame: known in bytes(frame))


@pytest.mark.parametrize("family", [4, 6])
def test_icmp_errors_of_the_router_reach_the_instance(hosted: HostBench, family: int) -> None:
    known = token()
    short = IP(src=OWN, dst=OUTSIDE.v4, ttl=1) if family == 4 else IPv6(src=OWN6, dst=OUTSIDE.v6, hlim=1)
    hosted.instance.wire.send(bytes(hosted.instance.ether() / short / UDP(sport=PORT, dport=PORT) / Raw(known)))
    kind = ICMP if family == 4 else ICMPv6TimeExceeded
    awaited(hosted.instance, lambda frame: kind in frame and known in bytes(frame))


@pytest.mark.parametrize("who", ["instance", OUTSIDE.name])
def test_the_router_answers_arp(hosted: HostBench, who: str) -> None:
    party = {**hosted.parties, "instance": hosted.instance}[who]
    question = ARP(op=1, hwsrc=party.mac, psrc=party.v4, pdst=GATEWAY)
    with nothing_dropped(hosted):
        party.wire.send(bytes(Ether(src=party.mac, dst=EVERYONE) / question))
        answer = awaited(party, lambda frame: ARP in frame and frame[ARP].op == 2)
    assert (answer[ARP].psrc, answer[ARP].hwsrc) == (GATEWAY, party.gateway_mac)


def test_the_router_answers_neighbour_discovery(hosted: HostBench) -> None:
    party = hosted.instance
    question = (
        IPv6(src=OWN6, dst="fe80::1", hlim=255) / ICMPv6ND_NS(tgt="fe80::1") / ICMPv6NDOptSrcLLAddr(lladdr=party.mac)
    )
    with nothing_dropped(hosted):
        party.wire.send(bytes(party.ether() / question))
        awaited(party, lambda frame: ICMPv6ND_NA in frame and frame[ICMPv6ND_NA].tgt == "fe80::1")


def test_the_router_asks_for_macs(hosted: HostBench) -> None:
    """By ARP and by neighbour discovery, once it has forgotten those of its uplink."""
    outside = hosted.parties[OUTSIDE.name]
    links = json.loads(run_in(hosted.router, "ip", "-j", "link"))
    uplink = next(link["ifname"] for link in links if link.get("address") == outside.gateway_mac)
    run_in(hosted.router, "ip", "neigh", "flush", "nud", "all", "dev", uplink)
    for address, kind in ((OUTSIDE.v4, ARP), (OUTSIDE.v6, ICMPv6ND_NS)):
        known = token()
        with nothing_dropped(hosted):
            send_from_router(hosted, address, known)
            awaited(outside, lambda frame: kind in frame)  # noqa: B023  (called here only)
            awaited(outside, lambda frame: known in bytes(frame))  # noqa: B023

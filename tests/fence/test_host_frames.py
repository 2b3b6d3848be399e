"""Frames from packet sockets where policy is enforced in the router: the fence at the host end stops what is no IP or
claims too much, and other frames meet the policy like any packet of a socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from tests.fence.bench import EVERYONE, HOST, MAC, OTHER, OWN, Bench, Build, arp, bench, token
from tests.fence.test_frames import PASSES, STOPPED, dhcp, frame
from tests.support.probes.flood import wait_until
from tests.support.scenes.labs import run_in

pytestmark = pytest.mark.traffic

SPOOFED = ("another's-address", "another's-address6", "dhcp-from-another", "router-advertisement")
AT_FENCE = {name: cause for name, (_, cause) in STOPPED.items() if cause != "unapproved"}
AT_FENCE |= dict.fromkeys(SPOOFED, "spoofed")
JUDGED = {
    "udp-that-the-policy-allows": "rule.",
    "udp6-that-the-policy-allows": "rule.",
    "tcp": "default.egress.drop",
    "ping": "default.egress.drop",
    "neighbour-claim": "egress.neighbour-claim",
    "dhcp-to-elsewhere": "egress.spoofed",
}


@pytest.fixture(scope="module")
def routed(make_lab_name: Callable[[], str]) -> Iterator[Bench]:
    with bench(make_lab_name(), placement="host") as made:
        yield made


def growth(bench: Bench, family: str, before: dict[str, int]) -> dict[str, int]:
    """Since then, but for what neighbours ask each other."""
    after = bench.counted(family)
    changed = (name for name in after if after[name] != before[name] and not name.endswith(".always"))
    return {name: after[name] - before[name] for name in changed}


@pytest.mark.parametrize("name", AT_FENCE)
def test_frame_is_stopped_before_the_policy(routed: Bench, name: str) -> None:
    build, cause = STOPPED[name][0], AT_FENCE[name]
    fence, policy = routed.counted(), routed.counted("inet")
    assert routed.leaves(build), "the host end's tap sees what its fence then stops"
    wait_until(lambda: growth(routed, "netdev", fence) == {f"fence.{cause}": 1}, must=False)
    assert growth(routed, "netdev", fence) == {f"fence.{cause}": 1}
    assert growth(routed, "inet", policy) == {}


@pytest.mark.parametrize("name", JUDGED)
def test_ip_in_a_frame_is_judged_as_any(routed: Bench, name: str) -> None:
    fence, policy = routed.counted(), routed.counted("inet")
    routed.send(bytes(STOPPED[name][0](token())))
    wait_until(lambda: growth(routed, "inet", policy) != {}, must=False)
    (counter,) = growth(routed, "inet", policy)
    assert counter.startswith(JUDGED[name])
    assert growth(routed, "netdev", fence) == {}


@pytest.mark.parametrize("name", PASSES)
def test_what_an_own_address_needs_passes_the_fence(routed: Bench, name: str) -> None:
    before = routed.counted()
    assert routed.leaves(PASSES[name])
    assert growth(routed, "netdev", before) == {}


@pytest.mark.parametrize("build", [dhcp(OWN, "255.255.255.255", sport=67, dport=68), dhcp(OWN, HOST, 67, 68)])
def test_an_instance_is_no_dhcp_server(routed: Bench, build: Build) -> None:
    before = routed.counted("inet")
    assert routed.leaves(build)
    wait_until(lambda: growth(routed, "inet", before) == {"egress.dhcp-server": 1}, must=False)
    assert growth(routed, "inet", before) == {"egress.dhcp-server": 1}


def test_a_claim_by_arp_does_not_change_whom_the_router_sends_to(routed: Bench) -> None:
    """The neighbour's address stays the neighbour's; the instance's own question is answered, so ARP works."""
    routed.leaves(arp(OTHER, op=2, pdst="169.254.1.1"))
    neighbours = run_in(routed.router, "ip", "neigh", "show", "dev", "eni-a")
    assert OTHER not in neighbours.split()
    assert routed.leaves(arp())


def test_a_frame_to_a_neighbour_s_mac_goes_nowhere_else(routed: Bench) -> None:
    """Frames of one link end at the router, whatever MAC they are for: only routed packets come to others."""
    before = routed.counted("inet")
    routed.leaves(lambda known: Ether(src=MAC, dst="00:16:3e:00:00:0b") / IP(src=OWN, dst=HOST) / UDP(dport=53) / known)
    assert not any(name.startswith("rule.") for name in growth(routed, "inet", before))
    routed.send(bytes(frame(IP(src=OWN, dst=HOST) / UDP(dport=53), dst=EVERYONE)(token())))
    wait_until(lambda: any(name.startswith("rule.") for name in growth(routed, "inet", before)))

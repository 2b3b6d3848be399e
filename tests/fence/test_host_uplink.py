"""A host outside that claims to be an ENI of this host: the uplink's fence drops what it sends."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q
from scapy.packet import Packet, Raw

from tests.fence.hostbench import GATEWAY, NEIGHBOUR, OUTSIDE, OWN, OWN6, PORT, Fate, HostBench

pytestmark = pytest.mark.traffic

LOCAL = {"address": OWN, "prefix": "10.0.16.5", "address6": OWN6, "prefix6": "2001:db8:a:1::5"}
ITS_OWN = {"address": OUTSIDE.v4, "address6": OUTSIDE.v6}
NEVER_ROUTED = {"gateway": GATEWAY, "gateway6": "fe80::1"}


def from_outside(bench: HostBench, source: str, *tags: Packet, sport: int = PORT, dport: int = PORT) -> Fate:
    """A datagram to the neighbour, to which all may send."""
    outside = bench.parties[OUTSIDE.name]
    header = IPv6(src=source, dst=NEIGHBOUR.v6) if ":" in source else IP(src=source, dst=NEIGHBOUR.v4)
    head = outside.ether()
    for layer in (*tags, header, UDP(sport=sport, dport=dport)):
        head /= layer
    return bench.fate(lambda known: head / Raw(known), outside.wire.send)


@pytest.mark.parametrize("source", ITS_OWN.values(), ids=ITS_OWN)
def test_its_own_source_passes(hosted: HostBench, source: str) -> None:
    fate = from_outside(hosted, source)
    assert (NEIGHBOUR.name in fate.seen_by, fate.drops) == (True, {})


@pytest.mark.parametrize("tags", [[], [Dot1Q(vlan=0)]], ids=["", "802.1q"])
@pytest.mark.parametrize("source", LOCAL.values(), ids=LOCAL)
def test_source_of_an_eni_of_this_host_is_stopped(
    hosted: HostBench, open_host: HostBench, source: str, tags: list[Packet]
) -> None:
    assert NEIGHBOUR.name in from_outside(open_host, source, *tags).seen_by
    fate = from_outside(hosted, source, *tags)
    assert (fate.seen_by, fate.drops) == (frozenset(), {"fence.spoofed": 1})


@pytest.mark.parametrize("source", LOCAL.values(), ids=LOCAL)
def test_source_of_an_eni_is_stopped_without_a_fence(unfenced_host: HostBench, source: str) -> None:
    """By the policy."""
    fate = from_outside(unfenced_host, source)
    assert (fate.seen_by, fate.drops) == (frozenset(), {"egress.spoofed": 1})


def test_source_that_is_not_of_this_host_is_believed(hosted: HostBench) -> None:
    """A limit: ENIs of other hosts come the same way."""
    fate = from_outside(hosted, "10.0.0.9")
    assert (NEIGHBOUR.name in fate.seen_by, fate.drops) == (True, {})


@pytest.mark.parametrize("source", NEVER_ROUTED.values(), ids=NEVER_ROUTED)
def test_nobody_outside_is_the_gateway(hosted: HostBench, open_host: HostBench, source: str) -> None:
    """So no DHCP server either, whose answers would pass whatever the rules say. The router's kernel sees to that."""
    own, ports = (OUTSIDE.v6, (547, 546)) if ":" in source else (OUTSIDE.v4, (67, 68))
    for bench in (hosted, open_host):
        assert from_outside(bench, source, sport=ports[0], dport=ports[1]).seen_by == frozenset()
        assert NEIGHBOUR.name in from_outside(bench, own, sport=ports[0], dport=ports[1]).seen_by

"""Whose packet it is, at the host end: an instance sends from its own addresses and from no other."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from tests.fence.hostbench import ENDS, GATEWAY, NEIGHBOUR, OUTSIDE, OWN, OWN6, PORT, End, HostBench, Party

pytestmark = pytest.mark.traffic

FENCE, POLICY = "fence.spoofed", "egress.spoofed"  # the policy judges what may also speak for a link (DHCP, discovery)
OWN_SOURCES = {
    "address": OWN,
    "delegated-prefix": "10.0.16.15",
    "shared-pair": "10.0.32.9",
    "address6": OWN6,
    "delegated-prefix6": "2001:db8:a:1::ffff",
}


@dataclass(frozen=True)
class Other:
    """Another source: who drops it, and whether a router without policy and fence would carry it on."""

    address: str
    counter: str = FENCE
    is_routed: bool = True


OTHERS = {
    "neighbour": Other(NEIGHBOUR.v4),
    "host-outside": Other(OUTSIDE.v4),
    "nobody-in-the-vpc": Other("10.0.0.9"),
    "nobody-elsewhere": Other("192.0.2.1"),
    "beside-the-delegated-prefix": Other("10.0.16.16"),
    "beside-the-pair": Other("10.0.32.8"),
    "link-local": Other("169.254.7.7"),
    "gateway": Other(GATEWAY, is_routed=False),
    "loopback": Other("127.0.0.1", is_routed=False),
    "multicast": Other("224.0.0.5", is_routed=False),
    "broadcast": Other("255.255.255.255", is_routed=False),
    "zero": Other("0.0.0.0", POLICY, is_routed=False),
    "neighbour6": Other(NEIGHBOUR.v6),
    "host-outside6": Other(OUTSIDE.v6),
    "nobody-in-the-vpc6": Other("2001:db8:a::9"),
    "beside-the-delegated-prefix6": Other("2001:db8:a:1:1::"),
    "mapped-own": Other(f"::ffff:{OWN}"),
    "loopback6": Other("::1", is_routed=False),
    "multicast6": Other("ff02::1", is_routed=False),
    "gateway6": Other("fe80::1", FENCE, is_routed=False),
    "own-link-local": Other("fe80::216:3eff:fe00:a", POLICY, is_routed=False),
    "neighbour's-link-local": Other("fe80::216:3eff:fe00:b", FENCE, is_routed=False),
    "unspecified6": Other("::", POLICY, is_routed=False),
}
ROWS = [
    pytest.param(other, end, id=f"{name}-to-{end.name}")
    for name, other in OTHERS.items()
    for end in ENDS
    if other.address not in {end.v4, end.v6}
]


def packet(party: Party, source: str, end: End, known: bytes) -> Packet:
    """A datagram that the rules accept from anybody."""
    header = IPv6(src=source, dst=end.v6) if ":" in source else IP(src=source, dst=end.v4)
    return party.ether() / header / UDP(sport=PORT, dport=PORT) / Raw(known)


@pytest.mark.parametrize("end", ENDS, ids=[end.name for end in ENDS])
@pytest.mark.parametrize("source", OWN_SOURCES.values(), ids=OWN_SOURCES)
def test_own_source_passes(hosted: HostBench, source: str, end: End) -> None:
    fate = hosted.fate(lambda known: packet(hosted.instance, source, end, known))
    assert (end.name in fate.seen_by, fate.drops) == (True, {})


@pytest.mark.parametrize(("other", "end"), ROWS)
def test_other_source_is_stopped_and_counted(hosted: HostBench, other: Other, end: End) -> None:
    fate = hosted.fate(lambda known: packet(hosted.instance, other.address, end, known))
    assert (fate.seen_by, fate.drops) == (frozenset(), {other.counter: 1})


@pytest.mark.parametrize(("other", "end"), ROWS)
def test_without_policy_it_arrives(open_host: HostBench, other: Other, end: End) -> None:
    """The control. What is not routed has no other: there the counter above is the evidence."""
    fate = open_host.fate(lambda known: packet(open_host.instance, other.address, end, known))
    assert (end.name in fate.seen_by) == other.is_routed


@pytest.mark.parametrize("end", ENDS, ids=[end.name for end in ENDS])
def test_allowed_pair_is_shared_but_not_with_another_s_mac(hosted: HostBench, end: End) -> None:
    """As two nodes of VRRP do: each may send from the pair, by its own MAC, and not by the virtual router's."""
    source = OWN_SOURCES["shared-pair"]
    for party in (hosted.instance, hosted.parties[NEIGHBOUR.name]):
        if party is hosted.parties.get(end.name):
            continue
        fate = hosted.fate(lambda known: packet(party, source, end, known), party.wire.send)  # noqa: B023  (called here only)
        assert (end.name in fate.seen_by, fate.drops) == (True, {})
    fate = hosted.fate(
        lambda known: hosted.instance.ether("00:00:5e:00:01:01") / packet(hosted.instance, source, end, known).payload
    )
    assert (fate.seen_by, fate.drops) == (frozenset(), {"fence.other-mac": 1})

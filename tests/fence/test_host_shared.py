"""What the ENIs of a router share, its reassembly and its conntrack: a frame that claims to be a neighbour's changes
neither, though both come before the policy."""

from __future__ import annotations

import socket

import pytest
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Packet, Raw

from sgdataplane.host import conntrack, netns
from tests.fence.bench import token
from tests.fence.hostbench import NEIGHBOUR, OUTSIDE, PORT, HostBench, Party

pytestmark = pytest.mark.traffic

CUT = 48  # octets of the first fragment, a multiple of 8
LOCAL_PORT = 7777


def halves(known: bytes, family: int, number: int) -> tuple[Packet, Packet]:
    """Two fragments of a datagram of the neighbour's to the host outside; the second one carries the token."""
    content = UDP(sport=PORT, dport=PORT) / Raw(bytes(CUT - 8) + known)
    if family == socket.AF_INET:
        first, last = fragment(IP(src=NEIGHBOUR.v4, dst=OUTSIDE.v4, id=number) / content, CUT)
        return first, last
    head = IPv6(src=NEIGHBOUR.v6, dst=OUTSIDE.v6)
    datagram = bytes(head / content)[40:]
    first = head / IPv6ExtHdrFragment(nh=17, offset=0, m=1, id=number) / Raw(datagram[:CUT])
    return first, head / IPv6ExtHdrFragment(nh=17, offset=CUT // 8, m=0, id=number) / Raw(datagram[CUT:])


def is_completed(bench: HostBench, family: int, by: Party | None = None) -> bool:
    """Whether the host outside gets a neighbour's datagram whose end the instance has sent (or `by`)."""
    known, neighbour, other = token(), bench.parties[NEIGHBOUR.name], by or bench.instance
    first, last = halves(known, family, int(known[-9:-1]))
    frames = [
        (other.wire.send, other.ether() / last),
        (neighbour.wire.send, neighbour.ether() / first),
    ]
    return OUTSIDE.name in bench.fate_of_all(known, frames).seen_by


by_family = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])


@by_family
def test_nobody_completes_a_neighbour_s_datagram(hosted: HostBench, unfenced_host: HostBench, family: int) -> None:
    """Where only the policy would look, it has come too late: the fragment is part of the neighbour's packet."""
    assert is_completed(unfenced_host, family)
    assert not is_completed(hosted, family)


@by_family
def test_no_host_outside_completes_an_eni_s_datagram(hosted: HostBench, unfenced_host: HostBench, family: int) -> None:
    """The uplink has a fence, too: its check by the policy comes after reassembly."""
    assert is_completed(unfenced_host, family, unfenced_host.parties[OUTSIDE.name])
    assert not is_completed(hosted, family, hosted.parties[OUTSIDE.name])


def is_answered(bench: HostBench) -> str:
    """What conntrack says of a neighbour's session, to which the instance has made an answer up."""
    neighbour = bench.parties[NEIGHBOUR.name]
    with netns.inside(neighbour.netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((NEIGHBOUR.v4, LOCAL_PORT))
        client.sendto(b"", (OUTSIDE.v4, PORT))
        answer = IP(src=OUTSIDE.v4, dst=NEIGHBOUR.v4) / UDP(sport=PORT, dport=LOCAL_PORT)
        fate = bench.fate(lambda known: bench.instance.ether() / answer / Raw(known))
    assert fate.seen_by == frozenset()
    with netns.inside(bench.router):
        (entry,) = (entry for entry in conntrack.list_tracked() if entry.original.source_port == LOCAL_PORT)
    return entry.state


def test_nobody_answers_a_neighbour_s_session(hosted: HostBench, unfenced_host: HostBench) -> None:
    """Such frames would keep it open to the host outside, for as long as they are sent."""
    assert is_answered(unfenced_host) == "REPLIED"
    assert is_answered(hosted) == "UNREPLIED"

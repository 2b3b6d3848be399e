"""An instance that begins datagrams and never ends them: the ENIs of a router share the memory in which it waits for
the rest, before any policy. A neighbour's datagrams are put together as ever."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Packet, Raw

from sgdataplane.host import netns, sysctl
from tests.fence.bench import token, unfenced
from tests.fence.hostbench import NEIGHBOUR, OUTSIDE, OWN, OWN6, PORT, HostBench, Party, host_bench

pytestmark = pytest.mark.traffic

KERNELS_OWN = {  # how it is without us
    "ipv4/ipfrag_time": "30",
    "ipv4/ipfrag_high_thresh": "4194304",
    "netfilter/nf_conntrack_frag6_timeout": "60",
    "netfilter/nf_conntrack_frag6_high_thresh": "4194304",
}
FLOOD = 2500
CUT = 1400  # octets of a first fragment, a multiple of 8
ATTEMPTS = 3
by_family = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def hosted(make_lab_name: Callable[[], str]) -> Iterator[HostBench]:
    with host_bench(make_lab_name()) as made:
        yield made


@pytest.fixture(scope="module")
def unlimited(make_lab_name: Callable[[], str]) -> Iterator[HostBench]:
    """The policy alone, and reassembly as the kernel has it: the control."""
    with host_bench(make_lab_name(), unfenced) as made:
        with netns.inside(made.router):
            sysctl.write_all(KERNELS_OWN)
        yield made


def fragments(family: int, source: str, known: bytes, number: int) -> tuple[Packet, Packet]:
    """Both halves of a datagram to the host outside; the second one carries the token."""
    content = bytes(CUT - 8) + known
    if family == socket.AF_INET:
        whole = bytes(IP(src=source, dst=OUTSIDE.v4) / UDP(sport=PORT, dport=PORT) / Raw(content))[20:]
        head = {"src": source, "dst": OUTSIDE.v4, "id": number, "proto": 17}
        return IP(**head, flags="MF") / Raw(whole[:CUT]), IP(**head, frag=CUT // 8) / Raw(whole[CUT:])
    head6 = IPv6(src=source, dst=OUTSIDE.v6)
    whole = bytes(head6 / UDP(sport=PORT, dport=PORT) / Raw(content))[40:]
    first = head6 / IPv6ExtHdrFragment(nh=17, offset=0, m=1, id=number) / Raw(whole[:CUT])
    return first, head6 / IPv6ExtHdrFragment(nh=17, offset=CUT // 8, m=0, id=number) / Raw(whole[CUT:])


def flood(bench: HostBench, family: int, count: int) -> None:
    """First fragments from the instance's own address, as fast as they go."""
    source = OWN if family == socket.AF_INET else OWN6
    first, _ = fragments(family, source, token(), 1)
    frame = bytearray(bytes(bench.instance.ether() / first))
    place, size = (18, 2) if family == socket.AF_INET else (58, 4)
    for number in range(count):
        frame[place : place + size] = number.to_bytes(size)
        if family == socket.AF_INET:
            _correct(frame)
        bench.instance.wire.send(frame)


def _correct(frame: bytearray) -> None:
    """The checksum of an IPv4 header in a frame."""
    frame[24:26] = bytes(2)
    total = sum(int.from_bytes(frame[at : at + 2]) for at in range(14, 34, 2))
    total = (total & 0xFFFF) + (total >> 16)
    frame[24:26] = (~(total + (total >> 16)) & 0xFFFF).to_bytes(2)


def completed(bench: HostBench, family: int) -> int:
    """How many of the neighbour's datagrams the host outside gets."""
    neighbour = bench.parties[NEIGHBOUR.name]
    return sum(_is_completed(bench, family, neighbour, number) for number in range(1, ATTEMPTS + 1))


def _is_completed(bench: HostBench, family: int, neighbour: Party, number: int) -> bool:
    known = token()
    source = NEIGHBOUR.v4 if family == socket.AF_INET else NEIGHBOUR.v6
    frames = [(neighbour.wire.send, neighbour.ether() / part) for part in fragments(family, source, known, number)]
    return OUTSIDE.name in bench.fate_of_all(known, frames).seen_by


@by_family
def test_flood_of_fragments_leaves_the_neighbours_theirs(hosted: HostBench, unlimited: HostBench, family: int) -> None:
    assert completed(unlimited, family) == completed(hosted, family) == ATTEMPTS
    flood(unlimited, family, FLOOD)
    assert completed(unlimited, family) == 0  # the harm
    before = hosted.drops().get("fence.fragments", 0)
    flood(hosted, family, 8 * FLOOD)
    assert completed(hosted, family) == ATTEMPTS
    assert hosted.drops()["fence.fragments"] > before


@by_family
def test_ordinary_datagrams_pass_in_fragments(hosted: HostBench, family: int) -> None:
    """100 of 8,000 octets, one after the other: as an NFS client reads 0.8 MB."""
    ends = (NEIGHBOUR.v4, OUTSIDE.v4) if family == socket.AF_INET else (NEIGHBOUR.v6, OUTSIDE.v6)
    with netns.inside(hosted.parties[OUTSIDE.name].netns):
        receiver = socket.socket(family, socket.SOCK_DGRAM)
    with netns.inside(hosted.parties[NEIGHBOUR.name].netns):
        sender = socket.socket(family, socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.bind((ends[1], PORT))
        receiver.settimeout(5)
        sender.bind((ends[0], 0))
        before = hosted.drops().get("fence.fragments", 0)
        for number in range(100):
            content = number.to_bytes(8000)
            sender.sendto(content, (ends[1], PORT))
            while receiver.recv(9000) != content:
                """A datagram of another test's."""
        assert hosted.drops().get("fence.fragments", 0) == before

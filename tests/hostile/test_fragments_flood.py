"""Who begins datagrams and never ends them, an instance or a host outside: all that a router carries shares the memory
in which it waits for the rest, before any policy. A neighbour's datagrams are put together as ever."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Packet, Raw

from sgdataplane.compiler.fragments import ENIS_OF_UPLINK, FRAGMENTS, FRAGMENTS_ELSEWHERE
from sgdataplane.host import netns, sysctl
from tests.fence.bench import token, unfenced
from tests.fence.hostbench import NEIGHBOUR, OUTSIDE, OWN, OWN6, PORT, End, HostBench, Party, host_bench
from tests.support.probes.flood import DEADLINE

pytestmark = pytest.mark.traffic

KERNELS_OWN = {  # how it is without us
    "ipv4/ipfrag_time": "30",
    "ipv4/ipfrag_high_thresh": "4194304",
    "netfilter/nf_conntrack_frag6_timeout": "60",
    "netfilter/nf_conntrack_frag6_high_thresh": "4194304",
}
INSTANCE = End("instance", OWN, OWN6)
FLOOD = 2500
CUT = 1400  # octets of a first fragment, a multiple of 8
ATTEMPTS = 3
by_family = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def hosted(make_lab_name: Callable[[], str]) -> Iterator[HostBench]:
    with host_bench(make_lab_name()) as made:
        yield made


@pytest.fixture
def unlimited(make_lab_name: Callable[[], str]) -> Iterator[HostBench]:
    """The policy alone, and reassembly as the kernel has it: the control. A flood fills it for a minute."""
    with host_bench(make_lab_name(), unfenced) as made:
        with netns.inside(made.router):
            sysctl.write_all(KERNELS_OWN)
        yield made


def fragments(family: int, ends: tuple[str, str], known: bytes, number: int) -> tuple[Packet, Packet]:
    """Both halves of a datagram between these; the second one carries the token."""
    content, (source, to) = bytes(CUT - 8) + known, ends
    if family == socket.AF_INET:
        whole = bytes(IP(src=source, dst=to) / UDP(sport=PORT, dport=PORT) / Raw(content))[20:]
        head = {"src": source, "dst": to, "id": number, "proto": 17}
        return IP(**head, flags="MF") / Raw(whole[:CUT]), IP(**head, frag=CUT // 8) / Raw(whole[CUT:])
    head6 = IPv6(src=source, dst=to)
    whole = bytes(head6 / UDP(sport=PORT, dport=PORT) / Raw(content))[40:]
    first = head6 / IPv6ExtHdrFragment(nh=17, offset=0, m=1, id=number) / Raw(whole[:CUT])
    return first, head6 / IPv6ExtHdrFragment(nh=17, offset=CUT // 8, m=0, id=number) / Raw(whole[CUT:])


def ends_of(family: int, one: End, other: End) -> tuple[str, str]:
    return (one.v4, other.v4) if family == socket.AF_INET else (one.v6, other.v6)


def flood(family: int, sender: Party, ends: tuple[str, str], count: int) -> None:
    """First fragments from its own address, as fast as they go."""
    first, _ = fragments(family, ends, token(), 1)
    frame = bytearray(bytes(sender.ether() / first))
    place, size = (18, 2) if family == socket.AF_INET else (58, 4)
    for number in range(count):
        frame[place : place + size] = (number & 0xFFFF).to_bytes(size)
        if family == socket.AF_INET:
            _correct(frame)
        sender.wire.send(frame)


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
    known, ends = token(), ends_of(family, NEIGHBOUR, OUTSIDE)
    frames = [(neighbour.wire.send, neighbour.ether() / part) for part in fragments(family, ends, known, number)]
    return OUTSIDE.name in bench.fate_of_all(known, frames).seen_by


@pytest.mark.parametrize("who", ["instance", "outside"])
@by_family
def test_flood_of_fragments_leaves_the_neighbours_theirs(
    hosted: HostBench, unlimited: HostBench, family: int, who: str
) -> None:
    """As many as an ENI may begin, or an uplink, and more."""
    count = FLOOD if who == "instance" else ENIS_OF_UPLINK * FLOOD
    ends = ends_of(family, INSTANCE if who == "instance" else OUTSIDE, OUTSIDE if who == "instance" else NEIGHBOUR)
    senders = [bench.instance if who == "instance" else bench.parties[who] for bench in (unlimited, hosted)]
    assert completed(unlimited, family) == completed(hosted, family) == ATTEMPTS
    flood(family, senders[0], ends, FLOOD)
    assert completed(unlimited, family) == 0  # the harm
    before, began = hosted.drops().get("fence.fragments", 0), time.monotonic()
    flood(family, senders[1], ends, 8 * count)
    seconds = time.monotonic() - began
    list(hosted.frames_until_barrier(OUTSIDE))  # a busy machine has much of the flood in its queues now
    assert completed(hosted, family) == ATTEMPTS
    limit = FRAGMENTS if who == "instance" else FRAGMENTS_ELSEWHERE[0]
    was_slow = 8 * count < limit.per_second * seconds + limit.burst  # on a busy machine no more than is allowed
    assert was_slow or hosted.drops()["fence.fragments"] > before


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
        receiver.settimeout(DEADLINE)
        sender.bind((ends[0], 0))
        before = hosted.drops().get("fence.fragments", 0)
        for number in range(100):
            content = number.to_bytes(8000)
            sender.sendto(content, (ends[1], PORT))
            while receiver.recv(9000) != content:
                """A datagram of another test's."""
        assert hosted.drops().get("fence.fragments", 0) == before

"""The machine has one table of neighbours a family, for all namespaces: what an instance adds to it by asking, and that
its router and its neighbours do without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from sgdataplane.compiler.fence import QUESTIONS_ELSEWHERE
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.host.neighbours import Neighbour, introduce
from sgdataplane.host.rtnetlink import Rtnetlink
from sgdataplane.net.values import Address
from tests.fence.bench import EVERYONE
from tests.fence.hostbench import GATEWAY, MAC, NEIGHBOUR, OUTSIDE, OWN6, PORT, End, HostBench, host_bench
from tests.support.scenes import labs
from tests.support.scenes.labs import run_in

pytestmark = pytest.mark.traffic

QUESTIONS = 200  # of a flood: as many entries as may stay for a minute where others test, too
AT_ONCE = 100  # whose answers a socket has room for
UNCOUNTED = 0xC0  # NUD_PERMANENT; and NUD_NOARP, multicast, which the kernel gives up first


@pytest.fixture(scope="module")
def hosted(make_lab_name: Callable[[], str]) -> Iterator[HostBench]:
    with host_bench(make_lab_name()) as made:
        yield made


@pytest.fixture(scope="module")
def open_host(make_lab_name: Callable[[], str]) -> Iterator[HostBench]:
    """Without policy and fence: the control."""
    with host_bench(make_lab_name(), labs.no_policy) as made:
        yield made


def found_out(namespace: str) -> int:
    """The entries there that have a part in the machine's limit."""
    with netns.inside(namespace), Rtnetlink() as door:
        return sum(not fields[2] & UNCOUNTED for fields, _ in door.neighbours())


def test_nobody_in_a_lab_has_to_find_out_a_mac(hosted: HostBench) -> None:
    """What goes from an instance to a neighbour and outside takes no entry that the machine's limit is for."""
    for end in (NEIGHBOUR, OUTSIDE):
        for address in (end.v4, end.v6):
            version = ("-6",) if ":" in address else ()
            run_in(hosted.instance.netns, "ip", *version, "route", "get", address)
        list(hosted.frames_until_barrier(end))
    places = [hosted.router, hosted.instance.netns, *(party.netns for party in hosted.parties.values())]
    assert [found_out(place) for place in places] == [0] * len(places)


def test_what_is_told_stays_and_goes_with_its_address(namespace: str) -> None:
    """Also while the link has no carrier, as long as its own end is up. The control is what the kernel finds out."""
    address = Address.parse("10.9.0.1")
    entries = {Neighbour("eth0", address, "02:00:00:00:00:01"), Neighbour("eth0", Address.parse("fe80::9"), MAC)}
    with Links(namespace) as links:
        links.set_up("eth0")
    assert introduce(namespace, entries) == 2
    assert introduce(namespace, entries) == 0
    other = {Neighbour("eth0", address, "02:00:00:00:00:02")}
    assert introduce(namespace, other) == 2
    run_in(namespace, "ip", "neigh", "add", "10.9.0.2", "lladdr", MAC, "dev", "eth0", "nud", "permanent")
    assert introduce(namespace, ()) == 1
    assert run_in(namespace, "ip", "neigh", "show").split()[0] == "10.9.0.2", "another's is left alone"


def solicitation(source: str) -> Packet:
    question = ICMPv6ND_NS(tgt="fe80::1") / ICMPv6NDOptSrcLLAddr(lladdr=MAC)
    return Ether(src=MAC, dst="33:33:ff:00:00:01") / IPv6(src=source, dst="ff02::1:ff00:1", hlim=255) / question


# The instance has 10.0.16.0/28 and 2001:db8:a:1::/80, and its link is fe80::216:3eff:fe00:a.
FLOODS: dict[str, Callable[[int], Packet]] = {
    "links": lambda number: solicitation(f"fe80::{number + 0x1000:x}"),
    "its-own-link": lambda _: solicitation("fe80::216:3eff:fe00:a"),
    "delegated-prefix": lambda number: solicitation(f"2001:db8:a:1::{number + 0x1000:x}"),
    "arp-of-a-delegated-prefix": lambda number: (
        Ether(src=MAC, dst=EVERYONE) / ARP(hwsrc=MAC, psrc=f"10.0.16.{number % 16}", pdst=GATEWAY)
    ),
}


def added_by(bench: HostBench, name: str) -> int:
    """The entries that come into the router of so many questions."""
    run_in(bench.router, "ip", "neigh", "flush", "all")
    frames = [(bench.instance.wire.send, FLOODS[name](number)) for number in range(QUESTIONS)]
    bench.fate_of_all(b"no token", frames)
    return found_out(bench.router)


@pytest.mark.parametrize(("name", "without", "most"), [("links", QUESTIONS, 0), ("delegated-prefix", QUESTIONS, 50)])
def test_an_instance_adds_few_neighbours_however_many_it_is(
    hosted: HostBench, open_host: HostBench, name: str, without: int, most: int
) -> None:
    assert added_by(open_host, name) >= without
    before = hosted.drops()
    added = added_by(hosted, name)
    assert (added > 0) == (most > 0), "some of its own may ask"
    assert added <= most
    after, cause = hosted.drops(), "fence.discovery-limit" if most else "fence.spoofed"
    assert after[cause] - before[cause] >= QUESTIONS - most


@pytest.mark.parametrize("name", ["its-own-link", "arp-of-a-delegated-prefix"])
def test_questions_are_limited(hosted: HostBench, name: str) -> None:
    """Of the ENI's own addresses more, as no entry comes of them; the neighbour's are its own."""
    before = hosted.drops().get("fence.discovery-limit", 0)
    count = 10 * QUESTIONS if name == "its-own-link" else QUESTIONS
    frame = bytes(FLOODS[name](1))
    for _ in range(count):
        hosted.instance.wire.send(frame)
    list(hosted.frames_until_barrier(OUTSIDE))
    assert hosted.drops()["fence.discovery-limit"] > before
    assert hosted.fate(lambda known: datagram(hosted, OUTSIDE, known)).seen_by == {OUTSIDE.name}


def test_questions_by_an_uplink_are_limited(hosted: HostBench) -> None:
    """Of one asker here, as each other one would be an entry of the machine's."""
    outside = hosted.parties[OUTSIDE.name]
    question = Ether(src=outside.mac, dst=outside.gateway_mac) / ARP(hwsrc=outside.mac, psrc=OUTSIDE.v4, pdst=GATEWAY)
    before = hosted.drops().get("fence.discovery-limit", 0)
    frame = bytes(question)
    for _ in range(4 * QUESTIONS_ELSEWHERE.burst // AT_ONCE):
        for _ in range(AT_ONCE):
            outside.wire.send(frame)
        list(hosted.frames_until_barrier(OUTSIDE))
    assert hosted.drops()["fence.discovery-limit"] > before
    assert hosted.fate(lambda known: datagram(hosted, OUTSIDE, known)).seen_by == {OUTSIDE.name}


@pytest.mark.slow
@pytest.mark.parametrize("end", [NEIGHBOUR, OUTSIDE], ids=lambda end: end.name)
def test_full_table_of_the_machine_stops_no_lab(namespace: str, hosted: HostBench, end: End) -> None:
    """The control: it is full, for whoever has to find out. What is told is no part of it."""
    with Links(namespace) as links:
        links.set_up("eth0")
    lines = [f"neigh add 2001:db8:f::{number:x} lladdr {MAC} dev eth0 nud reachable" for number in range(1, 3000)]
    with pytest.raises(AssertionError, match=r"table overflow|No buffer space"):
        run_in(namespace, "ip", "-batch", "-", text="\n".join(lines))
    for _ in range(8):
        fate = hosted.fate(lambda known: datagram(hosted, end, known))
        assert end.name in fate.seen_by


def datagram(bench: HostBench, end: End, known: bytes) -> Packet:
    return bench.instance.ether() / IPv6(src=OWN6, dst=end.v6) / UDP(sport=PORT, dport=PORT) / Raw(known)

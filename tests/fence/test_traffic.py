"""What the policy approves leaves as ever, with the fence on: sockets, neighbours found, and what IPv6 needs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from scapy.layers.inet6 import (
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether

from sgdataplane.host import netns, sysctl
from sgdataplane.host.links import InterfaceAddress, Links
from sgdataplane.net.values import Address
from tests.fence.bench import HOST, HOST6, MAC, OTHER, OTHER6, OWN, OWN6, Bench, set_mark, token
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import enforce
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.scenes.labs import run_in
from tests.support.scenes.pair import HERE, Pair, desired_at

pytestmark = pytest.mark.traffic

FAMILIES: dict[int, tuple[str, str]] = {socket.AF_INET: (OWN, HOST), socket.AF_INET6: (OWN6, HOST6)}
by_family = pytest.mark.parametrize("family", FAMILIES, ids=["ipv4", "ipv6"])
ALL_NODES, MLD_ROUTERS = "ff02::1", "ff02::16"


def servers(fenced: Bench, family: int, *ports: int) -> list[socket.socket]:
    """Sockets of the host outside."""
    found = []
    for port in ports:
        server = fenced.open(family, socket.SOCK_DGRAM, outside=True)
        server.bind((FAMILIES[family][1], port))
        found.append(server)
    return found


@by_family
def test_socket_passes_where_the_policy_says_and_neighbours_are_found(fenced: Bench, family: int) -> None:
    (server,) = servers(fenced, family, 53)
    client = fenced.open(family, socket.SOCK_DGRAM)
    run_in(fenced.instance, "ip", "neigh", "flush", "dev", "eth0", "nud", "all")
    client.sendto(known := token(), (FAMILIES[family][1], 53))
    content, peer = server.recvfrom(100)
    assert (content, peer[0]) == (known, FAMILIES[family][0])
    server.sendto(known, peer)
    assert client.recv(100) == known


@by_family
def test_what_the_policy_refuses_is_not_approved_by_a_mark(fenced: Bench, family: int) -> None:
    """The mark that a socket sets is overwritten by the policy, or the policy drops the packet."""
    allowed, refused = servers(fenced, family, 53, 54)
    client = fenced.open(family, socket.SOCK_DGRAM)
    before = fenced.counted("inet")["default.egress.drop"]
    for mark in (0, 1, 0xFFFFFFFF, secret_in(fenced)):
        set_mark(client, mark)
        with pytest.raises(PermissionError):  # what a socket is told of a packet that postrouting drops
            client.sendto(token(), refused.getsockname()[:2])
        client.sendto(known := token(), allowed.getsockname()[:2])
        assert allowed.recv(100) == known
    assert fenced.counted("inet")["default.egress.drop"] == before + 4
    refused.setblocking(False)
    with pytest.raises(BlockingIOError):
        refused.recv(100)


def secret_in(fenced: Bench) -> int:
    text = run_in(fenced.instance, "nft", "list", "chain", "inet", "sgdataplane", "egress-pass")
    return int(text.partition("meta mark set ")[2].split()[0], 16)


@by_family
def test_fragments_of_an_approved_packet_pass(fenced: Bench, family: int) -> None:
    (server,) = servers(fenced, family, 53)
    client = fenced.open(family, socket.SOCK_DGRAM)
    client.sendto(known := token() + bytes(5000), (FAMILIES[family][1], 53))
    assert server.recv(6000) == known
    fragments = [frame for frame in fenced.seen_until_barrier() if len(frame) > 1000]
    assert len(fragments) == 3


@pytest.fixture
def advertiser(fenced: Bench) -> socket.socket:
    """A raw socket for neighbour discovery: an IP packet, so the policy sees it."""
    raw = fenced.open(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    with netns.inside(fenced.instance):
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("eth0"))
    return raw


ADVERTISED = {
    "own": (OWN6, True),
    "link-local": ("fe80::216:3eff:fe00:a", True),
    "the-gateway's": ("fe80::1", False),
    "another-link's": ("fe80::216:3eff:fe00:b", False),
    "another's": (OTHER6, False),
    "the-host's": (HOST6, False),
    "mapped": (f"::ffff:{OTHER}", False),
}


@pytest.mark.parametrize("name", ADVERTISED)
def test_advertisement_claims_an_own_address_or_none(fenced: Bench, advertiser: socket.socket, name: str) -> None:
    target, passes = ADVERTISED[name]
    claim = ICMPv6ND_NA(tgt=target, R=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=MAC)
    before = fenced.counted("inet")["egress.neighbour-claim"]
    content = bytes(IPv6(src=OWN6, dst=ALL_NODES) / claim)[40:]
    if passes:
        advertiser.sendto(content, (ALL_NODES, 0))
    else:
        with pytest.raises(PermissionError):
            advertiser.sendto(content, (ALL_NODES, 0))
    seen = [Ether(frame) for frame in fenced.seen_until_barrier()]
    assert any(ICMPv6ND_NA in frame and frame[ICMPv6ND_NA].tgt == target for frame in seen) == passes
    assert fenced.counted("inet")["egress.neighbour-claim"] == before + (not passes)


def test_duplicate_address_detection_passes(fenced: Bench) -> None:
    """The kernel asks from :: who else has the address, and then takes it."""
    with netns.inside(fenced.instance):
        sysctl.write_all({"ipv6/conf/eth0/accept_dad": "1", "ipv6/conf/all/accept_dad": "1"})
    with Links(fenced.instance) as links:
        entry = InterfaceAddress("eth0", Address.parse(OWN6), 128)
        links.delete_address(entry)
    run_in(fenced.instance, "ip", "-6", "addr", "add", f"{OWN6}/128", "dev", "eth0")
    for frame in fenced.frames():
        packet = Ether(frame)
        if ICMPv6ND_NS in packet and packet[IPv6].src == "::" and packet[ICMPv6ND_NS].tgt == OWN6:
            break
    else:
        raise AssertionError("no detection was seen")
    wait_until(lambda: is_taken(fenced))


def is_taken(fenced: Bench) -> bool:
    """Whether the address is there and detection has ended well."""
    (line,) = run_in(fenced.instance, "ip", "-6", "-o", "addr", "show", "dev", "eth0", "to", OWN6).splitlines()
    return "tentative" not in line and "dadfailed" not in line


def test_report_of_a_joined_multicast_group_passes(fenced: Bench) -> None:
    group = "ff05::77"
    member = fenced.open(socket.AF_INET6, socket.SOCK_DGRAM)
    with netns.inside(fenced.instance):
        index = socket.if_nametoindex("eth0")
    request = socket.inet_pton(socket.AF_INET6, group) + index.to_bytes(4, "little")
    member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    reports = (Ether(frame) for frame in fenced.frames())
    assert any(ICMPv6MLReport2 in packet and packet[IPv6].dst == MLD_ROUTERS for packet in reports)


@pytest.fixture
def solicitor(fenced: Bench) -> socket.socket:
    """A raw socket for discovery to single addresses, with the hop limit that it has on its link."""
    raw = fenced.open(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
    return raw


MESSAGES = {"solicitation": ICMPv6ND_NS, "advertisement": ICMPv6ND_NA}


@pytest.mark.parametrize("kind", MESSAGES)
def test_discovery_reaches_neighbours_and_carries_nothing_beyond_the_link(
    fenced: Bench, solicitor: socket.socket, kind: str
) -> None:
    """A router would carry it on, with whatever is in it."""
    outside = fenced.open(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6, outside=True)

    def message() -> bytes:
        return bytes(IPv6(src=OWN6, dst=HOST6) / MESSAGES[kind](tgt=OWN6))[40:] + token()

    before = fenced.counted("inet")["egress.far-discovery"]
    known = message()
    for neighbour in ("fe80::1", OTHER6):
        solicitor.sendto(known, (neighbour, 0, 0, link_of(fenced)))
        assert any(known[8:] in frame for frame in fenced.seen_until_barrier())
    with pytest.raises(PermissionError):
        solicitor.sendto(known := message(), (HOST6, 0))
    assert fenced.counted("inet")["egress.far-discovery"] == before + 1
    (server,) = servers(fenced, socket.AF_INET6, 53)
    client = fenced.open(socket.AF_INET6, socket.SOCK_DGRAM)
    client.sendto(barrier := token(), (HOST6, 53))
    assert server.recv(100) == barrier  # the way there is open
    assert not any(known[8:] in packet for packet in waiting(outside))


def waiting(raw: socket.socket) -> Iterator[bytes]:
    """What has come so far."""
    raw.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            yield raw.recv(1500)


def link_of(fenced: Bench) -> int:
    with netns.inside(fenced.instance):
        return socket.if_nametoindex("eth0")


def test_neighbours_on_one_link_find_each_other_by_their_own_addresses(pair: Pair) -> None:
    """As on a bridge: there no router is in between, and each answers to the other's own address."""
    group = make_group("sg-a", ["ingress udp 53/53 from ::/0"])
    state = make_state([group], [make_eni("eni-a", " ".join(HERE["instance"]), "sg-a")])
    enforce(pair["policy"], desired_at(pair, state))
    for role in HERE:
        run_in(pair[role], "ip", "-6", "neigh", "flush", "dev", "eth0", "nud", "permanent")
    with ExitStack() as stack:
        ends = []
        for role, port in (("instance", 53), ("peer", 0)):
            with netns.inside(pair[role]):
                ends.append(stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)))
            ends[-1].settimeout(DEADLINE)
            ends[-1].bind((HERE[role][1], port))
        server, client = ends
        client.sendto(asked := token(), server.getsockname()[:2])
        content, peer = server.recvfrom(100)
        assert content == asked
        server.sendto(content, peer)
        assert client.recv(100) == asked

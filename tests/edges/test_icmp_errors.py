"""ICMP errors reach who has an accepted session, and nobody else; path-MTU discovery works through a small link."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
from scapy.packet import Packet, Raw

from sgdataplane.net.values import Family
from tests.edges.scene import FAMILIES, Scene, drained, grown, is_refused, until
from tests.support.scenes.sessionlab import Place

pytestmark = pytest.mark.traffic

IDS = ["ipv4", "ipv6"]
SMALL_MTU = 1300
BULK = 1 << 20
NOWHERE = {Family.IPV4: "203.0.113.77", Family.IPV6: "2001:db8:dead::77"}
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU, IP_RECVERR = 10, 2, 14, 11  # linux/in.h
IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_RECVERR, IPV6_UNICAST_HOPS = 23, 24, 25, 16  # linux/in6.h


@pytest.fixture
def small_link(scene: Scene) -> Iterator[None]:
    """Between the router and the host outside."""
    scene.set_mtu(SMALL_MTU)
    yield
    scene.set_mtu(1500)


def set_option(sock: socket.socket, ipv4: tuple[int, int], ipv6: tuple[int, int]) -> None:
    is_ipv4 = sock.family == socket.AF_INET
    sock.setsockopt(socket.IPPROTO_IP if is_ipv4 else socket.IPPROTO_IPV6, *(ipv4 if is_ipv4 else ipv6))


def path_mtu(sock: socket.socket) -> int:
    """What the kernel knows of the way of a connected socket."""
    if sock.family == socket.AF_INET:
        return sock.getsockopt(socket.IPPROTO_IP, IP_MTU)
    return sock.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)


def transfer(sender: socket.socket, receiver: socket.socket) -> None:
    """A megabyte must arrive as it was sent."""
    data, digest, count = os.urandom(BULK), hashlib.sha256(), 0
    thread = threading.Thread(target=sender.sendall, args=(data,))
    thread.start()
    while count < BULK:
        part = receiver.recv(1 << 16)
        assert part
        digest.update(part)
        count += len(part)
    thread.join()
    assert digest.digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
@pytest.mark.parametrize("opener", ["near", "outside"])
@pytest.mark.usefixtures("small_link")
def test_tcp_in_bulk_finds_its_way_through_a_small_link(scene: Scene, opener: str, family: Family) -> None:
    """`near` sends more than the link takes, and hears of it, whoever has opened the session."""
    scene.enforce("ingress tcp 8000/8000 from any", "egress tcp 8000/8000 to any")
    before = scene.counts()
    if opener == "near":
        near, outside = scene.connect(scene.near, scene.outside, family, 8000)
    else:
        outside, near = scene.connect(scene.outside, scene.near, family, 8000)
    assert path_mtu(near) == 1500
    transfer(near, outside)
    assert path_mtu(near) == SMALL_MTU
    assert grown(before, scene.counts())["ingress.icmp-error"] >= 1
    transfer(outside, near)


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_tcp_in_bulk_comes_in_through_a_small_link(scene: Scene, family: Family) -> None:
    """The link at `near` is the small one: the router tells the sender outside, whom `near` then answers."""
    scene.enforce("ingress tcp 8000/8000 from any")
    scene.set_mtu_of_near(SMALL_MTU)
    try:
        outside, near = scene.connect(scene.outside, scene.near, family, 8000)
        transfer(outside, near)
        transfer(near, outside)
    finally:
        scene.set_mtu_of_near(1500)


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
@pytest.mark.usefixtures("small_link")
def test_udp_is_told_that_it_is_too_big(scene: Scene, family: Family) -> None:
    scene.enforce("egress udp 53/53 to any")
    server, client = scene.udp(scene.outside, family, 53), scene.udp(scene.near, family)
    set_option(client, (IP_MTU_DISCOVER, IP_PMTUDISC_DO), (IPV6_MTU_DISCOVER, IP_PMTUDISC_DO))
    client.connect(server.getsockname()[:2])
    client.send(bytes(1400))
    until(lambda: path_mtu(client) == SMALL_MTU, "the answer of the router")
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EMSGSIZE
    assert is_refused(lambda: client.send(bytes(1400)), errno.EMSGSIZE)
    client.send(bytes(1200))
    assert server.recv(2000) == bytes(1200)


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_a_session_hears_of_an_unreachable_port_from_its_peer(scene: Scene, family: Family) -> None:
    scene.enforce("egress udp 54/54 to any")
    client = scene.udp(scene.near, family)
    client.connect((scene.outside.address(family), 54))
    assert error_of(client) == errno.ECONNREFUSED


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_a_session_hears_of_an_unreachable_host_from_a_router(scene: Scene, family: Family) -> None:
    scene.enforce("egress udp 54/54 to any")
    client = scene.udp(scene.near, family)
    set_option(client, (IP_RECVERR, 1), (IPV6_RECVERR, 1))
    client.connect((NOWHERE[family], 54))
    assert error_of(client) in (errno.ENETUNREACH, errno.EHOSTUNREACH)


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_a_session_hears_of_exceeded_time_from_a_router(scene: Scene, family: Family) -> None:
    scene.enforce("egress udp 54/54 to any")
    client = scene.udp(scene.near, family)
    set_option(client, (IP_RECVERR, 1), (IPV6_RECVERR, 1))
    set_option(client, (socket.IP_TTL, 1), (IPV6_UNICAST_HOPS, 1))
    client.connect((scene.outside.address(family), 54))
    assert error_of(client) == errno.EHOSTUNREACH


def error_of(client: socket.socket) -> int:
    """Send a byte; the error that comes back."""
    client.send(b"?")
    try:
        client.recv(1)
    except OSError as error:
        return error.errno or 0
    return 0


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_the_errors_that_near_sends_reach_its_peer(scene: Scene, family: Family) -> None:
    """A port that is open in the policy, and where nobody listens."""
    scene.enforce("ingress udp 55/55 from any")
    client = scene.udp(scene.outside, family)
    client.connect((scene.near.address(family), 55))
    assert error_of(client) == errno.ECONNREFUSED


# errors made by hand, about a packet that `near` has sent or might have


def quoted(scene: Scene, family: Family, source_port: int, port: int) -> bytes:
    """The head of a UDP packet of `near`'s."""
    ends = {"src": scene.near.address(family), "dst": scene.outside.address(family)}
    header = IP(**ends) if family is Family.IPV4 else IPv6(**ends)
    return bytes(header / UDP(sport=source_port, dport=port) / Raw(b"?"))


IPV4_ERRORS: dict[str, Callable[[], Packet]] = {
    "frag-needed": lambda: ICMP(type=3, code=4, nexthopmtu=1200),
    "unreachable": lambda: ICMP(type=3, code=1),
    "time-exceeded": lambda: ICMP(type=11, code=0),
}
IPV6_ERRORS: dict[str, Callable[[], Packet]] = {
    "packet-too-big": lambda: ICMPv6PacketTooBig(mtu=1280),
    "unreachable": lambda: ICMPv6DestUnreach(code=3),
    "time-exceeded": lambda: ICMPv6TimeExceeded(code=0),
}
ERRORS = [
    *(pytest.param(Family.IPV4, make, id=f"ipv4 {name}") for name, make in IPV4_ERRORS.items()),
    *(pytest.param(Family.IPV6, make, id=f"ipv6 {name}") for name, make in IPV6_ERRORS.items()),
]


@pytest.mark.parametrize(("family", "make"), ERRORS)
def test_only_errors_about_an_accepted_session_pass(scene: Scene, family: Family, make: Callable[[], Packet]) -> None:
    """The same error about a session that is, that never was, and that is revoked; ICMP itself is allowed in."""
    icmp = "ingress icmp from 0.0.0.0/0" if family is Family.IPV4 else "ingress icmpv6 from ::/0"
    scene.enforce("egress udp 53/53 to any", icmp)
    server, client = scene.udp(scene.outside, family, 53), scene.udp(scene.near, family)
    client.connect(server.getsockname()[:2])
    client.send(b"?")
    assert server.recv(1) == b"?"
    port = client.getsockname()[1]
    real, unrelated = quoted(scene, family, port, 53), quoted(scene, family, port, 57)
    assert fate(scene, family, make() / Raw(unrelated)) == {"ingress.invalid": 1}
    assert fate(scene, family, make() / Raw(real)) == {"ingress.icmp-error": 1}
    scene.enforce(icmp)
    assert fate(scene, family, make() / Raw(real)) == {"default.egress.drop": 1}
    client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # what the error that passed has told it
    assert scene.refuses(lambda: client.send(b"?"))
    assert fate(scene, family, make() / Raw(real)) == {"default.egress.drop": 1}


# after a change, before the session's next packet


@dataclass(frozen=True, slots=True)
class Session:
    """Of UDP: a socket at `near`, and one outside."""

    near: socket.socket
    outside: socket.socket

    @classmethod
    def opened(cls, scene: Scene, family: Family, opener: str, port: int) -> Session:
        server, client = (scene.outside, scene.near) if opener == "near" else (scene.near, scene.outside)
        listening, asking = scene.udp(server, family, port), scene.udp(client, family)
        asking.connect(listening.getsockname()[:2])
        asking.send(b"?")
        listening.connect(listening.recvfrom(1)[1][:2])
        session = cls(asking, listening) if opener == "near" else cls(listening, asking)
        for end in (session.near, session.outside):
            set_option(end, (IP_MTU_DISCOVER, IP_PMTUDISC_DO), (IPV6_MTU_DISCOVER, IP_PMTUDISC_DO))
        return session

    def hearing(self, way: str) -> socket.socket:
        """Whose packet an error is about that comes in, or goes out."""
        return self.near if way == "in" else self.outside

    def is_told(self, way: str, error: int) -> bool:
        return self.hearing(way).getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == error

    def send_error(self, scene: Scene, family: Family, way: str, kind: str) -> None:
        """From the router to `near`, or from `near` outside."""
        sender = self.hearing(way)
        (source, source_port), (target, port) = sender.getsockname()[:2], sender.getpeername()[:2]
        quoted_ends = {"src": source, "dst": target}
        quoted_ip = IP(**quoted_ends) if family is Family.IPV4 else IPv6(**quoted_ends)
        told_by = "169.254.1.1" if way == "in" and family is Family.IPV4 else target
        ends = {"src": told_by, "dst": source}
        header = IP(**ends) if family is Family.IPV4 else IPv6(**ends)
        place = Place(scene.router, scene.near.addresses) if way == "in" else scene.near
        about = bytes(quoted_ip / UDP(sport=source_port, dport=port) / Raw(b"?"))
        scene.send(place, header / KINDS[family, kind]() / Raw(about))


KINDS: dict[tuple[Family, str], Callable[[], Packet]] = {
    (Family.IPV4, "unreachable"): lambda: ICMP(type=3, code=3),
    (Family.IPV4, "too-big"): lambda: ICMP(type=3, code=4, nexthopmtu=1200),
    (Family.IPV6, "unreachable"): lambda: ICMPv6DestUnreach(code=4),
    (Family.IPV6, "too-big"): lambda: ICMPv6PacketTooBig(mtu=1280),
}


@pytest.fixture
def forgotten_paths(scene: Scene) -> Iterator[None]:
    """What errors have said of the ways' widths, the next test isn't to know."""
    yield
    scene.set_mtu(1500)


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
@pytest.mark.parametrize("kind", ["unreachable", "too-big"])
@pytest.mark.parametrize("way", ["in", "out"])
@pytest.mark.parametrize("opener", ["near", "outside"])
@pytest.mark.usefixtures("forgotten_paths")
def test_after_a_change_an_error_is_judged_as_its_session(
    scene: Scene, family: Family, opener: str, way: str, kind: str
) -> None:
    """Of two sessions one stays: before either has sent a packet more, errors about that one pass, and no other."""
    rule = "egress udp {0}/{0} to any" if opener == "near" else "ingress udp {0}/{0} from any"
    scene.enforce(rule.format(53), rule.format(54))
    kept, revoked = (Session.opened(scene, family, opener, port) for port in (53, 54))
    scene.enforce(rule.format(53))
    before = scene.counts()
    for session in (revoked, kept):
        session.send_error(scene, family, way, kind)
    error = errno.ECONNREFUSED if kind == "unreachable" else errno.EMSGSIZE
    until(lambda: kept.is_told(way, error), "the error about the session that stays")
    assert revoked.is_told(way, 0)
    side = "egress" if opener == "near" else "ingress"
    rises = {name: rise for name, rise in grown(before, scene.counts()).items() if not name.endswith("always")}
    assert rises.pop(f"default.{side}.drop") == 1
    assert [(name.split(".")[:2], rise) for name, rise in rises.items()] == [(["rule", "sg-near"], 1)]


def fate(scene: Scene, family: Family, error: Packet) -> dict[str, int]:
    """Which counters an error from the router meets."""
    before = scene.counts()
    source = "169.254.1.1" if family is Family.IPV4 else scene.outside.address(family)
    ends = {"src": source, "dst": scene.near.address(family)}
    header = IP(**ends) if family is Family.IPV4 else IPv6(**ends)
    scene.send(Place(scene.router, scene.near.addresses), header / error)
    found: dict[str, int] = {}

    def has_changed() -> bool:
        found.clear()
        found.update({k: n for k, n in grown(before, scene.counts()).items() if not k.endswith("always")})
        return bool(found)

    until(has_changed, "a counter's rise")
    return found


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
@pytest.mark.usefixtures("small_link")
def test_a_revoked_session_finds_out_nothing_more(scene: Scene, family: Family) -> None:
    """Of a session that stays, the router's errors come in; nothing of a revoked one comes to the router."""
    scene.enforce("egress tcp 8000/8001 to any")
    kept, revoked = (scene.connect(scene.near, scene.outside, family, port) for port in (8000, 8001))
    scene.enforce("egress tcp 8000/8000 to any")
    revoked[0].send(bytes(1400))
    transfer(*kept)
    assert drained(revoked[1]) == []

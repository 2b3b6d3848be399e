"""Idle timeouts as conntrack keeps them, read back from entries that real packets have made."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.inet import GRE, ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.sctp import SCTP, SCTPChunkCookieAck, SCTPChunkCookieEcho, SCTPChunkInit, SCTPChunkInitAck
from scapy.packet import Packet, Raw
from scapy.utils import checksum

from sgdataplane.host import netns, sysctl
from sgdataplane.host.conntrack import Tracked
from sgdataplane.host.timeouts import FOLDER
from sgdataplane.model.state import ConnectionTracking
from sgdataplane.net.values import UDP, Family
from tests.edges.scene import AF, FAMILIES, Scene, until
from tests.support.kernel.nft import nft
from tests.support.scenes.sessionlab import Place

pytestmark = pytest.mark.traffic

LONGEST_S = 910
OVERRIDES = ConnectionTracking(80, 15, 100)
SILENT, NO_RESET, OPEN = 9999, 9998, 9000
SCTP_NUMBER, OTHER_NUMBER, GRE_NUMBER, DCCP_NUMBER, UDP_LITE_NUMBER = 132, 253, 47, 33, 136
# The far host answers nothing at one port, and resets nothing from another: so handshakes stay half done.
QUIET = (
    "add table inet quiet",
    "add chain inet quiet in { type filter hook input priority 0; }",
    "add chain inet quiet out { type filter hook output priority 0; }",
    f"add rule inet quiet in tcp dport {SILENT} drop",
    f"add rule inet quiet out tcp sport {NO_RESET} tcp flags & rst == rst drop",
)
Found = dict[str, tuple[str, int]]


@pytest.fixture(scope="module", autouse=True)
def quiet(module_scene: Scene) -> Iterator[None]:
    nft(module_scene.outside.netns, *QUIET)
    yield
    nft(module_scene.outside.netns, "delete table inet quiet")


@dataclass(frozen=True)
class Way:
    """Who opens, and in which family."""

    scene: Scene
    family: Family
    opener: Place
    server: Place

    def packet(self, *layers: Packet, back: bool = False, number: int = 0) -> Packet:
        source, target = (self.server, self.opener) if back else (self.opener, self.server)
        ends = {"src": source.address(self.family), "dst": target.address(self.family)}
        if self.family is Family.IPV4:
            header: Packet = IP(**ends, **({"proto": number} if number else {}))
        else:
            header = IPv6(**ends, **({"nh": number} if number else {}))
        for layer in layers:
            header = header / layer
        return header

    def send(self, *layers: Packet, back: bool = False, number: int = 0) -> None:
        self.scene.send(self.server if back else self.opener, self.packet(*layers, back=back, number=number))

    def entry(self, is_it: Callable[[Tracked], bool]) -> Tracked | None:
        return next((found for found in self.scene.tracked() if is_it(found)), None)

    def wait(self, number: int, state: str, port: int = 0) -> tuple[str, int]:
        """State and seconds left of the entry of that protocol and server's port, once it is in that state."""
        found: list[Tracked] = []

        def is_there() -> bool:
            entry = self.entry(lambda e: e.original.protocol == number and (not port or e.original.port == port))
            found[:] = [entry] if entry else []
            return entry is not None and entry.state == state

        until(is_there, f"{state} of protocol {number}")
        return found[0].state, found[0].seconds_left


def tcp_states(way: Way) -> Iterator[tuple[str, tuple[str, int]]]:
    scene, family = way.scene, way.family
    kept = scene.connect(way.opener, way.server, family, OPEN)
    kept[0].send(b"x")
    assert kept[1].recv(1) == b"x"
    yield "established", way.wait(6, "ESTABLISHED", OPEN)
    client, server = scene.connect(way.opener, way.server, family, OPEN + 1)
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    yield "half closed", way.wait(6, "CLOSE_WAIT", OPEN + 1)
    server.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    yield "closed by both", way.wait(6, "TIME_WAIT", OPEN + 1)
    client, _ = scene.connect(way.opener, way.server, family, OPEN + 2)
    client.close()
    yield "reset", way.wait(6, "CLOSE", OPEN + 2)


def half_open_states(way: Way) -> Iterator[tuple[str, tuple[str, int]]]:
    if way.opener is way.scene.near:
        opener = way.scene.open(way.opener, way.family, socket.SOCK_STREAM)
        opener.setblocking(False)
        opener.connect_ex((way.server.address(way.family), SILENT))
        yield "asked", way.wait(6, "SYN_SENT", SILENT)
    else:
        way.scene.listen(way.server, way.family, OPEN + 3)
        way.send(TCP(sport=NO_RESET, dport=OPEN + 3, flags="S", seq=1))
        yield "asked and answered", way.wait(6, "SYN_RECV", OPEN + 3)


def udp_states(way: Way) -> Iterator[tuple[str, tuple[str, int]]]:
    server, client = way.scene.udp(way.server, way.family, OPEN), way.scene.udp(way.opener, way.family)
    client.sendto(b"?", server.getsockname()[:2])
    sender = server.recvfrom(1)[1]
    yield "one way", way.wait(17, "UNREPLIED", OPEN)
    server.sendto(b"!", sender)
    assert client.recv(1) == b"!"
    yield "answered", way.wait(17, "REPLIED", OPEN)


def other_states(way: Way) -> Iterator[tuple[str, tuple[str, int]]]:
    echo = ICMP(type=8, id=7) if way.family is Family.IPV4 else ICMPv6EchoRequest(id=7)
    way.send(echo)
    yield "echo", way.wait(1 if way.family is Family.IPV4 else 58, "REPLIED")
    way.send(GRE(proto=0x0800), Raw(bytes(20)))
    yield "gre", way.wait(GRE_NUMBER, "UNREPLIED")
    way.send(GRE(proto=0x0800), Raw(bytes(20)), back=True)
    yield "gre answered", way.wait(GRE_NUMBER, "REPLIED")
    way.send(GRE(proto=0x0800), Raw(bytes(20)), back=True)
    yield "gre for a while", way.wait(GRE_NUMBER, "ASSURED")
    way.send(Raw(bytes(20)), number=OTHER_NUMBER)
    yield "253", way.wait(OTHER_NUMBER, "UNREPLIED")
    way.send(Raw(bytes(20)), back=True, number=OTHER_NUMBER)
    yield "253 answered", way.wait(OTHER_NUMBER, "REPLIED")


def sctp_states(way: Way) -> Iterator[tuple[str, tuple[str, int]]]:
    """A handshake by hand, where the kernel tracks SCTP: half open as it likes, then as long as any other protocol."""
    if not any("_sctp_" in name for name in timeouts_of(way.scene)):
        return
    numbers = {"a_rwnd": 1500, "n_out_streams": 1, "n_in_streams": 1, "init_tsn": 1}
    there, here = {"sport": 5000, "dport": 5001}, {"sport": 5001, "dport": 5000}
    way.send(SCTP(**there, tag=0), SCTPChunkInit(init_tag=1, **numbers))
    yield "sctp asked", way.wait(SCTP_NUMBER, "UNREPLIED")
    way.send(SCTP(**here, tag=1), SCTPChunkInitAck(init_tag=2, **numbers), back=True)
    yield "sctp answered", way.wait(SCTP_NUMBER, "REPLIED")
    way.send(SCTP(**there, tag=2), SCTPChunkCookieEcho(cookie=b"wxyz"))
    way.send(SCTP(**here, tag=1), SCTPChunkCookieAck(), back=True)
    yield "sctp established", way.wait(SCTP_NUMBER, "ASSURED")


def rare_states(way: Way) -> Iterator[tuple[str, tuple[str, int]]]:
    """What some kernels have trackers for, and others count as generic: 30 s either way."""
    request = struct.pack("!HHBBHBBHII", 5000, 5001, 5, 0, 0, 1, 0, 0, 1, 0)  # DCCP-Request (RFC 4340, 5.1, 5.2)
    way.send(Raw(checked(way, DCCP_NUMBER, request, 6)), number=DCCP_NUMBER)
    yield "dccp", way.wait(DCCP_NUMBER, "UNREPLIED")
    datagram = struct.pack("!HHHH", 5000, 5001, 0, 0) + b"?"  # RFC 3828, 3.1
    # conntrack sums with UDP's number (udplite_error in nf_conntrack_proto_udp.c): what is right it calls invalid
    way.send(Raw(checked(way, UDP, datagram, 6)), number=UDP_LITE_NUMBER)
    yield "udp-lite", way.wait(UDP_LITE_NUMBER, "UNREPLIED")


def checked(way: Way, number: int, segment: bytes, offset: int) -> bytes:
    """The segment with its checksum at that offset; trackers refuse a wrong one."""
    ends = (socket.inet_pton(AF[way.family], place.address(way.family)) for place in (way.opener, way.server))
    sum_ = checksum(b"".join(ends) + struct.pack("!II", len(segment), number) + segment)
    return segment[:offset] + struct.pack("!H", sum_) + segment[offset + 2 :]


def timeouts_of(scene: Scene) -> dict[str, int]:
    """Of whatever trackers the kernel has, where the policy is enforced."""
    with netns.inside(scene.enforced):
        names = [name for name in os.listdir(f"{sysctl.ROOT}/{FOLDER}") if "_timeout" in name]
        return {name: int(sysctl.read(f"{FOLDER}/{name}")) for name in names}


DEFAULT = {
    "established": ("ESTABLISHED", 910),
    "half closed": ("CLOSE_WAIT", 60),
    "closed by both": ("TIME_WAIT", 3),
    "reset": ("CLOSE", 3),
    "asked": ("SYN_SENT", 120),
    "asked and answered": ("SYN_RECV", 60),
    "one way": ("UNREPLIED", 30),
    "answered": ("REPLIED", 30),
    "echo": ("REPLIED", 30),
    "gre": ("UNREPLIED", 30),
    "gre answered": ("REPLIED", 30),
    "gre for a while": ("ASSURED", 30),
    "253": ("UNREPLIED", 30),
    "253 answered": ("REPLIED", 30),
    "sctp asked": ("UNREPLIED", 10),
    "sctp answered": ("REPLIED", 3),
    "sctp established": ("ASSURED", 30),
    "dccp": ("UNREPLIED", 30),
    "udp-lite": ("UNREPLIED", 30),
}
OVERRIDDEN = DEFAULT | {
    "established": ("ESTABLISHED", 80),
    "closed by both": ("TIME_WAIT", 15),
    "reset": ("CLOSE", 15),
    "one way": ("UNREPLIED", 100),
    "answered": ("REPLIED", 100),
}


@pytest.mark.parametrize("family", FAMILIES, ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
@pytest.mark.parametrize(
    ("tracking", "expected"),
    [pytest.param(ConnectionTracking(), DEFAULT, id="default"), pytest.param(OVERRIDES, OVERRIDDEN, id="own")],
)
def test_each_state_has_its_timeout(
    scene: Scene, tracking: ConnectionTracking, expected: Found, direction: str, family: Family
) -> None:
    scene.enforce("ingress all from any", "egress all to any", tracking=tracking)
    scene.forget_all()
    ends = (scene.outside, scene.near) if direction == "inbound" else (scene.near, scene.outside)
    way = Way(scene, family, *ends)
    found = {
        name: entry
        for states in (tcp_states, half_open_states, udp_states, other_states, sctp_states, rare_states)
        for name, entry in states(way)
    }
    assert {name: state for name, (state, _) in found.items()} == {name: expected[name][0] for name in found}
    off = {name: left for name, (_, left) in found.items() if not expected[name][1] - 2 <= left <= expected[name][1]}
    assert off == {}


def test_no_state_of_any_protocol_may_outlive_910_seconds(scene: Scene) -> None:
    """Whatever trackers the kernel has; read after an enforce that found them all too long."""
    scene.enforce()
    found = timeouts_of(scene)
    assert len(found) > 20
    assert {name: seconds for name, seconds in found.items() if seconds > LONGEST_S} == {}
    assert found["nf_conntrack_tcp_timeout_syn_sent"] == 120


def test_a_closed_door_keeps_no_session(scene: Scene) -> None:
    """Refused packets leave no entry behind, so they fill no table."""
    scene.enforce("ingress tcp 9000/9000 from any")
    scene.forget_all()
    sender = scene.udp(scene.outside, Family.IPV4)
    sender.sendto(b"?", (scene.near.address(Family.IPV4), 9001))
    assert scene.refuses(lambda: scene.udp(scene.near, Family.IPV4).sendto(b"?", (scene.outside.addresses[0], 9001)))
    scene.connect(scene.outside, scene.near, Family.IPV4, OPEN)
    assert [entry.original.protocol for entry in scene.tracked()] == [6]

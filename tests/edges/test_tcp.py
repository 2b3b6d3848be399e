"""TCP that conntrack calls invalid never reaches a socket, and odd but legal TCP works.

The kernel's defaults hold: nf_conntrack_tcp_be_liberal is 0, so that a segment outside the window is invalid, and
nf_conntrack_checksum is 1, so that one with a wrong checksum is.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from sgdataplane.host import netns, sysctl
from sgdataplane.net.values import Family
from tests.edges.scene import FAMILIES, Scene, drained, grown, is_refused, until
from tests.support.kernel.nft import nft
from tests.support.probes.flood import DEADLINE
from tests.support.scenes.sessionlab import Place

pytestmark = pytest.mark.traffic

IDS = ["ipv4", "ipv6"]
PORT = 80
FAR_OFF = 1 << 30  # bytes of the sequence space; no window is as wide
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21  # linux/tcp.h
REPAIR_ON, REPAIR_OFF_SILENTLY, RECEIVE_QUEUE, SEND_QUEUE = 1, -1, 1, 2


@dataclass(frozen=True, slots=True)
class Session:
    """A TCP session, and the means to forge segments of it. `mine` is the forger's end, `other` the target's."""

    scene: Scene
    family: Family
    forger: Place
    mine: socket.socket
    other: socket.socket

    def forge(self, flags: str, offset: int = 0, data: bytes = b"", **fields: int) -> int:
        """Send a segment as the forger's socket would, `offset` bytes further on; the error number."""
        source, target = self.mine.getsockname(), self.mine.getpeername()
        ends = {"src": source[0], "dst": target[0]}
        header = IP(**ends) if self.family is Family.IPV4 else IPv6(**ends)
        seq, ack = self.numbers()
        forged = TCP(
            sport=source[1], dport=target[1], flags=flags, seq=(seq + offset) % (1 << 32), ack=ack, window=500, **fields
        )
        return self.scene.send(self.forger, header / forged / Raw(data))

    def numbers(self) -> tuple[int, int]:
        """Of the next byte to be sent, and to be received."""
        found = []
        self.mine.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_ON)
        for queue in (SEND_QUEUE, RECEIVE_QUEUE):
            self.mine.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
            found.append(self.mine.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ) % (1 << 32))
        self.mine.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF_SILENTLY)
        return found[0], found[1]

    def check_alive(self) -> None:
        """A byte each way; nothing else must have arrived."""
        for sender, receiver in ((self.mine, self.other), (self.other, self.mine)):
            sender.send(b".")
            assert receiver.recv(100) == b"."


def open_session(scene: Scene, family: Family, forger: str) -> Session:
    """Opened from outside to `near`, whichever of the two forges."""
    outside, near = scene.connect(scene.outside, scene.near, family, PORT)
    if forger == "outside":
        return Session(scene, family, scene.outside, outside, near)
    return Session(scene, family, scene.near, near, outside)


DEFAULTS = {"tcp_be_liberal": "0", "checksum": "1", "tcp_loose": "1"}


def judged(scene: Scene, before: dict[str, int]) -> dict[str, int]:
    """What was counted since, but for neighbour discovery."""
    return {name: n for name, n in grown(before, scene.counts()).items() if not name.endswith(".always")}


Forge = Callable[[Session], object]
INVALID: dict[str, Forge] = {
    "reset far ahead": lambda s: s.forge("R", FAR_OFF),
    "reset far behind": lambda s: s.forge("R", -FAR_OFF),
    "reset with an acknowledgement, far ahead": lambda s: s.forge("RA", FAR_OFF),
    "data far ahead": lambda s: s.forge("PA", FAR_OFF, b"forged"),
    "end far ahead": lambda s: s.forge("FA", FAR_OFF),
    "no flags": lambda s: s.forge("", data=b"forged"),
    "end, push and urgent": lambda s: s.forge("FPU", data=b"forged"),
    "open and end": lambda s: s.forge("SF"),
    "open and reset": lambda s: s.forge("SR"),
    "end without acknowledgement": lambda s: s.forge("F"),
    "reset and end": lambda s: s.forge("RFA"),
    "header longer than the packet": lambda s: s.forge("PA", dataofs=15),
    "header shorter than one": lambda s: s.forge("PA", dataofs=4),
}


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
@pytest.mark.parametrize("forger", ["outside", "near"])
def test_invalid_segments_are_dropped_and_the_session_goes_on(scene: Scene, forger: str, family: Family) -> None:
    scene.enforce("ingress tcp 80/80 from any")
    session = open_session(scene, family, forger)
    session.check_alive()
    hook = "ingress" if forger == "outside" else "egress"
    for name, forge in INVALID.items():
        before = scene.counts()
        forge(session)
        session.check_alive()
        assert judged(scene, before) == {f"{hook}.invalid": 1}, name


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_a_wrong_checksum_is_invalid_where_it_comes_in(scene: Scene, family: Family) -> None:
    scene.enforce("ingress tcp 80/80 from any")
    session = open_session(scene, family, "outside")
    session.check_alive()
    before = scene.counts()
    session.forge("PA", data=b"forged", chksum=1)
    session.check_alive()
    assert judged(scene, before) == {"ingress.invalid": 1}


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
@pytest.mark.parametrize("forger", ["outside", "near"])
def test_data_long_acknowledged_passes_and_is_discarded_by_the_receiver(
    scene: Scene, forger: str, family: Family
) -> None:
    """To conntrack it may be a retransmission; the receiver's TCP answers it, and delivers nothing."""
    scene.enforce("ingress tcp 80/80 from any")
    session = open_session(scene, family, forger)
    session.check_alive()
    before = scene.counts()
    session.forge("PA", -FAR_OFF, b"forged")
    session.check_alive()
    assert judged(scene, before) == {}


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_valid_forgeries_do_arrive(scene: Scene, family: Family) -> None:
    """What makes the tests above prove anything: the same packets with the right numbers have their effect."""
    scene.enforce("ingress tcp 80/80 from any")
    session = open_session(scene, family, "outside")
    session.check_alive()
    session.forge("PA", data=b"forged")
    assert session.other.recv(100) == b"forged"
    session = open_session(scene, family, "outside")
    session.check_alive()
    session.forge("R")
    with pytest.raises(ConnectionResetError):
        session.other.recv(1)


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_a_second_syn_does_no_harm_to_a_session(scene: Scene, family: Family) -> None:
    """It may come in (the peer may have restarted); the socket answers it with a challenge (RFC 5961)."""
    scene.enforce("ingress tcp 80/80 from any")
    session = open_session(scene, family, "outside")
    session.forge("S", FAR_OFF)
    session.check_alive()


def test_the_kernels_defaults_are_as_said(scene: Scene) -> None:
    scene.enforce()
    with netns.inside(scene.near.netns):
        found = {name: sysctl.read(f"netfilter/nf_conntrack_{name}") for name in DEFAULTS}
    assert found == DEFAULTS


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_simultaneous_open_works_where_the_first_may_open(scene: Scene, family: Family) -> None:
    """Each end connects to the other; the host outside first loses the SYN that came to it."""
    scene.enforce("egress tcp 6000/6000 to any")
    near, outside = crossing(scene, family)
    near.send(b"from near")
    outside.send(b"from outside")
    assert (outside.recv(20), near.recv(20)) == (b"from near", b"from outside")


def crossing(scene: Scene, family: Family) -> tuple[socket.socket, socket.socket]:
    lose = ("add table inet lossy", "add chain inet lossy in { type filter hook input priority 0; }",
            "add rule inet lossy in tcp dport 6000 tcp flags & (syn | ack) == syn drop")  # fmt: skip
    nft(scene.outside.netns, *lose)
    try:
        near, outside = (scene.open(place, family, socket.SOCK_STREAM) for place in (scene.near, scene.outside))
        near.bind((scene.near.address(family), 6000))
        outside.bind((scene.outside.address(family), 6000))
        near.setblocking(False)
        near.connect_ex(outside.getsockname()[:2])
        outside.connect(near.getsockname()[:2])
    finally:
        nft(scene.outside.netns, "delete table inet lossy")
    near.settimeout(DEADLINE)
    return near, outside


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_a_port_is_used_again_while_its_session_waits_in_time_wait(scene: Scene, family: Family) -> None:
    """The new session is judged on its own, whoever opens it; the old one, accepted as it was, doesn't count."""
    scene.enforce("ingress tcp 80/80 from any", "egress udp 1/1 to any")
    listener = scene.listen(scene.near, family, PORT)
    ends = reuse(scene, family, listener)
    for _ in range(2):
        ends = reuse(scene, family, listener, ends)
    before = scene.counts()
    listener.close()
    assert bool(scene.send(scene.near, syn(*reversed(ends)))) is not scene.is_host  # a router tells nobody
    until(lambda: judged(scene, before) != {}, "refusal")
    assert judged(scene, before) == {"default.egress.drop": 1}
    scene.enforce("egress udp 1/1 to any")
    scene.send(scene.outside, syn(*ends))
    until(lambda: grown(before, scene.counts()).get("default.ingress.drop") == 1, "refusal of the SYN")


def reuse(
    scene: Scene, family: Family, listener: socket.socket, ends: tuple[tuple[str, int], tuple[str, int]] | None = None
) -> tuple[tuple[str, int], tuple[str, int]]:
    """Connect, from the same port as before, and have the server close first: its end waits. Both ends."""
    client = scene.open(scene.outside, family, socket.SOCK_STREAM)
    client.bind(ends[0] if ends else (scene.outside.address(family), 0))
    client.connect((scene.near.address(family), PORT))
    server = listener.accept()[0]
    server.close()
    assert client.recv(1) == b""
    found = client.getsockname()[:2], client.getpeername()[:2]
    client.close()
    until(lambda: waits(scene, found[0][1]), "TIME_WAIT")
    return found


def waits(scene: Scene, port: int) -> bool:
    return any(e.state == "TIME_WAIT" for e in scene.tracked() if port in (e.original.source_port, e.original.port))


def syn(source: tuple[str, int], target: tuple[str, int]) -> Packet:
    header = IPv6 if ":" in source[0] else IP
    return header(src=source[0], dst=target[0]) / TCP(sport=source[1], dport=target[1], flags="S", seq=FAR_OFF)


def test_a_refused_opening_leaves_no_way_in_by_crossing(scene: Scene) -> None:
    """`near` may not open, so the SYN it would cross with was never sent; nor may the host outside."""
    scene.enforce("ingress tcp 80/80 from any")
    near = scene.open(scene.near, Family.IPV4, socket.SOCK_STREAM)
    near.bind((scene.near.addresses[0], 6000))
    near.setblocking(False)
    before = scene.counts()
    near.connect_ex((scene.outside.addresses[0], 6000))
    scene.send(scene.outside, syn((scene.outside.addresses[0], 6000), (scene.near.addresses[0], 6000)))
    until(lambda: {"default.egress.drop", "default.ingress.drop"} <= set(grown(before, scene.counts())), "refusals")
    open_session(scene, Family.IPV4, "outside").check_alive()
    assert is_refused(lambda: near.send(b"x"), 11, 32, 107) or drained(near) == []

"""What FTP, SIP and TFTP say inside their sessions opens no port: no helper listens to it.

Each row's control session is real and carries the words that name a port; then the peer tries that port, which must be
refused, while a port that a rule opens, tried by the same peer, is not.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from sgdataplane.host import netns, sysctl
from sgdataplane.net.values import Family
from tests.edges.scene import FAMILIES, Scene, grown, is_refused, until
from tests.support.scenes import labs
from tests.support.scenes.sessionlab import Place

pytestmark = pytest.mark.traffic

FTP, SIP, TFTP = 21, 5060, 69
DATA, OPEN = 40001, 40000  # OPEN is what a rule opens
RULES = (
    f"ingress tcp {FTP}/{FTP} from any", f"egress tcp {FTP}/{FTP} to any",
    f"ingress tcp {SIP}/{SIP} from any", f"egress tcp {SIP}/{SIP} to any",
    f"ingress udp {SIP}/{SIP} from any", f"egress udp {SIP}/{SIP} to any",
    f"ingress udp {TFTP}/{TFTP} from any", f"egress udp {TFTP}/{TFTP} to any",
    f"ingress tcp {OPEN}/{OPEN} from any", f"egress tcp {OPEN}/{OPEN} to any",
    f"ingress udp {OPEN}/{OPEN} from any", f"egress udp {OPEN}/{OPEN} to any",
)  # fmt: skip
Words = Callable[[str, Family], tuple[bytes, bytes]]


def commas(address: str) -> str:
    return ",".join([*address.split("."), str(DATA >> 8), str(DATA & 255)])


def ftp_active(opener: str, family: Family) -> tuple[bytes, bytes]:
    """The client says where it will listen."""
    ipv4 = f"PORT {commas(opener)}\r\n" if family is Family.IPV4 else f"EPRT |2|{opener}|{DATA}|\r\n"
    return ipv4.encode(), b"200 PORT command successful.\r\n"


def ftp_passive(server: str, family: Family) -> tuple[bytes, bytes]:
    """The server says where it listens."""
    if family is Family.IPV4:
        return b"PASV\r\n", f"227 Entering Passive Mode ({commas(server)}).\r\n".encode()
    return b"EPSV\r\n", f"229 Entering Extended Passive Mode (|||{DATA}|)\r\n".encode()


def sip_offer(opener: str, family: Family) -> tuple[bytes, bytes]:
    """The caller says where it takes media."""
    where = f"IN IP{family.value[-1]} {opener}"
    body = lines("v=0", f"o=a 1 1 {where}", "s=-", f"c={where}", "t=0 0", f"m=audio {DATA} RTP/AVP 0")
    of_dialogue = ("Call-ID: 1@a", "CSeq: 1 INVITE")
    invite = lines(
        "INVITE sip:b@b SIP/2.0",
        f"Via: SIP/2.0/UDP {opener}:5060",
        "From: <sip:a@a>;tag=1",
        "To: <sip:b@b>",
        *of_dialogue,
        f"Contact: <sip:a@{opener}>",
        "Content-Type: application/sdp",
        f"Content-Length: {len(body)}",
        "",
    )
    return invite + body, lines("SIP/2.0 100 Trying", *of_dialogue, "Content-Length: 0", "")


def lines(*found: str) -> bytes:
    return "".join(f"{line}\r\n" for line in found).encode()


def tftp_read(_: str, __: Family) -> tuple[bytes, bytes]:
    """The answer will come from a port of the server's choice to the client's (RFC 1350)."""
    return b"\0\x01file\0octet\0", b""


@dataclass(frozen=True, slots=True)
class Row:
    """`caller`: who connects to the port that the words name, the server of the control session or its client."""

    kind: int
    port: int
    words: Words
    caller: str
    data_kind: int


STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
ROWS = {
    "ftp active": Row(STREAM, FTP, ftp_active, "server", STREAM),
    "ftp passive": Row(STREAM, FTP, ftp_passive, "client", STREAM),
    "sip over udp": Row(DATAGRAM, SIP, sip_offer, "server", DATAGRAM),
    "sip over tcp": Row(STREAM, SIP, sip_offer, "server", DATAGRAM),
    "tftp": Row(DATAGRAM, TFTP, tftp_read, "server", DATAGRAM),
}


@pytest.mark.parametrize("family", FAMILIES, ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("near_is", ["client", "server"])
@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ROWS.items()])
def test_announced_ports_stay_closed(scene: Scene, row: Row, near_is: str, family: Family) -> None:
    scene.enforce(*RULES)
    client, server = (scene.near, scene.outside) if near_is == "client" else (scene.outside, scene.near)
    caller, called = (server, client) if row.caller == "server" else (client, server)
    asked, answer = row.words(called.address(family), family)
    port = talk(scene, row, (client, server), family, (asked, answer))
    announced, opened = (Target(row.data_kind, family, p) for p in (port if row.port == TFTP else DATA, OPEN))
    assert not gets_through(scene, caller, called, announced)
    assert gets_through(scene, caller, called, opened)


def talk(scene: Scene, row: Row, ends: tuple[Place, Place], family: Family, words: Sequence[bytes]) -> int:
    """The control session, in which both say their words; the client's port."""
    if row.kind == STREAM:
        client, server = scene.connect(*ends, family, row.port)
        for sender, receiver, said in ((client, server, words[0]), (server, client, words[1])):
            sender.send(said)
            assert receiver.recv(4096) == said
    else:
        server = scene.udp(ends[1], family, row.port)
        client = scene.udp(ends[0], family)
        client.sendto(words[0], server.getsockname()[:2])
        data, sender_address = server.recvfrom(4096)
        assert data == words[0]
        if words[1]:
            server.sendto(words[1], sender_address)
            assert client.recv(4096) == words[1]
    port = int(client.getsockname()[1])
    if row.port == TFTP:
        client.close()  # so that the test's own socket can stand there
    return port


@dataclass(frozen=True, slots=True)
class Target:
    kind: int
    family: Family
    port: int


def gets_through(scene: Scene, caller: Place, called: Place, target: Target) -> bool:
    """Whether what opens a connection, or a datagram, arrives at the port; if not, it was counted as refused."""
    kind, family, port = target.kind, target.family, target.port
    refusal = f"default.{'egress' if caller is scene.near else 'ingress'}.drop"
    before = scene.counts()
    receiver = scene.listen(called, family, port) if kind == STREAM else scene.udp(called, family, port)
    opener = scene.open(caller, family, kind)
    opener.setblocking(False)
    opener.connect_ex((called.address(family), port))
    if kind == DATAGRAM:
        is_refused(lambda: opener.send(b"media"))
    until(lambda: has_come(receiver) or refusal in grown(before, scene.counts()), "arrival or refusal")
    arrived = has_come(receiver)
    receiver.close()
    opener.close()
    return arrived


def has_come(receiver: socket.socket) -> bool:
    return bool(select.select([receiver], [], [], 0)[0])


@pytest.mark.parametrize("family", FAMILIES, ids=["ipv4", "ipv6"])
def test_no_helper_is_attached_to_any_session(scene: Scene, family: Family) -> None:
    """Neither ours nor, since the kernel no longer does so by itself, one of the kernel's choice."""
    scene.enforce(*RULES)
    scene.connect(scene.outside, scene.near, family, FTP)
    assert "helper" not in labs.run_in(scene.near.netns, "conntrack", "-L", "-f", family.value, "-o", "extended")
    with netns.inside(scene.near.netns):
        switch = Path(sysctl.ROOT) / "netfilter" / "nf_conntrack_helper"
        assert not switch.exists() or switch.read_text().strip() == "0"
    assert labs.run_in(scene.near.netns, "conntrack", "-L", "expect") == ""

"""Captures for tests of the replay, made from a seed: conversations of many kinds between a client outside and a server
of a lab, once to a port that its policy opens and once to one that it doesn't open.

Owns what such conversations look like, the policy that opens that port, and (by hand) how many of the packets pass it.
Must not know sgdataplane.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
    fragment6,
)
from scapy.layers.l2 import ARP, GRE, Dot1Q, Ether
from scapy.packet import Packet, Raw

SERVER, SERVER6 = "10.77.1.10", "2001:db8:77:1::10"
OPEN, SHUT = 8080, 9090  # TCP and UDP, to the server, both families; pings pass over IPv4 alone

RANGE = f"{OPEN}/{OPEN}"
STATE = f"""
version: 1
vpcs: [{{vpc_id: vpc-r, cidr_blocks: [10.77.0.0/16, "2001:db8:77::/48"]}}]
security_groups:
  - security_group_id: sg-r
    vpc_id: vpc-r
    inner_access_policy: Drop
    rules:
      - {{type: ingress, ip_protocol: tcp, port_range: {RANGE}, cidr_ip: 0.0.0.0/0, security_group_rule_id: sgr-t4}}
      - {{type: ingress, ip_protocol: tcp, port_range: {RANGE}, ipv6_cidr_ip: "::/0", security_group_rule_id: sgr-t6}}
      - {{type: ingress, ip_protocol: udp, port_range: {RANGE}, cidr_ip: 0.0.0.0/0, security_group_rule_id: sgr-u4}}
      - {{type: ingress, ip_protocol: udp, port_range: {RANGE}, ipv6_cidr_ip: "::/0", security_group_rule_id: sgr-u6}}
      - {{type: ingress, ip_protocol: icmp, port_range: -1/-1, cidr_ip: 0.0.0.0/0, security_group_rule_id: sgr-ping}}
instances: [{{instance_id: i-server, instance_name: server}}, {{instance_id: i-other}}]
network_interfaces:
  - {{network_interface_id: eni-server, instance_id: i-server, type: primary, vpc_id: vpc-r, security_group_ids: [sg-r],
     private_ip_addresses: [{SERVER}], ipv6_addresses: ["{SERVER6}"]}}
  - {{network_interface_id: eni-other, instance_id: i-other, type: primary, vpc_id: vpc-r, security_group_ids: [sg-r],
     private_ip_addresses: [10.77.1.11], ipv6_addresses: ["2001:db8:77:1::11"]}}
"""


@dataclass(frozen=True)
class Talk:
    """One conversation: its IP packets, and which of them arrive under the tests' policy."""

    packets: tuple[Packet, ...]
    arrive: int


@dataclass(frozen=True)
class Scene:
    """The ends of a conversation, drawn from a seed. `port`: the server's."""

    random: random.Random
    client: str
    server: str
    sport: int
    port: int

    @property
    def is_open(self) -> bool:
        return self.port == OPEN

    def ip(self, *, back: bool = False, **more: object) -> Packet:
        ends = (self.server, self.client) if back else (self.client, self.server)
        layer = IPv6 if ":" in self.server else IP
        return layer(src=ends[0], dst=ends[1], **more)

    def text(self, size: int) -> bytes:
        return self.random.randbytes(size)


def tcp_session(scene: Scene) -> Talk:
    """A whole connection, from its SYN to its last ACK."""
    packets = _tcp(scene)
    return Talk(packets, len(packets) * scene.is_open)


def _tcp(scene: Scene) -> tuple[Packet, ...]:
    ours, theirs = scene.random.getrandbits(31), scene.random.getrandbits(31)
    ask, answer = scene.text(scene.random.randint(1, 900)), scene.text(scene.random.randint(1, 900))

    def forth(flags: str, seq: int, ack: int = 0, data: bytes = b"") -> Packet:
        return scene.ip() / TCP(sport=scene.sport, dport=scene.port, flags=flags, seq=seq, ack=ack) / Raw(data)

    def back(flags: str, seq: int, ack: int, data: bytes = b"") -> Packet:
        return scene.ip(back=True) / TCP(sport=scene.port, dport=scene.sport, flags=flags, seq=seq, ack=ack) / Raw(data)

    a, b = ours + 1 + len(ask), theirs + 1 + len(answer)
    return (
        forth("S", ours),
        back("SA", theirs, ours + 1),
        forth("A", ours + 1, theirs + 1),
        forth("PA", ours + 1, theirs + 1, ask),
        back("PA", theirs + 1, a, answer),
        forth("FA", a, b),
        back("FA", b, a + 1),
        forth("A", a + 1, b + 1),
    )


def tcp_retransmissions(scene: Scene) -> Talk:
    """A connection that sends each packet twice."""
    packets = tuple(packet for packet in _tcp(scene) for _ in range(2))
    return Talk(packets, len(packets) * scene.is_open)


def tcp_midstream(scene: Scene) -> Talk:
    """A connection from the client's first data on. At ingress the rules judge that."""
    packets = _tcp(scene)[3:]
    return Talk(packets, len(packets) * scene.is_open)


def tcp_midstream_egress(scene: Scene) -> Talk:
    """A connection from the server's data on. At egress that is dropped until the client has said something."""
    question, answer = _tcp(scene)[3:5]
    return Talk((answer, question, answer), 2 * scene.is_open)


def tcp_ahead_of_window(scene: Scene) -> Talk:
    """A segment from somebody who doesn't know the sequence numbers."""
    packets = _tcp(scene)
    stray = packets[3].copy()
    stray[TCP].seq = (stray[TCP].seq + (1 << 30)) % (1 << 32)
    return Talk((*packets[:4], stray, *packets[4:]), len(packets) * scene.is_open)


def udp(scene: Scene) -> Talk:
    """The answer to a refused packet opens a session of its own, from the server's side."""
    packets = (_datagram(scene, 60), _datagram(scene, 200, back=True))
    return Talk(packets, 2 if scene.is_open else 1)


def _datagram(scene: Scene, size: int, *, back: bool = False) -> Packet:
    ports = (scene.port, scene.sport) if back else (scene.sport, scene.port)
    return scene.ip(back=back) / UDP(sport=ports[0], dport=ports[1]) / Raw(scene.text(size))


def udp_wrong_checksum(scene: Scene) -> Talk:
    """The checksum stays wrong, so conntrack calls the packet invalid. The next one is right."""
    wrong = _datagram(scene, 60)
    wrong[UDP].chksum = 0xBAD
    return Talk((wrong, _datagram(scene, 60)), 1 * scene.is_open)


def udp_fragments(scene: Scene) -> Talk:
    """A question in fragments, and an answer whose last fragment comes first."""
    question, answer = _pieces(scene, _datagram(scene, 3000)), _pieces(scene, _datagram(scene, 2500, back=True))[::-1]
    return Talk((*question, *answer), len(question) * scene.is_open + len(answer))


def udp_fragment_missing(scene: Scene) -> Talk:
    """An incomplete datagram reaches nobody; a complete one passes."""
    pieces = _pieces(scene, _datagram(scene, 3000))
    return Talk((*pieces[:-1], _datagram(scene, 10)), 1 * scene.is_open)


def _pieces(scene: Scene, packet: Packet) -> list[Packet]:
    ident = scene.random.getrandbits(16)
    if IP in packet:
        packet[IP].id = ident
        return list(fragment(packet, fragsize=1200))
    head = IPv6(src=packet.src, dst=packet.dst) / IPv6ExtHdrFragment(id=ident) / packet.payload
    return list(fragment6(head, 1280))


def icmp_error(scene: Scene) -> Talk:
    """The server answers a datagram with "port unreachable". That passes with the session it quotes. An error about a
    packet that was never sent never passes."""
    asked, unknown = _datagram(scene, 60), _datagram(scene, 60)
    unknown[UDP].sport = scene.sport ^ 1
    packets = (asked, *(scene.ip(back=True) / _error(packet) for packet in (asked, unknown)))
    return Talk(packets, 2 * scene.is_open)


def _error(packet: Packet) -> Packet:
    whole = bytes(packet)
    return ICMP(type=3, code=3) / Raw(whole) if IP in packet else ICMPv6DestUnreach(code=4) / Raw(whole)


def ping(scene: Scene) -> Talk:
    """The policy lets echo requests in over IPv4, but not over IPv6."""
    ident, text = scene.random.getrandbits(16), scene.text(40)
    if ":" in scene.server:
        ask, answer = ICMPv6EchoRequest(id=ident, data=text), ICMPv6EchoReply(id=ident, data=text)
    else:
        ask, answer = ICMP(type=8, id=ident) / Raw(text), ICMP(type=0, id=ident) / Raw(text)
    return Talk((scene.ip() / ask, scene.ip(back=True) / answer), 0 if ":" in scene.server else 2)


def gre(scene: Scene) -> Talk:
    """No rule names the protocol: nothing comes in. What the server sends passes by default, and so do the answers."""
    inner = IP(src="192.168.1.1", dst="192.168.1.2") / UDP(sport=1, dport=2)
    forth, back = scene.ip() / GRE() / inner, scene.ip(back=True) / GRE() / inner
    return Talk((forth, back, forth), 2)


def extension_headers(scene: Scene) -> Talk:
    """Hop-by-hop and destination options in front of the ports change nothing (IPv4 has neither)."""
    plain = _datagram(scene, 60)
    if IP in plain:
        return Talk((plain,), 1 * scene.is_open)
    options = IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]) / IPv6ExtHdrDestOpt(
        options=[PadN(optdata=b"\0" * 4)]
    )
    return Talk((scene.ip() / options / plain.payload, plain), 2 * scene.is_open)


def atomic_fragments(scene: Scene) -> Talk:
    """Datagrams in one piece behind fragment headers, of which the kernel removes one, or one after the other: in both
    directions, nested, behind options, and within a fragmented datagram (IPv4 has none of these)."""
    plain = _datagram(scene, 60)
    if IP in plain:
        return Talk((plain,), 1 * scene.is_open)
    options = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])
    forth = [_behind(packet, scene, count) for count in (1, 2, 3) for packet in (plain, _datagram(scene, 200))]
    forth += [_behind(plain, scene, count, options) for count in (1, 2)]
    forth += fragment6(_behind(_datagram(scene, 2500), scene, 2), 1280)
    back = [_behind(_datagram(scene, 60, back=True), scene, count) for count in (1, 2)]
    return Talk((*forth, *back), len(forth) * scene.is_open + len(back))


def _behind(packet: Packet, scene: Scene, count: int, before: Packet | None = None) -> Packet:
    """The packet behind so many fragment headers, with `before` in front of the first."""
    head = IPv6(src=packet.src, dst=packet.dst)
    if before is not None:
        head /= before
    for _ in range(count):
        head /= IPv6ExtHdrFragment(id=scene.random.getrandbits(32))
    return head / packet.payload.copy()


def header_chains(scene: Scene) -> Talk:
    """Extension headers drawn from the seed: options, and fragment headers of datagrams in one piece, in any order."""
    plain = _datagram(scene, 60)
    if IP in plain:
        return Talk((plain,), 1 * scene.is_open)
    packets = tuple(_chain(scene, plain) for _ in range(12))
    return Talk(packets, len(packets) * scene.is_open)


def _chain(scene: Scene, packet: Packet) -> Packet:
    head, pad = IPv6(src=packet.src, dst=packet.dst), [PadN(optdata=b"\0" * 4)]
    if scene.random.random() < 0.3:  # first, or not at all
        head /= IPv6ExtHdrHopByHop(options=pad)
    for _ in range(scene.random.randrange(4)):
        ident = scene.random.getrandbits(32)
        head /= scene.random.choice((IPv6ExtHdrDestOpt(options=pad), IPv6ExtHdrFragment(id=ident)))
    return head / packet.payload.copy()


KINDS: dict[str, Callable[[Scene], Talk]] = {
    kind.__name__: kind
    for kind in (
        tcp_session,
        tcp_retransmissions,
        tcp_midstream,
        tcp_midstream_egress,
        tcp_ahead_of_window,
        udp,
        udp_wrong_checksum,
        udp_fragments,
        udp_fragment_missing,
        icmp_error,
        ping,
        gre,
        extension_headers,
        atomic_fragments,
        header_chains,
    )
}


def scenes(seed: int, ports: Sequence[int] = (OPEN, SHUT)) -> list[Scene]:
    """A conversation to each port in each family, from clients and ports that the seed draws."""
    source = random.Random(seed)
    found = []
    for port in ports:
        for server, network in ((SERVER, "198.51.100."), (SERVER6, "2001:db8:5::")):
            client = f"{network}{source.randrange(20, 250)}"
            found.append(Scene(source, client, server, source.randrange(20000, 60000) & ~1, port))
    return found


def left_out(scene: Scene) -> list[Packet]:
    """Frames that a replay can't use."""
    datagram = _datagram(scene, 20)
    local = IP(src=SERVER, dst="224.0.0.1") / UDP()
    return [ARP(psrc=scene.client), Dot1Q(vlan=7) / datagram, IP(src="192.0.2.1", dst="192.0.2.2") / UDP(), local]


def write_pcap(
    path: Path, packets: Iterable[Packet | bytes], *, linktype: int = 1, snaplen: int = 262_144, step: float = 0.001
) -> Path:
    """A pcap of frames (or, with link type 101, of bare packets), `step` seconds apart, each cut to `snaplen`
    octets."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, snaplen, linktype))
        for number, packet in enumerate(packets):
            frame = bytes(_frame(packet) if linktype == 1 else packet)
            kept = frame[:snaplen]
            seconds, micros = divmod(round(number * step * 1_000_000), 1_000_000)
            file.write(struct.pack("<IIII", seconds, micros, len(kept), len(frame)) + kept)
    return path


def write_pcapng(path: Path, packets: Iterable[Packet]) -> Path:
    """The same as pcapng (draft-ietf-opsawg-pcapng): a section, an interface, packets."""
    with open(path, "wb") as file:
        file.write(_block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        file.write(_block(1, struct.pack("<HHI", 1, 0, 0)))
        for number, packet in enumerate(packets):
            frame = bytes(_frame(packet))
            head = struct.pack("<IIIII", 0, 0, number * 1000, len(frame), len(frame))
            file.write(_block(6, head + frame + bytes(-len(frame) % 4)))
    return path


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def _frame(packet: Packet | bytes) -> Packet | bytes:
    ends = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
    return packet if isinstance(packet, bytes) else Ether(**ends) / packet

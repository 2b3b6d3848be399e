"""Writes examples/shop.pcap, the capture that docs/replay.md replays: traffic of the shop in
netns-lab/scenarios/20-three-tier, whose load balancer has another address there (172.31.0.10), as behind NAT.

Owns what is in that capture. The same seed gives the same octets. Must not know sgdataplane.

    .venv/bin/python tools/capture.py examples/shop.pcap
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from itertools import count

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

SEED, BEGAN_S, STEP_S = 20, 1_700_000_000.0, 0.001
CUSTOMER, OFFICE, LOST_LAPTOP = "198.51.100.50", "198.51.100.17", "192.0.2.66"
BALANCER, WEB, DATABASE = "172.31.0.10", "10.20.2.11", "10.20.3.21"
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")


def conversation(draw: random.Random, client: str, port: int, server: str, service: int) -> Iterator[Packet]:
    """TCP from the first SYN to the last ACK, with a request and an answer."""
    there, back = draw.getrandbits(32), draw.getrandbits(32)
    ends = IP(src=client, dst=server) / TCP(sport=port, dport=service)
    answer = IP(src=server, dst=client) / TCP(sport=service, dport=port)

    def segment(layers: Packet, flags: str, seq: int, ack: int, data: bytes = b"") -> Packet:
        made = layers.copy()
        made[TCP].flags, made[TCP].seq, made[TCP].ack = flags, seq % 2**32, ack % 2**32
        return made / Raw(data) if data else made

    yield segment(ends, "S", there, 0)
    yield segment(answer, "SA", back, there + 1)
    yield segment(ends, "A", there + 1, back + 1)
    yield segment(ends, "PA", there + 1, back + 1, b"please")
    yield segment(answer, "A", back + 1, there + 7)
    yield segment(answer, "PA", back + 1, there + 7, b"here it is")
    yield segment(ends, "FA", there + 7, back + 11)
    yield segment(answer, "FA", back + 11, there + 8)
    yield segment(ends, "A", there + 8, back + 12)


def knocks(draw: random.Random, client: str, port: int, server: str, service: int) -> Iterator[Packet]:
    """A SYN that nobody answers, sent three times."""
    syn = IP(src=client, dst=server) / TCP(sport=port, dport=service, flags="S", seq=draw.getrandbits(32))
    yield from (syn.copy() for _ in range(3))


def packets() -> Iterator[Packet]:
    draw = random.Random(SEED)
    yield from conversation(draw, CUSTOMER, 40112, BALANCER, 443)
    yield from conversation(draw, BALANCER, 51020, WEB, 8080)
    yield from conversation(draw, WEB, 36630, DATABASE, 5432)
    yield from knocks(draw, LOST_LAPTOP, 50022, WEB, 22)
    yield from conversation(draw, OFFICE, 50023, WEB, 22)
    yield IP(src=WEB, dst="224.0.0.251") / UDP(sport=5353, dport=5353) / Raw(b"who is there?")


def write(path: str) -> None:
    frames = []
    for packet, number in zip(packets(), count(), strict=False):
        frame = Ether(src=MACS[0], dst=MACS[1]) / packet
        frame.time = BEGAN_S + STEP_S * number
        frames.append(frame)
    wrpcap(path, frames)


if __name__ == "__main__":
    write(sys.argv[1])

"""Writes the captures of examples/: traffic of the shop in netns-lab/scenarios/20-three-tier.

Owns what is in them. The same seed gives the same octets. Must not know sgdataplane.

    shop.pcap       a few conversations, which docs/replay.md replays; the load balancer has another address there
                    (172.31.0.10), as behind NAT
    shop-day.pcap   a day, of which docs/suggest.md makes rules

    .venv/bin/python tools/capture.py examples
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

SEED, BEGAN_S, STEP_S, BETWEEN_S = 20, 1_700_000_000.0, 0.001, 1_000.0
CUSTOMER, OFFICE, LOST_LAPTOP = "198.51.100.50", "198.51.100.17", "192.0.2.66"
BALANCER, WEB, DATABASE, RESOLVER = "172.31.0.10", "10.20.2.11", "10.20.3.21", "10.20.0.53"
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


def day() -> Iterator[tuple[float, Packet]]:
    """Packets of a day with their times, one conversation after the other."""
    draw = random.Random(SEED + 1)
    for number, packets_ in enumerate(conversations(draw)):
        at = BEGAN_S + number * BETWEEN_S
        yield from ((at + STEP_S * place, packet) for place, packet in enumerate(packets_))


def conversations(draw: random.Random) -> Iterator[Iterator[Packet]]:
    """Customers, the tiers below them, the office, and some who are refused."""
    balancer, webs, databases = "10.20.1.10", ("10.20.2.11", "10.20.2.12"), ("10.20.3.21", "10.20.3.22")
    for number in range(24):
        customer, web = f"198.51.100.{50 + number}", webs[number % 2]
        yield conversation(draw, customer, 40100 + number, balancer, 443)
        yield conversation(draw, balancer, 51000 + number, web, 8080)
        yield conversation(draw, web, 36600 + number, databases[0], 5432)
    yield conversation(draw, databases[0], 41000, databases[1], 5432)
    for number, host in enumerate((balancer, *webs, *databases)):
        yield lookup(host, 50100 + number)
    yield conversation(draw, "192.0.2.10", 50200, webs[0], 22)
    yield conversation(draw, OFFICE, 50201, databases[1], 22)
    yield knocks(draw, LOST_LAPTOP, 50202, webs[0], 22)
    yield knocks(draw, "203.0.113.9", 50203, balancer, 443)
    yield knocks(draw, "198.51.100.200", 50204, webs[1], 23)


def lookup(host: str, port: int) -> Iterator[Packet]:
    """A question to the resolver, and its answer."""
    yield IP(src=host, dst=RESOLVER) / UDP(sport=port, dport=53) / Raw(b"where is it?")
    yield IP(src=RESOLVER, dst=host) / UDP(sport=53, dport=port) / Raw(b"here")


def write(path: str, timed: Iterable[tuple[float, Packet]]) -> None:
    frames = []
    for time, packet in timed:
        frame = Ether(src=MACS[0], dst=MACS[1]) / packet
        frame.time = time
        frames.append(frame)
    wrpcap(path, frames)


if __name__ == "__main__":
    write(f"{sys.argv[1]}/shop.pcap", ((BEGAN_S + STEP_S * number, packet) for number, packet in enumerate(packets())))
    write(f"{sys.argv[1]}/shop-day.pcap", day())

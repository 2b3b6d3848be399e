"""IPv6 packets with any chain of headers, as scapy builds them, and what the specification has a reader find there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.ipsec import AH
from scapy.packet import Packet, Raw

SOURCE_PORT, PORT, TOKEN = 4000, 53, "0123456789abcdef"
MESSAGE = Raw(f"sgdp-ask:{TOKEN}\n".encode())
IDENT = 7


def odd(following: int) -> Packet:
    """Of the shape that extension headers have (RFC 6564)."""
    return Raw(bytes([following, 0]) + bytes(6))


BETWEEN: dict[str, tuple[int, Callable[[int], Packet]]] = {
    "hop-by-hop": (0, lambda nh: IPv6ExtHdrHopByHop(nh=nh, options=[PadN(optdata=bytes(4))])),
    "routing": (43, lambda nh: IPv6ExtHdrRouting(nh=nh, segleft=0)),
    "routing-of-two": (43, lambda nh: IPv6ExtHdrRouting(nh=nh, segleft=0, addresses=["::1", "::2"])),
    "options": (60, lambda nh: IPv6ExtHdrDestOpt(nh=nh, options=[PadN(optdata=bytes(4))])),
    "long-options": (60, lambda nh: IPv6ExtHdrDestOpt(nh=nh, options=[PadN(optdata=bytes(36))])),
    "atomic": (44, lambda nh: IPv6ExtHdrFragment(nh=nh, id=IDENT)),
    "first-piece": (44, lambda nh: IPv6ExtHdrFragment(nh=nh, id=IDENT, m=1)),
    "later-piece": (44, lambda nh: IPv6ExtHdrFragment(nh=nh, id=IDENT, offset=9)),
    "ah": (51, lambda nh: AH(nh=nh, spi=1, seq=1, icv=bytes(12))),
    "esp": (50, odd),
    "nothing": (59, odd),
    "mobility": (135, odd),
    "hip": (139, odd),
    "shim6": (140, odd),
    "experiment": (253, odd),
}
SKIPPED = (0, 43, 44, 60)
LAST = {
    "tcp": (6, TCP(sport=SOURCE_PORT, dport=PORT) / MESSAGE),
    "udp": (17, UDP(sport=SOURCE_PORT, dport=PORT) / MESSAGE),
    "echo": (58, ICMPv6EchoRequest(id=IDENT) / MESSAGE),
    "252": (252, MESSAGE),
}


@dataclass(frozen=True)
class Found:
    """`protocol`: what rules judge. `has_upper`: no later fragment."""

    protocol: int
    has_upper: bool

    @property
    def ports(self) -> tuple[int, int] | None:
        return (SOURCE_PORT, PORT) if self.has_upper and self.protocol in (6, 17) else None


def packet_of(chain: Sequence[str], source: str = "2001:db8::1", target: str = "2001:db8::2") -> Packet:
    """`chain`: names of BETWEEN, and one of LAST."""
    *between, last = chain
    numbers = [BETWEEN[name][0] for name in between] + [LAST[last][0]]
    packet = IPv6(src=source, dst=target, nh=numbers[0])
    for name, (_, following) in zip(between, pairwise(numbers), strict=True):
        packet /= BETWEEN[name][1](following)
    return packet / LAST[last][1]


def found_in(chain: Sequence[str]) -> Found:
    """Written from RFC 8200 and what Linux skips, on purpose once more."""
    *between, last = chain
    numbers = [*(BETWEEN[name][0] for name in between), LAST[last][0]]
    for at, name in enumerate(between):
        if numbers[at] not in SKIPPED:
            return Found(numbers[at], has_upper=True)
        if name == "later-piece":
            return Found(numbers[at + 1], has_upper=False)
    return Found(numbers[-1], has_upper=True)


def pieces_in(chain: Sequence[str]) -> list[int]:
    """Places of the fragment headers that are read; those that stand for all of a datagram aren't pieces."""
    found = []
    for at, name in enumerate(chain[:-1]):
        if BETWEEN[name][0] not in SKIPPED:
            break
        if name in ("atomic", "first-piece", "later-piece"):
            found.append(at)
        if name == "later-piece":
            break
    return found

"""What real filter sets looked like: the parameters of three of ClassBench's seeds, as data.

Owns the numbers. Must not know how they become rules. Weights are relative; those of one table need no common sum.

Source: D. E. Taylor, J. S. Turner, "ClassBench: A Packet Classification Benchmark", IEEE/ACM Transactions on Networking
15(3), 2007 (also WUCSE-2004-28). It names the five port classes and says how seeds describe a set:

    WC  any port    LO  0..1023    HI  1024..65535    AR  some other range    EM  one port

    ACL   seed `acl1` (an access list of 733 rules), rounded: protocols, joint port classes, port values, pairs of
          prefix lengths, nesting thresholds, branching and skew are its own; most of fifty rare ports are left out.
    FW    seed `fw1` (a firewall), IPC seed `ipc1` (an IP chain): the seeds themselves weren't available. The numbers
          here are round figures, counted in part of the sets of 1,000 that the original generator makes from them.

    WIDE  no real set: what makes sets hard, in one. In three quarters of the rules both address blocks are wide, and
          most have ranges of both ports, which overlap each other.

Not taken over: TCP flags, which a security group doesn't have, and the correlation of source and destination.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Weights = tuple[tuple[str, int], ...]
Ranges = tuple[tuple[tuple[int, int], int], ...]  # (first, last), weight
Lengths = tuple[tuple[tuple[int, int], int], ...]  # (source, destination), weight


@dataclass(frozen=True, slots=True)
class Tree:
    """How addresses branch. `bands`: (below this bit, percent of nodes with two children, skew in percent). Skew is
    what the lighter child's share is short of the heavier one's. `nesting`: at most how many prefixes of the set are on
    one path."""

    bands: tuple[tuple[int, int, int], ...]
    nesting: int


@dataclass(frozen=True, slots=True)
class Seed:
    """`protocols`: by name, with the joint classes of (source, destination) ports of its rules. A protocol without
    ports has ("wc_wc", 1). `lengths`: by joint class; "" is for all others."""

    protocols: tuple[tuple[str, int, Weights], ...]
    lengths: Mapping[str, Lengths]
    source_exact: Ranges
    port_exact: Ranges
    source_ranges: Ranges
    port_ranges: Ranges
    source: Tree
    destination: Tree


def _singles(*ports: int, weight: int = 10) -> Ranges:
    return tuple(((port, port), weight) for port in ports)


NO_PORTS: Weights = (("wc_wc", 1),)

ACL = Seed(
    protocols=(
        ("all", 85, NO_PORTS),
        ("icmp", 31, NO_PORTS),
        ("tcp", 873, (("wc_wc", 216), ("wc_ar", 131), ("wc_em", 653))),
        ("udp", 11, (("wc_ar", 125), ("wc_em", 875))),
    ),
    lengths={
        "wc_wc": (
            ((32, 32), 489), ((32, 24), 112), ((23, 32), 99), ((32, 22), 81), ((23, 16), 54), ((31, 32), 27),
            ((30, 22), 18), ((30, 32), 18), ((31, 22), 9), ((23, 31), 9), ((23, 25), 14), ((23, 4), 40),
            ((8, 0), 5), ((0, 8), 5), ((0, 13), 5), ((0, 0), 5),
        ),
        "wc_ar": (((32, 32), 953), ((31, 32), 35), ((23, 32), 12)),
        "wc_em": (
            ((32, 32), 847), ((32, 22), 42), ((23, 32), 28), ((31, 32), 26), ((32, 31), 16), ((30, 22), 14),
            ((32, 30), 12), ((31, 22), 7), ((23, 28), 5), ((23, 31), 2),
        ),
    },
    source_exact=(),
    port_exact=(
        *(((port, port), weight) for port, weight in ((1521, 188), (1526, 54), (1221, 42), (1433, 35))),
        *_singles(135, 1525, 14753, 1704, 1708, 1711, 1712, weight=25),
        *_singles(20, 21, 1705, 1706, 1707, 1717, 1724, 1733, 1734, 5540, 5541, 5555, 6000, weight=20),
        *_singles(1489, 1490, 5631, 5632, 6789, 1715, 2121, weight=13),
        *_singles(80, 443, 512, 1352, 1540, 1600, 2026, 2110, 3031, 3745, 6849, 27000, 30210, 31000, 65500, weight=14),
    ),
    source_ranges=(),
    port_ranges=(
        ((1600, 1649), 82), ((1300, 1349), 71), ((1300, 1350), 71), ((7500, 7599), 47), ((2200, 2210), 47),
        ((1025, 65535), 35), ((5001, 65535), 35), ((1700, 1750), 35), ((32200, 32207), 35), ((8000, 8100), 35),
        *(((first, first + 9), 24) for first in range(61000, 62800, 100)),
        ((1700, 1720), 24), ((1600, 1650), 24), ((62200, 62239), 12), ((1300, 1399), 12),
    ),
    source=Tree(((23, 0, 0), (32, 65, 45)), nesting=4),
    destination=Tree(((5, 80, 70), (9, 40, 65), (32, 10, 55)), nesting=4),
)  # fmt: skip

FW = Seed(
    protocols=(
        ("tcp", 50, (("wc_em", 72), ("wc_wc", 19), ("hi_hi", 9))),
        ("udp", 38, (("wc_em", 45), ("em_wc", 25), ("hi_em", 8), ("em_hi", 8), ("hi_hi", 8), ("em_em", 6))),
        ("icmp", 6, NO_PORTS),
        ("gre", 3, NO_PORTS),
        ("all", 3, NO_PORTS),
    ),
    lengths={
        "wc_em": (((0, 32), 30), ((0, 31), 15), ((0, 30), 20), ((1, 32), 20), ((2, 32), 5), ((31, 0), 5), ((0, 27), 5)),
        "em_wc": (((32, 0), 30), ((31, 0), 35), ((30, 0), 5), ((31, 1), 15), ((32, 2), 5), ((0, 31), 10)),
        "": (
            ((32, 32), 20), ((31, 32), 15), ((32, 31), 10), ((32, 28), 10), ((30, 31), 10), ((29, 31), 5),
            ((32, 20), 5), ((31, 21), 5), ((0, 32), 5), ((32, 0), 5), ((1, 32), 5), ((27, 32), 5),
        ),
    },
    source_exact=_singles(53, 67, 69, 88, 123, 161, 162, 750, 7648, 24032),
    port_exact=(
        *_singles(22, 25, 53, 80, weight=30),
        *_singles(21, 23, 37, 67, 69, 88, 110, 113, 119, 123, 137, 138, 139, 143, 161, 179, 443, 544, weight=8),
        *_singles(750, 754, 871, 873, 879, 1999, 2055, 2105, 2401, 5998, 5999, 7326, 7648, 7649, 8080, 24032, weight=5),
    ),
    source_ranges=(),
    port_ranges=(),
    source=Tree(((8, 60, 40), (20, 12, 50), (32, 40, 40)), nesting=6),
    destination=Tree(((3, 90, 30), (20, 8, 50), (32, 45, 40)), nesting=6),
)  # fmt: skip

IPC = Seed(
    protocols=(
        ("all", 30, NO_PORTS),
        ("udp", 40, (("wc_em", 55), ("em_wc", 25), ("wc_hi", 15), ("hi_wc", 3), ("wc_ar", 2))),
        ("tcp", 27, (("wc_em", 45), ("em_wc", 30), ("wc_wc", 14), ("wc_ar", 6), ("ar_wc", 5))),
        ("icmp", 2, NO_PORTS),
        ("gre", 1, NO_PORTS),
    ),
    lengths={
        "wc_wc": (
            ((24, 23), 20), ((23, 24), 20), ((22, 25), 12), ((21, 25), 8), ((17, 24), 12), ((16, 26), 8),
            ((23, 16), 15), ((24, 16), 10), ((22, 17), 8), ((25, 15), 5), ((28, 16), 4), ((0, 24), 4),
            ((23, 0), 4), ((32, 32), 10),
        ),
        "": (
            ((32, 32), 25), ((32, 31), 10), ((31, 32), 10), ((31, 24), 8), ((23, 32), 12), ((24, 31), 8), ((24, 24), 5),
            ((23, 25), 5), ((32, 16), 4), ((28, 15), 3), ((16, 29), 3), ((22, 32), 4), ((0, 24), 2), ((23, 0), 2),
        ),
    },
    source_exact=_singles(25, 53, 69, 80, 138, 143, 161, 500, 1098, 1433, 5520, 5540, 5550),
    port_exact=(
        *_singles(53, 69, 80, 514, weight=30),
        *_singles(25, 113, 119, 135, 137, 139, 143, 162, 500, 1433, 1645, 5500, 5520, 5530, 5550, 5631, weight=8),
        *_singles(5000, 6346, 6970, 7777, 8875, 9003, 32774, weight=8),
    ),
    source_ranges=(((20, 23), 29), ((109, 110), 29), ((20, 21), 24), ((1645, 1646), 15), ((5000, 5001), 3)),
    port_ranges=(((20, 23), 29), ((20, 21), 29), ((109, 110), 24), ((1645, 1646), 18)),
    source=Tree(((8, 70, 40), (24, 15, 50), (32, 40, 45)), nesting=7),
    destination=Tree(((8, 75, 40), (24, 15, 50), (32, 40, 45)), nesting=7),
)  # fmt: skip

_OF_BOTH_PORTS: Weights = (
    ("wc_em", 10), ("em_wc", 10), ("wc_wc", 10), ("hi_hi", 15),
    ("hi_ar", 15), ("ar_hi", 10), ("ar_ar", 20), ("lo_hi", 10),
)  # fmt: skip
WIDE = Seed(
    protocols=(("tcp", 60, _OF_BOTH_PORTS), ("udp", 25, _OF_BOTH_PORTS), ("icmp", 5, NO_PORTS), ("all", 10, NO_PORTS)),
    lengths={
        "": (
            ((0, 0), 4),
            ((0, 8), 8),
            ((8, 0), 8),
            ((0, 16), 8),
            ((16, 0), 8),
            ((8, 8), 10),
            ((12, 16), 10),
            ((16, 12), 10),
            ((16, 16), 9),
            ((24, 8), 8),
            ((8, 24), 8),
            ((32, 24), 4),
            ((24, 32), 5),
        ),
    },
    source_exact=_singles(53, 67, 69, 88, 123, 161, 162, 750, 7648, 24032),
    port_exact=_singles(22, 25, 53, 80, 110, 143, 443, 1433, 3306, 5432, 8080),
    source_ranges=tuple(((first, first + 9_999), 10) for first in range(1, 55_000, 2_500)),
    port_ranges=tuple(((first, first + 4_999), 10) for first in range(1, 60_000, 1_250)),
    source=Tree(((16, 60, 40), (32, 40, 40)), nesting=8),
    destination=Tree(((16, 60, 40), (32, 40, 40)), nesting=8),
)

SEEDS: Mapping[str, Seed] = {"acl": ACL, "fw": FW, "ipc": IPC, "wide": WIDE}

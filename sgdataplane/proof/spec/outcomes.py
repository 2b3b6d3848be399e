"""Name what can happen to a packet: effects on it, and where it ends.

The specification and the table that is walked are compared by these values.
"""

from __future__ import annotations

from sgdataplane.nft.ir import Count, MapPriority, SetMark, SetPacketMark, SetPriority

Effect = Count | SetMark | SetPacketMark | SetPriority | MapPriority
Effects = tuple[Effect, ...]
# The effects on a packet, and where it ends: "accept", "drop", "end" (of the base chain), or what a stop stands for.
Outcome = tuple[Effects, str]


def counter_of(outcome: Outcome) -> str:
    """Return the counter that packets meet first; "" if there is none.

    Many outcomes are told apart by it, as hashing an outcome is slow.
    """
    first = outcome[0][0] if outcome[0] else None
    return first.counter if isinstance(first, Count) else ""

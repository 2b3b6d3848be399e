"""Gathering flows: what was seen one by one becomes counts by bucket, ENI and other end.

Owns how much may be held, whatever others send. Is given what was seen, and when. Must not know where it comes from, or
where it goes.

    other ends of an ENI in an hour     are kept as
    the first 1,000                     they are
    further ones, in 1,000 blocks       their /24 (IPv4) or /64 (IPv6)
    all others                          0.0.0.0/0 or ::/0

The same holds for an ENI's rows: beyond 4,000 an hour, one row has all ends, protocols and ports of what one rule
decided. And all ENIs together have at most half a million of all of these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from sgdataplane.history.rows import ANY, BUCKET_S, HOUR_S, REST, Fate, FlowCount, FlowKey
from sgdataplane.history.write import PendingRows
from sgdataplane.net.values import Address, Direction, Prefix

MAX_ENDS, MAX_BLOCKS, MAX_ROWS = 1000, 1000, 4000  # of an ENI in an hour
MAX_ALL = 500_000  # of all of these, of all ENIs
BLOCK = {32: 24, 128: 64}


class Seen(NamedTuple):
    """One packet that was dropped, or that opened a session."""

    at: int
    """Seconds since 1970."""
    eni_id: str
    direction: Direction
    end: str | Address
    """The id of the other end's ENI, or its address."""
    protocol: int
    port: int
    """As in a FlowKey."""
    bytes: int
    fate: Fate
    cause: str
    group_id: str
    rule_id: str


@dataclass(slots=True)
class _HourOfEni:
    """The ends, blocks and rows that one ENI has had in this hour, as hashes."""

    ends: set[int] = field(default_factory=set)
    blocks: set[int] = field(default_factory=set)
    rows: set[int] = field(default_factory=set)


class Gatherer:
    """A counter of what was seen, which adds it to pending rows and bounds how many there are."""

    def __init__(self) -> None:
        self._hour, self._held = 0, 0
        self._enis: dict[str, _HourOfEni] = {}

    def note(self, seen: Seen, pending: PendingRows, times: int = 1) -> None:
        """Add to the pending rows what was seen, `times` times."""
        hour = seen.at // HOUR_S
        if hour != self._hour:
            self._hour, self._held, self._enis = hour, 0, {}
        key, is_merged = self._key(seen)
        flows = pending.at(seen.at // BUCKET_S * BUCKET_S, BUCKET_S).flows
        found = flows.get(key)
        if found is None:
            flows[key] = FlowCount(times, seen.bytes, seen.at, seen.at, is_merged=is_merged)
            return
        found.packets += times
        found.bytes += seen.bytes
        found.first, found.last = min(found.first, seen.at), max(found.last, seen.at)

    def _key(self, seen: Seen) -> tuple[FlowKey, bool]:
        """Return the row's key, and whether it stands for several ends or ports."""
        of_eni = self._enis.setdefault(seen.eni_id, _HourOfEni())
        end, is_merged = self._end(of_eni, seen.end)
        what = (seen.fate, seen.cause, seen.group_id, seen.rule_id)
        key = FlowKey(seen.eni_id, seen.direction, end, seen.protocol, seen.port, *what)
        if self._is_held(of_eni.rows, hash(key), MAX_ROWS):
            return key, is_merged
        bits = 128 if ":" in end else 32
        return FlowKey(seen.eni_id, seen.direction, REST[bits], ANY, ANY, *what), True

    def _end(self, of_eni: _HourOfEni, end: str | Address) -> tuple[str, bool]:
        """Return the other end as the row has it, and whether it stands for several."""
        if isinstance(end, str):  # a state has only so many ENIs
            return end, False
        if self._is_held(of_eni.ends, hash(end), MAX_ENDS):
            return str(end), False
        length = BLOCK[end.family_bits]
        host = (1 << (end.family_bits - length)) - 1
        block = Prefix(end.family_bits, end.value & ~host, length)
        if self._is_held(of_eni.blocks, hash(block), MAX_BLOCKS):
            return str(block), True
        return REST[end.family_bits], True

    def _is_held(self, some: set[int], one: int, most: int) -> bool:
        """Return whether it is one of the first `most`, and not too many are held of everything."""
        if one in some:
            return True
        if len(some) >= most or self._held >= MAX_ALL:
            return False
        some.add(one)
        self._held += 1
        return True

"""What passes between two addresses, exactly.

From ordered permissions it makes the protocols, ports and further numbers (FURTHER, which few rules require) that they
accept. Owns these sets and their algebra. Is given permissions that are known to hold for the two addresses. Must not
know addresses, groups or how a set is shown.

Ports are 1..65535: no rule can name port 0 (semantics.md, section 2), and nobody listens there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from math import prod
from operator import and_

from sgdataplane.net.ranges import Interval, Ranges, holds, unite
from sgdataplane.net.values import Family, Verdict
from sgdataplane.policy.dimensions import FURTHER, PORTS, Condition
from sgdataplane.policy.resolve import Permission

OTHER = -1  # every protocol that no permission names
EVERY_PORT: Ranges = ((1, 65535),)
EVERY = tuple(EVERY_PORT if each.domain is PORTS else each.whole(Family.IPV4) for each in FURTHER)
Accepted = tuple[tuple[tuple[Ranges, ...], int], ...]  # numbers in each of FURTHER, and the ports there, as bits
EVERY_BIT = (1 << 65536) - 2  # EVERY_PORT, as bits


@dataclass(frozen=True, slots=True, order=True)
class PassingRow:
    """Sessions of one protocol that pass."""

    protocol: int
    """The protocol's number; OTHER is every protocol that isn't in `Passing.named`."""
    ports: Ranges = EVERY_PORT
    """The ports to which they pass; all of them for protocols other than TCP and UDP."""
    further: tuple[Ranges, ...] = EVERY
    """The numbers in each of FURTHER with which they pass."""


@dataclass(frozen=True, slots=True)
class Passing:
    """Everything that passes: no two rows share a session, and equal sets are equal values."""

    rows: tuple[PassingRow, ...] = ()
    named: tuple[int, ...] = ()
    """The protocols that don't pass as OTHER does; they have rows of their own, or none."""

    def __bool__(self) -> bool:
        return bool(self.rows)


def find_passing(ways: Sequence[Sequence[Permission]], family: Family) -> Passing:
    """Return what all of these ways accept; each is an order of permissions that ends in one for everything."""
    named = {
        permission.protocol.number
        for way in ways
        for permission in way
        if not permission.protocol.is_all and permission.protocol.exists_in(family)
    }
    return normal({number: _rows(ways, number, family) for number in (*named, OTHER)})


def normal(rows_of: dict[int, tuple[PassingRow, ...]]) -> Passing:
    """Return the normal form of the rows of each protocol, OTHER among them."""
    usual = [(row.ports, row.further) for row in rows_of[OTHER]]
    differing = sorted(
        number
        for number, rows in rows_of.items()
        if number != OTHER and [(row.ports, row.further) for row in rows] != usual
    )
    kept = (OTHER, *differing)
    return Passing(tuple(row for number in kept for row in rows_of[number]), tuple(differing))


def _of_protocol(way: Iterable[Permission], number: int, family: Family) -> list[Permission]:
    if number == OTHER:
        return [permission for permission in way if permission.protocol.is_all]
    return [permission for permission in way if permission.protocol.matches(number, family)]


def effort(ways: Sequence[Sequence[Permission]], family: Family) -> int:
    """Return about how many permissions `find_passing` examines; the rest of its work costs as much as twenty."""
    cuts = [{span for way in ways for p in way for span in each.of_rule(p, family) or ()} for each in FURTHER]
    return 20 + prod(1 + len(spans) for spans in cuts) * sum(map(len, ways))


def _rows(ways: Iterable[Iterable[Permission]], number: int, family: Family) -> tuple[PassingRow, ...]:
    """Return the sessions of one protocol that all ways accept."""
    found = _combine_accepted([_of_protocol(way, number, family) for way in ways], FURTHER, family)
    return tuple(sorted(PassingRow(number, _ranges(ports), further) for further, ports in found))


def _combine_accepted(ways: Sequence[Sequence[Permission]], left: Sequence[Condition], family: Family) -> Accepted:
    """Return what all ways accept; equal sets have equal forms.

    In each dimension that is left, numbers that lead to the same result are joined.
    """
    if not left:
        ports = reduce(and_, map(_list_accepted_ports, ways))
        return (((), ports),) if ports else ()
    found: dict[Accepted, list[Interval]] = {}
    asked = [[(p, left[0].of_rule(p, family)) for p in way] for way in ways]
    for piece in _cut(left[0], [span for way in asked for _, ranges in way for span in ranges or ()]):
        held = [[p for p, ranges in way if ranges is None or holds(ranges, piece[0])] for way in asked]
        found.setdefault(_combine_accepted(held, left[1:], family), []).append(piece)
    return tuple(((unite(spans), *rest), ports) for inner, spans in found.items() for rest, ports in inner)


def _list_accepted_ports(way: Iterable[Permission]) -> int:
    """Return the ports that an order accepts, as bits.

    There can be a thousand permissions; each takes its ports away from those after it.
    """
    left, accepted = EVERY_BIT, 0
    for permission in way:
        ports = left if permission.ports is None else left & _bits(permission.ports)
        if permission.decision.verdict is Verdict.ACCEPT:
            accepted |= ports
        left ^= ports
        if not left:
            break
    return accepted


@lru_cache(maxsize=4096)
def _bits(ports: Ranges) -> int:
    """Return ports as a number, with a bit for each."""
    return sum((1 << last + 1) - (1 << first) for first, last in ports)


def _ranges(bits: int) -> Ranges:
    """Return the ports that a number stands for, the inverse of `_bits`."""
    found, first = list[Interval](), 0
    while bits:
        zeros = (bits & -bits).bit_length() - 1
        bits >>= zeros
        ones = (~bits & bits + 1).bit_length() - 1
        bits >>= ones
        found.append((first + zeros, first + zeros + ones - 1))
        first += zeros + ones
    return tuple(found)


def _cut(condition: Condition, spans: Iterable[Interval]) -> list[Interval]:
    """Return all numbers of a condition, cut wherever one of the spans begins or ends."""
    ((first, last),) = EVERY[FURTHER.index(condition)]
    starts = sorted({first, *(edge for span in spans for edge in (span[0], span[1] + 1) if edge <= last)})
    return list(zip(starts, [start - 1 for start in starts[1:]] + [last], strict=True))

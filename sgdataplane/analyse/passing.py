"""What passes between two places, by protocol and port, exactly: ordered permissions -> the sets that they accept.

Owns these sets and their algebra. Is given permissions that are known to hold for the two addresses. Must not know
addresses, groups or how a set is shown.

Ports are 1..65535: no rule can name port 0 (semantics.md section 2), and nobody listens there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sgdataplane.net.ranges import Interval, Ranges, holds, united
from sgdataplane.net.values import Family, Protocol, Verdict
from sgdataplane.policy.resolve import Permission

OTHER = -1  # every protocol that no permission names
EVERY_PORT: Ranges = ((1, 65535),)
EVERY_BIT = (1 << 65536) - 2  # the same as a number


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """Sessions of one protocol that pass: to these ports, from these source ports; both all for other protocols than
    TCP and UDP. `protocol` OTHER: every protocol that has no row of its own and isn't in `Passing.named`."""

    protocol: int
    ports: Ranges = EVERY_PORT
    source_ports: Ranges = EVERY_PORT

    @property
    def is_whole(self) -> bool:
        return self.ports == EVERY_PORT and self.source_ports == EVERY_PORT


@dataclass(frozen=True, slots=True)
class Passing:
    """All that passes: no two rows share a session, and equal sets are equal values. `named`: the protocols that OTHER
    doesn't stand for, only those that differ from it."""

    rows: tuple[Row, ...] = ()
    named: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def is_everything(self) -> bool:
        return self.rows == (Row(OTHER),) and not self.named

    def accepts(self, protocol: int, port: int | None = None, source_port: int | None = None) -> bool:
        """Whether a session passes; ports are None where the protocol has none."""
        key = protocol if protocol in self.named else OTHER
        return any(
            row.protocol == key and (port is None or source_port is None or _is_in(row, port, source_port))
            for row in self.rows
        )


NOTHING = Passing()


def _is_in(row: Row, port: int, source_port: int) -> bool:
    return holds(row.ports, port) and holds(row.source_ports, source_port)


def passing(ways: Sequence[Sequence[Permission]], family: Family) -> Passing:
    """What all of these ways accept, each an order of permissions that ends in one for everything."""
    named = {
        permission.protocol.number
        for way in ways
        for permission in way
        if not permission.protocol.is_all and permission.protocol.exists_in(family)
    }
    rows_of = {number: _rows([_of_protocol(way, number, family) for way in ways], number) for number in named}
    rows_of[OTHER] = _rows([_of_protocol(way, OTHER, family) for way in ways], OTHER)
    return normal(rows_of)


def normal(rows_of: dict[int, tuple[Row, ...]]) -> Passing:
    """From the rows of each protocol, OTHER among them."""
    usual = [(row.ports, row.source_ports) for row in rows_of[OTHER]]
    differing = sorted(
        number
        for number, rows in rows_of.items()
        if number != OTHER and [(row.ports, row.source_ports) for row in rows] != usual
    )
    kept = (OTHER, *differing)
    return Passing(tuple(row for number in kept for row in rows_of[number]), tuple(differing))


def _of_protocol(way: Iterable[Permission], number: int, family: Family) -> list[Permission]:
    if number == OTHER:
        return [permission for permission in way if permission.protocol.is_all]
    return [permission for permission in way if permission.protocol.matches(number, family)]


def effort(ways: Sequence[Sequence[Permission]]) -> int:
    """About how many permissions `passing` looks at; what it does besides costs as much as twenty."""
    cuts = {span for way in ways for permission in way for span in permission.source_ports or ()}
    return 20 + (1 + len(cuts)) * sum(map(len, ways))


def _rows(ways: Sequence[Sequence[Permission]], number: int) -> tuple[Row, ...]:
    """The sessions of one protocol that all ways accept, source ports with equal ports joined."""
    if not Protocol(number).has_ports:
        return (Row(number),) if all(way[0].decision.verdict is Verdict.ACCEPT for way in ways) else ()
    found: dict[int, list[Interval]] = {}
    for source in _cut(span for way in ways for permission in way for span in permission.source_ports or ()):
        ports = EVERY_BIT
        for way in ways:
            ports &= _accepted(way, source)
        if ports:
            found.setdefault(ports, []).append(source)
    return tuple(sorted(Row(number, _ranges(ports), united(sources)) for ports, sources in found.items()))


def _accepted(way: Iterable[Permission], source: Interval) -> int:
    """The ports that an order accepts from source ports which no permission tells apart, as bits: there can be a
    thousand permissions, each of which takes its ports from those after it."""
    left, accepted = EVERY_BIT, 0
    for permission in way:
        sources = permission.source_ports
        if sources is not None and not any(first <= source[0] <= last for first, last in sources):
            continue
        ports = left if permission.ports is None else left & _bits(permission.ports)
        if permission.decision.verdict is Verdict.ACCEPT:
            accepted |= ports
        left ^= ports
        if not left:
            break
    return accepted


@lru_cache(maxsize=4096)
def _bits(ports: Ranges) -> int:
    return sum((1 << last + 1) - (1 << first) for first, last in ports)


def _ranges(bits: int) -> Ranges:
    """The other way round."""
    found, first = list[Interval](), 0
    while bits:
        zeros = (bits & -bits).bit_length() - 1
        bits >>= zeros
        ones = (~bits & bits + 1).bit_length() - 1
        bits >>= ones
        found.append((first + zeros, first + zeros + ones - 1))
        first += zeros + ones
    return tuple(found)


def _cut(spans: Iterable[Interval]) -> list[Interval]:
    """All ports, cut wherever one of the spans begins or ends."""
    starts = sorted({1, *(edge for first, last in spans for edge in (first, last + 1) if edge <= 65535)})
    return list(zip(starts, [start - 1 for start in starts[1:]] + [65535], strict=True))

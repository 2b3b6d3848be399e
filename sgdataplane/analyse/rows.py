"""Traffic that rules judge, as rows for people.

A row is one range in each dimension, and there are as few rows as a sweep along each dimension makes. Owns the rows,
and which traffic of an ENI is judged at all: the rest is refused or passes whatever its rules say. Is given blocks and
ENIs. Must not know rules.

An ENI's own address among everyone else's would cut every rule for everyone in two, though traffic from there is
refused before any rule is evaluated. So addresses that are never judged are taken off the axis before rows are made,
and ranges reach over them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, product
from typing import NamedTuple

from sgdataplane.analyse.arrangement import LOCAL_AT
from sgdataplane.analyse.regions import DIMS, WHOLE, Block, Region, addresses, ranges_of
from sgdataplane.model import always
from sgdataplane.model.options import Options
from sgdataplane.model.state import Eni
from sgdataplane.net.ranges import Interval, Ranges, meet, minus, unite
from sgdataplane.net.values import UDP, Direction, Family, Prefix
from sgdataplane.policy.dimensions import DIMENSIONS, LOCAL, PORT, PROTOCOL, REMOTE, SOURCE_PORT, Dimension

FEW = 512  # for up to so many rows, all orders of merging are tried
PLACES = {dimension: place for place, dimension in enumerate(DIMENSIONS)}

Row = tuple[Interval, ...]  # in the order of DIMENSIONS


def at(row: Row, dimension: Dimension) -> Interval:
    """Return a row's range in one dimension."""
    return row[PLACES[dimension]]


class Axis:
    """The numbers that matter in a dimension, moved together."""

    def __init__(self, kept: Ranges) -> None:
        self._kept = kept
        self._places = (0, *accumulate(last - first + 1 for first, last in kept))  # where each range begins

    @property
    def whole(self) -> Interval:
        """The interval from the first number that matters to the last."""
        return self._kept[0][0], self._kept[-1][1]

    def places(self, ranges: Ranges) -> Ranges:
        """Return where a set lies on the axis; numbers that don't matter are left out."""
        return unite(self._shift(interval) for interval in meet(ranges, self._kept))

    def numbers(self, interval: Interval) -> Interval:
        """Return the first and last number of an interval on the axis."""
        return self._number(interval[0]), self._number(interval[1])

    def _shift(self, interval: Interval) -> Interval:
        index = bisect_right(self._kept, interval[0], key=lambda kept: kept[0]) - 1
        shift = self._places[index] - self._kept[index][0]
        return interval[0] + shift, interval[1] + shift

    def _number(self, place: int) -> int:
        index = bisect_right(self._places, place) - 1
        return self._kept[index][0] + place - self._places[index]


def rows(blocks: Iterable[Block], far: Axis, local: Axis) -> list[Row]:
    """Return disjoint blocks as disjoint rows, sorted: together the same traffic, as far as it matters.

    No two rows could be one. There may be a way with fewer rows: finding the fewest is NP-hard.
    """
    axes = {PLACES[REMOTE]: far, PLACES[LOCAL]: local}
    cells: list[Row] = [row for block in blocks for row in product(*_place(block, axes))]
    orders = [(*DIMS[start:], *DIMS[:start]) for start in DIMS] if len(cells) <= FEW else [tuple(DIMS)]
    best = min((_merge(cells, order) for order in orders), key=len)
    return sorted(tuple(axes[i].numbers(part) if i in axes else part for i, part in enumerate(row)) for row in best)


def _place(block: Block, axes: Mapping[int, Axis]) -> Iterator[Ranges]:
    return (axes[i].places(ranges) if i in axes else ranges for i, ranges in enumerate(block))


def _merge(cells: list[Row], order: Iterable[int]) -> list[Row]:
    """Return the cells with neighbours along each dimension joined, until there are none."""
    found = cells
    while True:
        before = len(found)
        for dim in order:
            found = list(_merge_along(dim, found))
        if len(found) in (before, 1):
            return found


def _merge_along(dim: int, cells: list[Row]) -> Iterator[Row]:
    lines: dict[Row, list[Interval]] = {}
    for cell in cells:
        lines.setdefault((*cell[:dim], *cell[dim + 1 :]), []).append(cell[dim])
    for rest, intervals in lines.items():
        yield from ((*rest[:dim], interval, *rest[dim:]) for interval in unite(intervals))


class JudgedTraffic(NamedTuple):
    """The traffic of an ENI that its rules judge: with one of these far addresses and one of these local ones."""

    far: Ranges
    local: Ranges

    def region(self, family: Family) -> Region:
        """Return the traffic as a region; () if there is none."""
        shape = list(WHOLE[family])
        shape[LOCAL_AT] = self.local
        return (Block((self.far, *shape)),) if self.far and self.local else ()


NOTHING = JudgedTraffic((), ())


def judge_traffic(eni: Eni, direction: Direction, family: Family, options: Options) -> JudgedTraffic:
    """Return the traffic of an ENI that its rules judge in one direction and family.

    Ingress is traffic from others, to the ENI or to what it shares with others (multicast). Egress is traffic from the
    ENI's addresses, to everything except the metadata service. That is what `decide()` settles before it evaluates
    rules, as far as addresses tell. What it settles by ports or ICMP types (DHCP, discovery), by MAC or by TCP flags is
    not left out.
    """
    if direction is Direction.INGRESS:
        local = ranges_of((*eni.own_prefixes, *always.SHARED[family]), family)
        return JudgedTraffic(minus(addresses(family), ranges_of(eni.private_prefixes, family)), local)
    return JudgedTraffic(
        minus(addresses(family), ranges_of(options.metadata, family)), ranges_of(eni.own_prefixes, family)
    )


def is_all_dhcp(row: Row, direction: Direction, family: Family, options: Options) -> bool:
    """Return whether all traffic of a row is DHCP, which rules never judge."""
    client, server, everyone = always.DHCP[family]
    is_sent = direction is Direction.EGRESS
    source_port, port = (client, server) if is_sent else (server, client)
    known = ranges_of((Prefix.of(a) for a in (*options.gateways, *((everyone,) if is_sent else ()))), family)
    wanted = {PROTOCOL: UDP, SOURCE_PORT: source_port, PORT: port}
    is_dhcp = all(at(row, dimension) == (number, number) for dimension, number in wanted.items())
    return is_dhcp and not minus((at(row, REMOTE),), known)

"""What is open to the internet: by which rules of one state, and what a change opens.

Owns what the internet is, and when something is open to it. Is given policies.

In one state, a port at a local address is open if the rules that accept something there from the internet together name
all of it (one rule for 0.0.0.0/0, two for its halves, a prefix list): an address that nobody thought of gets in. Drops
that keep some of it out don't change that. Drops that leave nothing of what a rule accepts do.

A change opens what most of the public addresses may reach after it and might not before. Most, not all: a rule for
0.0.0.0/0 with one abuser refused is open, and so are 0.0.0.0/1 and 128.0.0.0/1, in one change or in two. What already
was open and loses such an exception has not been opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import and_
from typing import NamedTuple

from sgdataplane.analyse.arrangement import LOCAL_AT, PORT_AT, PROTOCOL_AT, Mask, TrafficCell, bits, mask_of, overlay
from sgdataplane.analyse.pools import PoolPolicy
from sgdataplane.analyse.regions import Block, Region, addresses, merge, ranges_of
from sgdataplane.model.decision import RULE
from sgdataplane.net.ranges import Ranges, count, holds, meet, minus, unite
from sgdataplane.net.values import TCP, Family, Prefix

# TCP ports that nobody means to open to everyone: remote control and data stores.
SENSITIVE = {
    22: "SSH", 23: "Telnet", 445: "SMB", 1433: "SQL Server", 1521: "Oracle", 2375: "Docker", 3306: "MySQL",
    3389: "RDP", 5432: "PostgreSQL", 5900: "VNC", 6379: "Redis", 9200: "Elasticsearch", 11211: "memcached",
    27017: "MongoDB",
}  # fmt: skip
GLOBAL = {Family.IPV4: ("0.0.0.0/0",), Family.IPV6: ("2000::/3",)}
# Special-purpose blocks, which no packet from the internet comes from (IANA's registries; RFC 6890).
NOT_GLOBAL = {
    Family.IPV4: (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
    ),
    Family.IPV6: ("2001::/23", "2001:db8::/32", "3fff::/20"),
}  # fmt: skip


def internet(family: Family, vpc: Iterable[Prefix]) -> Ranges:
    """Return all addresses of the internet, without the blocks of the VPC that faces it."""
    special = (*map(Prefix.parse, NOT_GLOBAL[family]), *vpc)
    return minus(ranges_of(map(Prefix.parse, GLOBAL[family]), family), ranges_of(special, family))


class Opening(NamedTuple):
    """A rule that lets the internet in to a sensitive port, or lets an ENI out to the internet."""

    rule: int
    """The place of the rule in its policy's order."""
    port: int | None
    """The port; None if an ENI is let out."""
    others: tuple[int, ...] = ()
    """The rules without which it isn't all of the internet."""


def openings(policy: PoolPolicy, outside: Ranges, ports: Iterable[int | None]) -> Iterator[Opening]:
    """Yield the rules by which TCP ports are open to all of `outside`.

    Port None stands for everything, by rules for all protocols.
    """
    wide = [policy.order.entries[index].far for index in policy.rules.values() if policy.accepting >> index & 1]
    if sum(map(count, wide)) < count(outside):
        return
    classes = policy.order.classes(outside)
    accepted = list(_list_accepted(policy, classes))
    for port in ports:
        found = [part for part in accepted if _has_port(policy, part, port)]
        locals_ = ((part.cell.shape[LOCAL_AT], 1 << number) for number, part in enumerate(found))
        for some, local in overlay(locals_, addresses(policy.order.family)).items():
            accepting = 0
            for part in (found[number] for number in bits(some)):
                if not accepting >> part.winner & 1 and policy.is_met(part.far, local):
                    accepting |= 1 << part.winner
            yield from (Opening(index, port, others) for index, others in _find_covering(accepting, classes))


class _Accepted(NamedTuple):
    """Traffic from some of the outside, and the rule that accepts it."""

    far: Ranges
    cell: TrafficCell
    winner: int


def _list_accepted(policy: PoolPolicy, classes: Mapping[Mask, Ranges]) -> Iterator[_Accepted]:
    for holding, far in classes.items():
        for cell, winner in policy.cells(holding):
            if policy.decision(winner).cause == RULE and policy.accepting >> winner & 1:
                yield _Accepted(far, cell, winner)


def _has_port(policy: PoolPolicy, part: _Accepted, port: int | None) -> bool:
    if port is None:
        return policy.permission(part.winner).protocol.is_all
    return holds(part.cell.shape[PROTOCOL_AT], TCP) and holds(part.cell.shape[PORT_AT], port)


def _find_covering(accepting: Mask, classes: Iterable[Mask]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield the accepting rules that each cover all classes; if there is none, the fewest that do so together."""
    whole = reduce(and_, classes, accepting)
    if whole:
        yield from ((index, ()) for index in bits(whole))
    elif all(holding & accepting for holding in classes):
        few = accepting
        for index in bits(accepting):
            if all(holding & few & ~(1 << index) for holding in classes):
                few &= ~(1 << index)
        yield from ((index, tuple(other for other in bits(few) if other != index)) for index in bits(few))


def find_opened(before: Region, after: Region, family: Family) -> Region:
    """Return the traffic that more than half of the public addresses may send after and not before.

    `before` and `after` are what is accepted then, in disjoint blocks. The result holds whatever the far address is, so
    its `far` is the whole family.
    """
    public = internet(family, ())
    weights, shapes = [], []
    for sign, region in ((-1, before), (1, after)):
        for block in region:
            weight = count(meet(block.far, public))
            if weight:
                weights.append(sign * weight)
                shapes.append(block[1:])
    search = _Search(shapes, weights, count(public) // 2)
    return merge(Block((addresses(family), *shape)) for shape in search.open(0, mask_of(range(len(weights)))))


class _Search:
    """Cuts dimension by dimension where a shape begins or ends, and stops as soon as what remains can't be enough."""

    def __init__(self, shapes: Sequence[tuple[Ranges, ...]], weights: Sequence[int], enough: int) -> None:
        self._shapes, self._weights, self._enough = shapes, weights, enough

    def open(self, dim: int, holding: Mask) -> Iterator[tuple[Ranges, ...]]:
        """Yield the traffic that opens among some of the shapes, from a dimension on."""
        weights = [self._weights[index] for index in bits(holding)]
        if sum(weight for weight in weights if weight > 0) <= self._enough:
            return
        if dim == len(self._shapes[0]):
            if -sum(weight for weight in weights if weight < 0) <= self._enough:
                yield ()
            return
        sets = ((self._shapes[index][dim], 1 << index) for index in bits(holding))
        within = unite(i for index in bits(holding) for i in self._shapes[index][dim])
        for parts, ranges in overlay(sets, within).items():
            yield from ((ranges, *rest) for rest in self.open(dim + 1, parts))

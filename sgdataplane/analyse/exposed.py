"""Rules that let the whole internet in, or an advanced group's ENIs out to all of it.

Owns what the internet is, and when something is open to it. Is given a view.

Open is a port at a local address if the rules that accept something there from the internet name together all of it
(one rule for 0.0.0.0/0, two for its halves, a prefix list): an address that nobody thought of gets in. Drops that keep
some of it out change nothing about that, drops that leave none of a rule's accepts do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from operator import and_
from typing import NamedTuple

from sgdataplane.analyse.order import LOCAL_AT, PORT_AT, PROTOCOL_AT, Cell, Mask, bits, overlay
from sgdataplane.analyse.pools import View, ranges_of
from sgdataplane.analyse.regions import addresses
from sgdataplane.model.decision import RULE
from sgdataplane.net.ranges import Ranges, count, holds, minus
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
    """All of it, but for the blocks of the VPC that looks at it."""
    special = (*map(Prefix.parse, NOT_GLOBAL[family]), *vpc)
    return minus(ranges_of(map(Prefix.parse, GLOBAL[family]), family), ranges_of(special, family))


class Opening(NamedTuple):
    """A rule that lets the internet in to a sensitive port, or out (None). `others`: without which it isn't all of the
    internet."""

    rule: int
    port: int | None
    others: tuple[int, ...] = ()


def openings(view: View, outside: Ranges, ports: Iterable[int | None]) -> Iterator[Opening]:
    """By which rules TCP ports are open to all of `outside`; None: everything, by rules for all protocols."""
    wide = [view.order.entries[index].far for index in view.rules.values() if view.accepting >> index & 1]
    if sum(map(count, wide)) < count(outside):
        return
    classes = view.order.classes(outside)
    accepted = list(_accepted(view, classes))
    for port in ports:
        found = [part for part in accepted if _has_port(view, part, port)]
        locals_ = ((part.cell.shape[LOCAL_AT], 1 << number) for number, part in enumerate(found))
        for some, local in overlay(locals_, addresses(view.order.family)).items():
            accepting = 0
            for part in (found[number] for number in bits(some)):
                if not accepting >> part.winner & 1 and view.is_met(part.far, local):
                    accepting |= 1 << part.winner
            yield from (Opening(index, port, others) for index, others in _covering(accepting, classes))


class _Part(NamedTuple):
    """Traffic from some of the outside, and the rule that accepts it."""

    far: Ranges
    cell: Cell
    winner: int


def _accepted(view: View, classes: Mapping[Mask, Ranges]) -> Iterator[_Part]:
    for holding, far in classes.items():
        for cell, winner in view.cells(holding):
            if view.decision(winner).cause == RULE and view.accepting >> winner & 1:
                yield _Part(far, cell, winner)


def _has_port(view: View, part: _Part, port: int | None) -> bool:
    if port is None:
        return view.permission(part.winner).protocol.is_all
    return holds(part.cell.shape[PROTOCOL_AT], TCP) and holds(part.cell.shape[PORT_AT], port)


def _covering(accepting: Mask, classes: Iterable[Mask]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Of rules that accept something, those for all of the classes; if there is none, as few as are so together."""
    whole = reduce(and_, classes, accepting)
    if whole:
        yield from ((index, ()) for index in bits(whole))
    elif all(holding & accepting for holding in classes):
        few = accepting
        for index in bits(accepting):
            if all(holding & few & ~(1 << index) for holding in classes):
                few &= ~(1 << index)
        yield from ((index, tuple(other for other in bits(few) if other != index)) for index in bits(few))

"""Regions of traffic, exactly: a set of numbers in each of DIMENSIONS (policy/dimensions.py), of one ENI or profile, in
one direction and family.

Owns their arithmetic. Is given ranges of numbers. Must not know rules.

A block is a product of sets, so that a rule is one block, however many members its remote has. Traffic that has no
number in a dimension (no ports: all but TCP and UDP) is in a block if the rest of it is: no rule for such a protocol
names ports, so that its blocks have all of them. A region is any number of disjoint blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sgdataplane.net.packet import Packet
from sgdataplane.net.ranges import Ranges, holds, meet, minus, united
from sgdataplane.net.values import Family
from sgdataplane.policy.dimensions import CONDITIONS, DIMENSIONS

DIMS = range(len(DIMENSIONS))
# Everything but the far address, by family.
WHOLE: Mapping[Family, tuple[Ranges, ...]] = {
    family: tuple(each.whole(family) for each in CONDITIONS) for family in Family
}


class Block(tuple[Ranges, ...]):
    """All traffic that has each of its values in these sets, none of which is empty. The first is the far address's."""

    __slots__ = ()

    @property
    def far(self) -> Ranges:
        return self[0]

    def has(self, packet: Packet) -> bool:
        """Whether a packet (of the block's ENI, direction and family) is in it."""
        values = (each.of_packet(packet) for each in DIMENSIONS)
        return all(value is None or holds(ranges, value) for ranges, value in zip(self, values, strict=True))


Region = tuple[Block, ...]


def addresses(family: Family) -> Ranges:
    """All of a family."""
    return ((0, family.last),)


def common(one: Region, other: Region) -> Region:
    """The traffic in both."""
    return tuple(both for block in one for rival in other if (both := _both(block, rival)) is not None)


def without(region: Region, other: Region) -> Region:
    """The traffic in the first only."""
    left = region
    for block in other:
        left = tuple(part for some in left for part in _outside(some, block))
    return left


def joined(one: Region, other: Region) -> Region:
    """The traffic in either."""
    return (*one, *without(other, one))


def covers(region: Region, other: Region) -> bool:
    """Whether all of the second is in the first."""
    return not without(other, region)


def merged(blocks: Iterable[Block]) -> Region:
    """The same traffic in no more blocks than before: any two that differ in one dimension only become one, as long as
    there are such. Given disjoint blocks. (Not always the fewest that there could be: finding those is NP-hard.)"""
    found = tuple(blocks)
    while True:
        before = len(found)
        for dim in DIMS:
            found = _merged_along(dim, found)
        if len(found) in (before, 1):
            return found


def _merged_along(dim: int, blocks: Iterable[Block]) -> Region:
    found: dict[tuple[Ranges, ...], list[Ranges]] = {}
    for block in blocks:
        found.setdefault((*block[:dim], *block[dim + 1 :]), []).append(block[dim])
    return tuple(
        Block((*rest[:dim], united(interval for ranges in some for interval in ranges), *rest[dim:]))
        for rest, some in found.items()
    )


def _both(one: Block, other: Block) -> Block | None:
    found = []
    for mine, theirs in zip(one, other, strict=True):
        both = meet(mine, theirs)
        if not both:
            return None
        found.append(both)
    return Block(found)


def _outside(block: Block, other: Block) -> Iterator[Block]:
    """What is left of a block, one part a dimension at most: what is outside of the other there."""
    both = _both(block, other)
    if both is None:
        yield block
        return
    for dim in DIMS:
        outside = minus(block[dim], both[dim])
        if outside:
            yield Block((*both[:dim], outside, *block[dim + 1 :]))

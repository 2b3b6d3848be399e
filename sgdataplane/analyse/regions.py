"""Regions of traffic, exactly: a set of numbers in each of DIMENSIONS (policy/dimensions.py).

A region is of one ENI or profile, in one direction and family. Owns the arithmetic of regions. Is given ranges of
numbers. Must not know rules.

A block is a product of sets, so a rule is one block, however many members its remote has. Traffic that has no number in
a dimension (only TCP and UDP have ports) is in a block if the rest of it is: no rule for such a protocol names ports,
so its blocks have all of them. A region is any number of disjoint blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sgdataplane.net.ranges import Ranges, meet, minus, unite
from sgdataplane.net.values import Family, Prefix
from sgdataplane.policy.dimensions import CONDITIONS, DIMENSIONS

DIMS = range(len(DIMENSIONS))
# Everything but the far address, by family.
WHOLE: Mapping[Family, tuple[Ranges, ...]] = {
    family: tuple(each.whole(family) for each in CONDITIONS) for family in Family
}


class Block(tuple[Ranges, ...]):
    """All traffic that has each of its values in these sets, none of which is empty.

    The first set is that of the far address.
    """

    __slots__ = ()

    @property
    def far(self) -> Ranges:
        """The far addresses."""
        return self[0]


Region = tuple[Block, ...]


def addresses(family: Family) -> Ranges:
    """Return all addresses of a family."""
    return ((0, family.last),)


def ranges_of(prefixes: Iterable[Prefix], family: Family) -> Ranges:
    """Return the addresses of one family that are in some of these prefixes."""
    return unite((prefix.first, prefix.last) for prefix in prefixes if prefix.family is family)


def common(one: Region, other: Region) -> Region:
    """Return the traffic that is in both regions."""
    return tuple(both for block in one for rival in other if (both := _both(block, rival)) is not None)


def without(region: Region, other: Region) -> Region:
    """Return the traffic that is in the first region only."""
    left = region
    for block in other:
        left = tuple(part for some in left for part in _outside(some, block))
    return left


def merge(blocks: Iterable[Block]) -> Region:
    """Return the same traffic in no more blocks than before.

    Two disjoint blocks that differ in one dimension only become one, until there are no such two. There may be a
    smaller set of blocks: finding the smallest is NP-hard.
    """
    found = tuple(blocks)
    while True:
        before = len(found)
        for dim in DIMS:
            found = _merge_along(dim, found)
        if len(found) in (before, 1):
            return found


def _merge_along(dim: int, blocks: Iterable[Block]) -> Region:
    found: dict[tuple[Ranges, ...], list[Ranges]] = {}
    for block in blocks:
        found.setdefault((*block[:dim], *block[dim + 1 :]), []).append(block[dim])
    return tuple(
        Block((*rest[:dim], unite(interval for ranges in some for interval in ranges), *rest[dim:]))
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
    """Yield what is left of a block outside another: at most one part for each dimension."""
    both = _both(block, other)
    if both is None:
        yield block
        return
    for dim in DIMS:
        outside = minus(block[dim], both[dim])
        if outside:
            yield Block((*both[:dim], outside, *block[dim + 1 :]))

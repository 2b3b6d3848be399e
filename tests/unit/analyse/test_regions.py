"""Regions do what sets of their points do; and rows of regions."""

from __future__ import annotations

import random
from itertools import product

import pytest

from sgdataplane.analyse.regions import Block, Region, common, merge, without
from sgdataplane.analyse.rows import Axis, rows
from sgdataplane.net.ranges import Ranges, unite

LAST = 3
ALL: Ranges = ((0, LAST),)
Point = tuple[int, ...]


def points(region: Region) -> set[Point]:
    """All points of a region; fails unless its blocks are disjoint."""
    found: set[Point] = set()
    for block in region:
        mine = set(product(*([n for first, last in ranges for n in range(first, last + 1)] for ranges in block)))
        assert mine
        assert not found & mine
        found |= mine
    return found


def any_block(chance: random.Random) -> Block:
    def some() -> Ranges:
        return unite((n, n) for n in chance.sample(range(LAST + 1), chance.randint(1, LAST + 1)))

    return Block((some(), some(), some(), ALL, some()))


def any_region(chance: random.Random) -> Region:
    region: Region = ()
    for _ in range(chance.randint(0, 3)):
        region = (*region, *without((any_block(chance),), region))
    return region


@pytest.mark.parametrize("seed", range(40))
def test_regions_do_as_sets_of_points_do(seed: int) -> None:
    chance = random.Random(seed)
    one, other = any_region(chance), any_region(chance)
    mine, theirs = points(one), points(other)
    assert points(common(one, other)) == mine & theirs
    assert points(without(one, other)) == mine - theirs
    assert points(merge(one)) == mine
    assert len(merge(one)) <= len(one)


@pytest.mark.parametrize("seed", range(40))
def test_rows_are_the_same_points_and_no_two_make_one(seed: int) -> None:
    chance = random.Random(seed)
    region = any_region(chance)
    found = rows(region, Axis(ALL), Axis(ALL))
    assert points(tuple(Block((interval,) for interval in row) for row in found)) == points(region)
    for one in found:
        for other in found:
            unlike = [dim for dim in range(5) if one[dim] != other[dim]]
            assert len(unlike) != 1 or one[unlike[0]][1] + 1 != other[unlike[0]][0], (one, other)


def test_rows_reach_over_what_does_not_matter() -> None:
    kept: Ranges = ((0, 4), (6, 9), (20, 29))
    some = Block((((0, 4), (6, 7)), ((6, 6),), ((3, 3),), ALL, ALL))
    more = Block((((8, 24),), ((6, 6),), ((3, 3),), ALL, ALL))
    assert rows([some], Axis(kept), Axis(ALL)) == [((0, 7), (6, 6), (3, 3), (0, LAST), (0, LAST))]
    assert rows([some, more], Axis(kept), Axis(ALL)) == [((0, 24), (6, 6), (3, 3), (0, LAST), (0, LAST))]
    assert Axis(kept).whole == (0, 29)

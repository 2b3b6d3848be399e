"""Ranks are compared one by one with the order of decide(), whatever their numbers are."""

from __future__ import annotations

import pytest

from sgdataplane.contract.fields import Field, KeyType
from sgdataplane.contract.priority import CODES
from sgdataplane.net.values import Direction
from sgdataplane.net.values import Verdict as Decided
from sgdataplane.nft.ir import (
    DROP,
    RETURN,
    Chain,
    Count,
    Counter,
    Log,
    Map,
    Range,
    Rule,
    SetPriority,
    Table,
    Verdict,
    goto,
    is_value,
    jump,
)
from sgdataplane.proof.spec.outcomes import Outcome
from sgdataplane.proof.walk.far import GroupSetNumbers
from sgdataplane.proof.walk.ranks import NO_WINNERS, RankMaps, RankOrder, Winners, WrongRanksError


def outcome(name: str) -> Outcome:
    return (Count(name),), "ingress-accept"


ORDER = [outcome(name) for name in "abcde"]
STANDING = {found: place for place, found in enumerate(ORDER)}
RANKS = {7: outcome("a"), 3: outcome("c"), 90: outcome("d")}  # as if numbered by chance


def order(others: tuple[int, ...] = (0, 1 << 31)) -> RankOrder:
    return RankOrder(RANKS, STANDING, others)


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("a", ()),
        ("b", (Range(7, 7),)),
        ("b", (Range(4, 89),)),
        ("c", (Range(5, 50),)),
        ("d", (Range(1, 7),)),
        ("d", (Range(3, 3), Range(7, 7))),
        ("e", (Range(1, 1000),)),
    ],
)
def test_leaf_that_gives_way_to_just_the_stronger_ranks_is_right(name: str, bound: tuple[Range, ...]) -> None:
    order().check("leaf", outcome(name), bound)


@pytest.mark.parametrize(
    ("name", "bound", "says"),
    [
        ("a", (Range(7, 7),), "gives way to rank 7"),
        ("b", (), "doesn't give way to rank 7"),
        ("b", (Range(3, 7),), "gives way to rank 3"),
        ("d", (Range(4, 90),), "doesn't give way to rank 3"),
        ("e", (Range(1, 89),), "doesn't give way to rank 90"),
        ("e", (Range(0, 90),), "takes other priorities for ranks"),
        ("e", (Range(1, 1 << 31),), "takes other priorities for ranks"),
    ],
)
def test_leaf_that_gives_way_to_others_is_wrong(name: str, bound: tuple[Range, ...], says: str) -> None:
    with pytest.raises(WrongRanksError, match=says):
        order().check("leaf", outcome(name), bound)


DECIDES = SetPriority(CODES[Direction.INGRESS, Decided.ACCEPT])
LEAVES = (
    Chain("leaf.a", (Rule((Count("a"), DECIDES)),)),
    Chain("leaf.b", (Rule((Count("b"), Log("b", 1, 1))), Rule((SetPriority(CODES[Direction.INGRESS, Decided.DROP]),)))),
    Chain("leads", (Rule((Count("a"), goto("ingress-accept"))),)),
    Chain("asks", (Rule((is_value(Field.PACKET_PRIORITY, 1), RETURN)), Rule((Count("a"), DECIDES)))),
    Chain("says-nothing", (Rule((Count("a"), SetPriority(7))),)),
)


def winners_of(*elements: tuple[int, Verdict]) -> Table:
    maps = (Map("winners", KeyType.CLASSID, elements),)
    return Table("t", (*LEAVES, Chain("ingress-accept", ())), maps, (Counter("a"), Counter("b")))


def test_ranks_lead_to_leaves_that_count_and_return_what_they_decide() -> None:
    table = winners_of(*((n, jump(leaf.name)) for n, leaf in enumerate(LEAVES, 1)), (8, goto("leaf.a")), (9, DROP))
    found = Winners.read(table, set(), NO_WINNERS)
    refused = (Count("b"),), "ingress-refuse"
    assert found.leaves == {1: outcome("a"), 2: refused, 3: None, 4: None, 5: None}
    assert (found.of, found.doubled) == ({outcome("a"): 1, refused: 2}, set())
    assert Winners.read(table, set(), found) is found
    assert Winners.read(table, {"leaf.a"}, found) is not found


def test_outcome_that_has_two_ranks_is_noted() -> None:
    found = Winners.read(winners_of((1, jump("leaf.a")), (2, jump("leaf.a"))), set(), NO_WINNERS)
    assert found.doubled == {outcome("a")}


@pytest.mark.parametrize(
    ("held", "is_right"),
    [
        ({5: 1, 6: 2, 7: 1}, True),
        ({5: 1, 6: 2, 7: 2}, False),
        ({5: 1, 6: 2}, False),
        ({5: 1, 6: 2, 7: 1, 8: 1}, False),
    ],
    ids=["right", "another-rank", "missing", "too-many"],
)
def test_map_gives_each_kin_the_rank_of_its_strongest_group(held: dict[int, int], is_right: bool) -> None:
    numbers = GroupSetNumbers({"sg-a": (5, 7), "sg-b": (6, 7)}, is_clear=True)
    assert RankMaps(numbers, with_ranks(ranks=held)).are_right(["ranks"], (("sg-a", 1), ("sg-b", 2))) is is_right


@pytest.mark.parametrize(
    ("rules", "inner", "is_right"),
    [
        ({6: 2}, {5: 1, 7: 1}, True),
        ({6: 2, 7: 2}, {5: 1, 7: 1}, False),
        ({6: 2}, {5: 1}, False),
        ({}, {5: 1, 7: 1}, False),
        ({6: 2}, {5: 1, 7: 1, 2: 1}, False),
    ],
    ids=["right", "the-weaker-first", "missing", "missing-in-the-first", "a-rank-is-a-kin"],
)
def test_two_maps_one_after_the_other(rules: dict[int, int], inner: dict[int, int], is_right: bool) -> None:
    """The map that is asked last is about the strongest group."""
    numbers = GroupSetNumbers({"sg-a": (5, 7), "sg-b": (6, 7)}, is_clear=True)
    maps = RankMaps(numbers, with_ranks(rules=rules, inner=inner))
    assert maps.are_right(["rules", "inner"], (("sg-a", 1), ("sg-b", 2))) is is_right


def test_nothing_is_right_if_a_number_stands_for_two_kins() -> None:
    for is_clear in (True, False):
        maps = RankMaps(GroupSetNumbers({"sg-a": (5,)}, is_clear), with_ranks(ranks={5: 1}))
        assert maps.are_right(["ranks"], (("sg-a", 1),)) is is_clear


def with_ranks(**maps: dict[int, int]) -> Table:
    """A table with maps from group sets to ranks."""
    entries = (Map(name, KeyType.CLASSID, tuple(held.items()), holds=KeyType.CLASSID) for name, held in maps.items())
    return Table("t", maps=tuple(entries))

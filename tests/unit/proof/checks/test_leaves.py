"""Each leaf gives way to the stronger ranks, and a later proof looks at all that may be another one by now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from sgdataplane.nft.ir import Count, Range
from sgdataplane.proof.checks.leaves import Leaves, ProvenLeaf, Standing, find_unused_leaves
from sgdataplane.proof.spec.outcomes import Outcome
from sgdataplane.proof.walk.priority import UNSET
from sgdataplane.proof.walk.ranks import WrongRanksError


def outcome(name: str) -> Outcome:
    return (Count(name),), "ingress-accept"


def leaf(name: str, *ranks: int) -> ProvenLeaf:
    return ProvenLeaf(name, outcome(name), tuple(map(Range.of, ranks)))


def standing(order: str, ranks: Mapping[int, str], priorities: Sequence[int | None] = (0,)) -> Standing:
    """Return candidates, each named by a letter. If one is there twice, its place is the last one."""
    outcomes = [outcome(name) for name in order]
    of_ranks = {rank: outcome(name) for rank, name in ranks.items()}
    return Standing(of_ranks, frozenset(priorities), outcomes, {outcome(n): i for i, n in enumerate(order)})


def leaves(*some: ProvenLeaf) -> Leaves:
    return {each.name: each for each in some}


NOW = standing("abcd", {1: "a", 2: "c"})
B, D = leaf("b", 1), leaf("d", 1, 2)


def test_leaves_that_give_way_to_the_stronger_ranks_are_right() -> None:
    NOW.check(leaves(B, D), None)


@pytest.mark.parametrize(
    ("compared", "leaf_now", "says"),
    [
        pytest.param(NOW, leaf("d", 1), "doesn't give way to rank 2", id="one-rank-of-two"),
        pytest.param(standing("bd", {}, [UNSET, 0]), leaf("d"), "that nobody has set", id="unset-for-some"),
        pytest.param(standing("bd", {}, [UNSET]), leaf("d", 5), "chain d asks for a priority", id="unset-for-all"),
    ],
)
def test_leaf_that_gives_way_to_another_priority_is_wrong(compared: Standing, leaf_now: ProvenLeaf, says: str) -> None:
    with pytest.raises(WrongRanksError, match=says):
        compared.check(leaves(leaf_now), None)


def test_leaf_that_asks_for_nothing_is_right_whatever_priority_packets_have() -> None:
    """They are the same leaves as above, with the one reason for the refusal put right."""
    standing("bd", {}, [0]).check(leaves(leaf("d")), None)
    standing("bd", {}, [UNSET]).check(leaves(leaf("d")), None)


@pytest.mark.parametrize(
    ("previous", "known", "now", "says"),
    [
        pytest.param(NOW, leaf("d", 1, 2), standing("abcd", {1: "a", 2: "c"}), "rank 2", id="the-leaf"),
        pytest.param(
            standing("abd", {1: "a"}), None, standing("abcd", {1: "a", 2: "c"}), "rank 2", id="a-rank-that-has-come"
        ),
        pytest.param(standing("abcd", {1: "a"}, [0]), None, standing("abcd", {1: "a"}, [0, UNSET]), "set", id="unset"),
        pytest.param(standing("abc", {1: "a", 2: "c"}), None, NOW, "rank 2", id="its-candidate-has-come"),
        pytest.param(
            standing("ad", {1: "a"}), None, standing("ada", {1: "a"}), "gives way to rank 1", id="the-place-of-a-rank"
        ),
        pytest.param(
            standing("acd", {2: "c", 1: "b"}), None, standing("acd", {2: "c", 1: "a"}), "rank 2", id="what-a-rank-is"
        ),
    ],
)
def test_leaf_is_looked_at_again_after_a_change_of(
    previous: Standing, known: ProvenLeaf | None, now: Standing, says: str
) -> None:
    """The leaf, which gives way to rank 1 only, is wrong by now."""
    wrong = leaf("d", 1)
    with pytest.raises(WrongRanksError, match=says):
        now.check(leaves(wrong), (leaves(known or wrong), previous))


@pytest.mark.parametrize(
    "previous",
    [
        pytest.param(NOW, id="nothing"),
        pytest.param(standing("acd", {1: "a", 2: "c"}), id="a-candidate-without-a-rank"),
    ],
)
def test_leaf_is_not_looked_at_again_after_a_change_of(previous: Standing) -> None:
    """Nobody would notice that this one was wrong before, so that it is a leaf that isn't looked at."""
    wrong = leaf("d", 1)
    NOW.check(leaves(wrong), (leaves(wrong), previous))


def test_leaf_of_a_candidate_that_is_gone_is_unused() -> None:
    previous, now = standing("abcd", {}), standing("abc", {})
    known = leaves(B, D)
    assert find_unused_leaves(known, previous.order, now.order, now.places) == ["d"]
    assert find_unused_leaves(known, previous.order, previous.order, previous.places) == []

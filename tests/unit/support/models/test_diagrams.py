"""Decision diagrams against lists of all values: on functions so small that each of their points is asked for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

import pytest

from tests.support.models.diagrams import Diagrams, Node, Span

SIZES = (3, 4, 2)
POINTS = list(product(*map(range, SIZES)))
FUNCTIONS = 300
OUTCOMES = "abcd"
Listed = tuple[str, ...]  # an outcome for each point


def random_spans(chance: random.Random, size: int) -> Iterator[Span]:
    first = 0
    while first < size:
        last = chance.randrange(first, size)
        if chance.random() < 0.6:
            yield first, last
        first = last + 1


def grown(diagrams: Diagrams[str], chance: random.Random) -> list[tuple[Node, Listed]]:
    """Functions made of one another, in any order of variables; beside each, the list of its outcomes."""
    made = [(diagrams.leaf(outcome), (outcome,) * len(POINTS)) for outcome in OUTCOMES]
    made += [asked(diagrams, variable) for variable in range(len(SIZES))]
    for _ in range(FUNCTIONS):
        made.append(chosen(diagrams, chance, made) if chance.random() < 0.7 else replaced(diagrams, chance, made))
    return made


def asked(diagrams: Diagrams[str], variable: int) -> tuple[Node, Listed]:
    """The first value apart from the others."""
    one, other = map(diagrams.leaf, OUTCOMES[:2])
    listed = tuple(OUTCOMES[0 if point[variable] == 0 else 1] for point in POINTS)
    return diagrams.choose(variable, [((0, 0), one)], other), listed


def chosen(diagrams: Diagrams[str], chance: random.Random, made: list[tuple[Node, Listed]]) -> tuple[Node, Listed]:
    variable = chance.randrange(len(SIZES))
    parts = [(span, chance.choice(made)) for span in random_spans(chance, SIZES[variable])]
    otherwise, others = chance.choice(made)
    listed = list(others)
    for (first, last), (_, outcomes) in parts:
        for place, point in enumerate(POINTS):
            listed[place] = outcomes[place] if first <= point[variable] <= last else listed[place]
    return diagrams.choose(variable, [(span, node) for span, (node, _) in parts], otherwise), tuple(listed)


def replaced(diagrams: Diagrams[str], chance: random.Random, made: list[tuple[Node, Listed]]) -> tuple[Node, Listed]:
    node, listed = chance.choice(made)
    others = {outcome: chance.choice(made) for outcome in OUTCOMES}
    found = tuple(others[outcome][1][place] for place, outcome in enumerate(listed))
    return diagrams.replaced(node, lambda outcome: others[outcome][0]), found


@pytest.mark.parametrize("seed", range(4))
def test_functions_are_equal_exactly_if_their_numbers_are(seed: int) -> None:
    made = grown(Diagrams(SIZES), random.Random(seed))
    numbers = {(node, listed) for node, listed in made}
    assert len(numbers) == len({node for node, _ in numbers}) == len({listed for _, listed in numbers})
    assert len(numbers) > FUNCTIONS // 4, "hardly any functions differ: this proves nothing"


@pytest.mark.parametrize("seed", range(4))
def test_a_function_has_its_outcome_at_each_point(seed: int) -> None:
    diagrams: Diagrams[str] = Diagrams(SIZES)
    for node, listed in grown(diagrams, random.Random(seed)):
        assert tuple(diagrams.outcome(node, dict(enumerate(point))) for point in POINTS) == listed


def test_a_difference_is_a_point_where_outcomes_differ() -> None:
    diagrams: Diagrams[str] = Diagrams(SIZES)
    made = {node for node, _ in grown(diagrams, random.Random(0))}
    for one, other in product(made, made):
        point = diagrams.difference(one, other)
        assert (point is None) == (one == other)
        if point is not None:
            assert diagrams.outcome(one, point) != diagrams.outcome(other, point)


def test_points_are_drawn_at_both_ends_of_intervals() -> None:
    diagrams: Diagrams[str] = Diagrams([100])
    node = diagrams.choose(0, [((10, 19), diagrams.leaf("a"))], diagrams.leaf("b"))
    chance = random.Random(0)
    assert {diagrams.drawn(node, chance)[0] for _ in range(200)} == {0, 9, 10, 19, 20, 99}


def test_what_is_forgotten_is_made_again() -> None:
    diagrams: Diagrams[str] = Diagrams(SIZES)
    leaves = [diagrams.leaf(outcome) for outcome in "ab"]
    for _ in range(2):
        with diagrams.forgetting():
            node = diagrams.choose(1, [((1, 2), leaves[0])], leaves[1])
            assert [diagrams.outcome(node, {1: value}) for value in range(4)] == ["b", "a", "a", "b"]
    assert leaves == [diagrams.leaf(outcome) for outcome in "ab"]


def test_spans_that_overlap_are_refused() -> None:
    diagrams: Diagrams[str] = Diagrams(SIZES)
    node = diagrams.leaf("a")
    with pytest.raises(AssertionError, match="overlap"):
        diagrams.choose(1, [((0, 2), node), ((2, 3), node)], node)

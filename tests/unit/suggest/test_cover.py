"""cover(): the fewest rectangles, against all subsets; what is large is within its bound."""

from __future__ import annotations

from itertools import combinations
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdataplane.suggest.cover import MAX_TRIED, cover

Rectangles = list[tuple[int, frozenset[int]]]


def fewest(cells: frozenset[int], rectangles: Rectangles) -> int:
    for size in range(len(rectangles) + 1):
        for some in combinations(rectangles, size):
            if cells <= frozenset().union(*(covered for _, covered in some)):
                return size
    raise AssertionError("no cover")


def is_cover(cells: frozenset[int], rectangles: Rectangles, chosen: list[int]) -> bool:
    return cells <= frozenset().union(*(dict(rectangles)[name] for name in chosen))


def rectangles(most: int) -> st.SearchStrategy[Rectangles]:
    sets = st.lists(st.frozensets(st.integers(0, 9), min_size=1), min_size=1, max_size=most)
    return sets.map(lambda some: list(enumerate(some)))


@settings(max_examples=300, database=None, deadline=None)
@given(rectangles(9))
def test_few_rectangles_are_the_fewest(some: Rectangles) -> None:
    cells = frozenset().union(*(covered for _, covered in some))
    chosen = cover(cells, some)
    assert is_cover(cells, some, chosen)
    assert len(chosen) == fewest(cells, some)


@settings(max_examples=60, database=None, deadline=None)
@given(st.lists(st.frozensets(st.integers(0, 11), min_size=2, max_size=4), min_size=MAX_TRIED + 2, max_size=22))
def test_many_rectangles_are_within_the_bound(sets: list[frozenset[int]]) -> None:
    some = list(enumerate(sets))
    cells = frozenset().union(*sets)
    chosen = cover(cells, some)
    assert is_cover(cells, some, chosen)
    assert len(chosen) <= fewest(cells, some) * (1 + log(len(cells)))
    others = [[name for name in chosen if name != left] for left in chosen]
    assert not any(is_cover(cells, some, rest) for rest in others), "one of them is needless"


def test_the_first_of_equal_choices_is_taken() -> None:
    some = [("a", frozenset({1, 2})), ("b", frozenset({1, 2})), ("c", frozenset({2, 3})), ("d", frozenset({3}))]
    assert cover({1, 2, 3}, some) == ["a", "c"]


def test_a_cell_that_nothing_covers_is_refused() -> None:
    with pytest.raises(ValueError, match="a cell is in no rectangle"):
        cover({1, 2}, [("a", frozenset({1})), ("b", frozenset({1}))])

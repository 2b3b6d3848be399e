"""How many examples a test tries: few with every run of the suite, many among the slow tests.

Owns the two sizes of a test. Must not know what it tries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis.strategies import SearchStrategy


def few_or_many(name: str, few: object, many: object) -> pytest.MarkDecorator:
    """Give the test the argument `name`: with `many` it is slow."""
    return pytest.mark.parametrize(name, [few, pytest.param(many, marks=pytest.mark.slow)])


def shards(count: int, *, few: int, many: int) -> pytest.MarkDecorator:
    """Give the test the arguments `shard` and `states`: few states of the first shard, and many of each, which is
    slow. The few are the first of the many, if the test draws them from the shard's number."""
    slow = [pytest.param(shard, many, marks=pytest.mark.slow) for shard in range(count)]
    return pytest.mark.parametrize(("shard", "states"), [(0, few), *slow])


def holds_for(
    *strategies: SearchStrategy[Any], few: int, many: int, first: int | None = None
) -> Callable[[Callable[..., None]], Callable[[int], None]]:
    """Make a test of a property: it draws `few` examples, and as a slow test `many`. With `first`, the seed, it draws
    the same ones in each run."""

    def decorated(holds: Callable[..., None]) -> Callable[[int], None]:
        @few_or_many("examples", few, many)
        def test(examples: int) -> None:
            drawn = settings(max_examples=examples)(given(*strategies)(holds))
            (drawn if first is None else seed(first)(drawn))()

        test.__name__, test.__doc__, test.__module__ = holds.__name__, holds.__doc__, holds.__module__
        return test

    return decorated

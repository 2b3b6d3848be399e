"""Processor time is a bucket of tokens, and a clock that jumps removes nothing."""

from __future__ import annotations

import pytest

from sgdataplane.history.budget import BURST_S, SHARE, STEADY_S, CpuBudget, SteadyClock


def test_whoever_uses_more_than_its_share_sleeps_until_it_has_not() -> None:
    now, used = [0.0], [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    budget = CpuBudget(lambda: used[0], lambda: now[0], sleep)
    for _ in range(200):
        used[0] += 0.3
        now[0] += 0.3
        budget.keep()
    assert used[0] <= SHARE * now[0] + BURST_S + 0.3


def test_whoever_uses_little_never_sleeps() -> None:
    now, used = [0.0], [0.0]
    slept = list[float]()
    budget = CpuBudget(lambda: used[0], lambda: now[0], slept.append)
    for _ in range(200):
        used[0] += 0.03
        now[0] += 1.0
        assert budget.keep() == 0.0
    assert slept == []


@pytest.mark.parametrize("jump", [-86400.0, 3600.0, 10 * 365 * 86400.0])
def test_a_clock_is_steady_an_hour_after_it_has_jumped(jump: float) -> None:
    even = [0.0]
    clock = SteadyClock(lambda: even[0])
    clock.note(1e9)
    even[0] += STEADY_S + 1
    clock.note(1e9 + even[0])
    seen = [clock.is_steady]
    clock.note(1e9 + even[0] + jump)
    seen.append(clock.is_steady)
    even[0] += STEADY_S + 1
    clock.note(1e9 + even[0] + jump)
    assert [*seen, clock.is_steady] == [True, False, True]

"""Token buckets: how often, how long to wait, and never too many of them."""

from __future__ import annotations

import pytest

from sgdataplane.control import throttle as module
from sgdataplane.control.answers import ApiError
from sgdataplane.control.throttle import Throttle


def taken(throttle: Throttle, now: float, key: str = "a", action: str = "DescribeVpcs") -> str:
    """ "" if it may; else the milliseconds after which it may."""
    try:
        throttle.take(key, action, now)
    except ApiError as error:
        return error.extra["x-acs-retry-after"]
    return ""


def test_a_burst_then_as_many_as_the_rate() -> None:
    throttle = Throttle(rate=2, burst=3)
    assert [taken(throttle, 100.0) for _ in range(4)] == ["", "", "", "500"]
    assert taken(throttle, 100.25) == "250"
    assert [taken(throttle, 100.5), taken(throttle, 100.5)] == ["", "500"]
    assert [taken(throttle, 1000.0) for _ in range(4)] == ["", "", "", "500"]


def test_keys_and_actions_have_each_their_own() -> None:
    throttle = Throttle(rate=1, burst=1)
    assert taken(throttle, 0.0) == ""
    assert taken(throttle, 0.0) == "1000"
    assert taken(throttle, 0.0, key="b") == ""
    assert taken(throttle, 0.0, action="DescribeZones") == ""


def test_a_clock_that_is_set_back_gives_nothing_and_takes_nothing() -> None:
    throttle = Throttle(rate=1, burst=1)
    assert [taken(throttle, 100.0), taken(throttle, 50.0), taken(throttle, 51.0)] == ["", "1000", ""]


def test_buckets_are_never_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BUCKETS", 10)
    throttle = Throttle(rate=1, burst=2)
    for number in range(100):
        assert taken(throttle, 0.0, key=f"k{number}") == ""
        assert len(throttle._buckets) <= 10
    throttle = Throttle(rate=1, burst=1)
    assert taken(throttle, 0.0) == ""
    for number in range(100):
        taken(throttle, number * 2.0, key=f"k{number}")
    assert len(throttle._buckets) <= 10

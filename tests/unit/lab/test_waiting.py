"""SGDP_TIMEOUT_FACTOR makes a lab's deadlines longer, never shorter."""

from __future__ import annotations

import pytest

from sgdataplane.lab.waiting import VARIABLE, factor, scale_timeout


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 1.0), ("10", 10.0), ("2.5", 2.5), ("100", 100.0), ("0.1", 1.0), ("-3", 1.0), ("1e9", 1.0), ("nan", 1.0)],
)
def test_a_number_from_1_to_100_is_the_factor_and_all_else_is_1(text: str, expected: float) -> None:
    assert factor(text) == expected


def test_the_environment_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert scale_timeout(2.0) == 2.0
    monkeypatch.setenv(VARIABLE, "10")
    assert scale_timeout(2.0) == 20.0

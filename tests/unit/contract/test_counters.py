"""Counters are named after what decided, and every name can be said."""

from __future__ import annotations

import pytest

from sgdataplane.contract import names
from sgdataplane.contract.counters import (
    ALWAYS,
    CAUSES,
    FENCE_CAUSES,
    PASSING,
    counter_name,
    eni_counter,
    fence_counter,
    name_fenced_counter,
    name_fixed_counter,
)
from sgdataplane.model.decision import DEFAULT, INNER_ACCEPT, RULE, Decision
from sgdataplane.net.values import Direction, Verdict

OUT, IN = Direction.EGRESS, Direction.INGRESS


@pytest.mark.parametrize(
    ("decision", "name"),
    [
        (Decision(IN, Verdict.DROP, RULE, "sg-a", "sgr-1", 1), "rule.sg-a.sgr-1"),
        (Decision(OUT, Verdict.ACCEPT, INNER_ACCEPT, "sg-a"), "inner.egress.sg-a"),
        (Decision(IN, Verdict.DROP, DEFAULT), "default.ingress.drop"),
        (Decision(OUT, Verdict.DROP, "spoofed"), "egress.spoofed"),
        *((Decision(IN, Verdict.ACCEPT, cause), "ingress.always") for cause in ALWAYS),
    ],
)
def test_a_counter_is_named_after_what_decided(decision: Decision, name: str) -> None:
    assert counter_name(decision) == name


def test_every_counter_has_a_name_of_its_own_that_can_be_said() -> None:
    found = [name_fixed_counter(side, cause) for side in Direction for cause in CAUSES]
    found += [
        *map(fence_counter, FENCE_CAUSES),
        name_fenced_counter("eth0"),
        *(eni_counter(side, "eth0") for side in Direction),
    ]
    assert len(set(found)) == len(found)
    assert [names.check_name(name) for name in found] == found
    assert set(PASSING) <= set(CAUSES)

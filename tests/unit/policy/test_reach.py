"""Which changes of a state may make an ENI's policy refuse what it allowed before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Verdict
from sgdataplane.policy.reach import Reach
from tests.support.inputs.builders import make_eni, make_group, make_state

RULE, MORE, DROP = (
    "ingress tcp 22/22 from sg-b",
    "ingress tcp 23/23 from sg-c",
    "ingress tcp 24/24 from 10.1.0.0/16 drop",
)
ENIS = [make_eni(f"eni-{name}", f"10.0.0.{number}", f"sg-{name}") for number, name in enumerate("abc", 1)]
JOINING = make_eni("eni-d", "10.0.0.4", "sg-b")


def of(*rules: str, enis: tuple[object, ...] = ()) -> CloudState:
    groups = [make_group("sg-a", rules), make_group("sg-b"), make_group("sg-c")]
    return make_state(groups, [*ENIS, *enis])  # type: ignore[list-item]


def inner_drop(state: CloudState) -> CloudState:
    first, *others = state.security_groups
    return replace(state, security_groups=(replace(first, inner_access_policy=Verdict.DROP), *others))


CASES = {
    "nothing": (of(RULE), of(RULE), False),
    "an accepting rule more": (of(RULE), of(RULE, MORE), False),
    "an accepting rule less": (of(RULE, MORE), of(RULE), True),
    "another accepting rule": (of(RULE), of(MORE), True),
    "a dropping rule more": (of(RULE), of(RULE, DROP), True),
    "a dropping rule less": (of(RULE, DROP), of(RULE), False),
    "a member more of a group that may come in": (of(RULE), of(RULE, enis=(JOINING,)), False),
    "a member less": (of(RULE, enis=(JOINING,)), of(RULE), True),
    "a member more of a group that may not": (of(f"{RULE} drop"), of(f"{RULE} drop", enis=(JOINING,)), True),
    "the inner policy": (of(RULE), inner_drop(of(RULE)), True),
}


@pytest.mark.parametrize(("before", "after", "narrows"), CASES.values(), ids=CASES)
def test_what_may_refuse_more_than_before(before: CloudState, after: CloudState, narrows: bool) -> None:
    reach = Reach(before, after)
    assert reach.narrows(["eni-a"]) == narrows
    assert reach.touches(["eni-a"]) or not narrows
    assert not reach.narrows(["eni-c"])

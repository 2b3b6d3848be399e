"""States of which an ENI's inputs have the same digest give it the same table, whatever else differs between them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from sgdataplane.enforce import Desired
from sgdataplane.enforce.inputs import Inputs
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.state import CloudState, share_records
from sgdataplane.policy.reach import Reach
from tests.property.test_reach import digest_of
from tests.support.inputs import gen
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.changes import moved
from tests.support.run.amounts import shards

STATES, FEW, SHARDS = 100, 70, 2


def inputs_of(state: CloudState, eni_id: str, before: Inputs | None = None) -> str | None:
    return Inputs(state, before).digest(Desired(state, {eni_id: "eth0"}), 1.0)


@shards(SHARDS, few=FEW, many=STATES)
def test_the_same_inputs_give_the_same_table(shard: int, states: int) -> None:
    counted = {"same": 0, "others": 0}

    @seed(shard)
    @settings(max_examples=states, database=None)
    @given(gen.states(), st.integers(0, 1 << 32))
    def check(before: CloudState, number: int) -> None:
        after = moved(before, random.Random(number))
        reach, memory = Reach(before, after), Inputs(before)
        for eni in before.network_interfaces:
            eni_id = eni.network_interface_id
            first = memory.digest(Desired(before, {eni_id: "eth0"}), 1.0)
            if eni_id not in after.eni:
                continue
            second = inputs_of(after, eni_id)
            assert second == inputs_of(share_records(after, before), eni_id, memory), "it remembers nothing wrong"
            counted["same" if first == second else "others"] += 1
            if first == second:
                assert digest_of(before, eni_id) == digest_of(after, eni_id)
            else:
                assert reach.touches([eni_id]), "and no more than a change is said to concern"

    check()
    print(counted)
    assert min(counted.values()) > states // 10


STATE = make_state([make_group("sg-a", ["ingress tcp 1/1 from 0.0.0.0/0"])], [make_eni("eni-a", "10.0.0.1", "sg-a")])
DESIRED = Desired(STATE, {"eni-a": "eth0"})


@pytest.mark.parametrize(
    ("desired", "scale"),
    [
        (Desired(STATE, {"eni-a": "eth1"}), 1.0),
        (Desired(STATE, {"eni-a": "eth0"}, Options(strict_syn=True)), 1.0),
        (Desired(STATE, {"eni-a": "eth0"}, placement=Placement.HOST), 1.0),
        (Desired(STATE, {"eni-a": "eth0"}, placement=Placement.HOST, uplinks=("up0",)), 1.0),
        (DESIRED, 0.5),
    ],
    ids=["interface", "options", "placement", "uplinks", "scale"],
)
def test_all_that_a_build_is_given_counts(desired: Desired, scale: float) -> None:
    known = {Inputs(STATE).digest(DESIRED, 1.0)}
    if desired.uplinks:
        known.add(Inputs(STATE).digest(Desired(STATE, {"eni-a": "eth0"}, placement=Placement.HOST), 1.0))
    assert Inputs(STATE).digest(desired, scale) not in known
    assert inputs_of(STATE, "eni-a") in known

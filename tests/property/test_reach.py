"""An ENI that a change can't affect, as policy/reach.py says, keeps its table: over generated states."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

from hypothesis import given, seed, settings
from hypothesis import strategies as st

from sgdataplane.enforce import Desired
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState, Vpc, share_records
from sgdataplane.net.values import Verdict
from sgdataplane.nft.outline import stamp_of
from sgdataplane.policy.reach import Reach
from tests.support.inputs import gen
from tests.support.inputs.building import table_of
from tests.support.inputs.changes import Change, changes, moved, stricter
from tests.support.run.amounts import holds_for, shards

STATES, FEW, SHARDS = 100, 70, 2


def digest_of(state: CloudState, eni_id: str) -> str:
    return stamp_of(table_of(Desired(replace(state), {eni_id: "eth0"}))).digest


@shards(SHARDS, few=FEW, many=STATES)
def test_who_is_not_touched_has_the_same_table(shard: int, states: int) -> None:
    counted = {"touched": 0, "same": 0}

    @seed(shard)
    @settings(max_examples=states, database=None)
    @given(gen.states(), st.integers(0, 1 << 32))
    def check(before: CloudState, number: int) -> None:
        after = moved(before, random.Random(number))

        @cache
        def is_same(eni_id: str) -> bool:
            return after.eni[eni_id] == before.eni[eni_id] and digest_of(before, eni_id) == digest_of(after, eni_id)

        for reach in (Reach(before, after), Reach(before, share_records(after, before))):
            for eni in before.network_interfaces:
                eni_id = eni.network_interface_id
                if reach.touches([eni_id]):
                    counted["touched"] += 1
                    continue
                counted["same"] += 1
                assert is_same(eni_id)

    check()
    print(counted)
    assert min(counted.values()) > states // 10


@shards(SHARDS, few=FEW, many=STATES)
def test_who_is_not_narrowed_is_refused_nothing_that_was_accepted(shard: int, states: int) -> None:
    """Each change is made, and then taken back."""
    counted = {"touched": 0, "narrowed": 0, "accepted": 0, "widened": 0, "refused": 0}

    @seed(shard)
    @settings(max_examples=states, database=None)
    @given(changes())
    def check(change: Change) -> None:
        after = stricter(change.before, change.chance) if change.chance.random() < 0.5 else change.after
        states = change.before, share_records(after, change.before)
        packets = [packet for state in states for packet in gen.packets(state, change.chance, 40)]
        for old, new in (states, states[::-1]):
            reach = Reach(old, new)
            for packet in packets:
                if not all(packet.eni_id in state.eni for state in states):
                    continue
                was, is_now = (decide(state, packet, change.options).verdict is Verdict.ACCEPT for state in (old, new))
                if reach.narrows([packet.eni_id]):
                    counted["narrowed"] += 1
                    counted["refused"] += was and not is_now
                    continue
                counted["touched"] += reach.touches([packet.eni_id])
                counted["accepted"] += was
                counted["widened"] += is_now and not was
                assert is_now or not was, f"{packet} was accepted"

    check()
    print(counted)
    assert min(counted.values()) > states // 10


@holds_for(gen.states(), st.integers(0, 1 << 32), few=FEW // 2, many=STATES)
def test_a_shared_state_is_equal_and_has_the_records_that_were_there(before: CloudState, number: int) -> None:
    after = moved(before, random.Random(number))
    copied = replace(after, network_interfaces=tuple(replace(eni) for eni in after.network_interfaces))
    shared = share_records(copied, before)
    assert shared == after
    known = {id(eni) for eni in before.network_interfaces}
    assert all(id(eni) in known for eni in shared.network_interfaces if eni in before.network_interfaces)
    assert share_records(replace(before), before) is before


def test_another_vpc_touches_all() -> None:
    state = CloudState((Vpc("vpc-a"),))
    assert Reach(state, replace(state, vpcs=(Vpc("vpc-b"),))).touches(["eni-a"])
    assert not Reach(state, state).touches(["eni-a"])

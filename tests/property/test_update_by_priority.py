"""A packet that carries a priority from one map to the next is judged by the old table or by the new one, whatever
changes while it is on its way."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from sgdataplane.contract.fields import Field
from sgdataplane.nft.delta import Change, Plan, plan
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Key, Table
from sgdataplane.nft.snapshot import with_generation
from sgdataplane.nft.transaction import Kind
from tests.support.inputs.kintables import RANKS, Policy, packets
from tests.support.models.inflight import Commit, RecordingKernel

QUICK, SHARDS, CHANGES, ROUNDS = 1, 4, 60, 3  # all but the first are slow
NAME = "t"
BY_PRIORITY = {*RANKS, "profiles", "winners"}
PACKETS = tuple(packets())
Judged = tuple[str, tuple[str, ...]]


def judged(table: Table, packet: Mapping[Field, Key]) -> Judged:
    """What becomes of the packet, and by which leaf."""
    if "ingress" not in table.chain:
        return "accept", ()
    outcome = run(table, "ingress", packet)
    return outcome.verdict.value, tuple(outcome.counters)


def check_commit(commit: Commit, chance: random.Random, *, may_miss: bool) -> int:
    """How many packets the commit judges anew."""
    changed = 0
    for packet in PACKETS:
        before, after = judged(commit.before, packet), judged(commit.after, packet)
        for _ in range(ROUNDS):
            for between in (commit.on_the_way(chance, may_miss=may_miss), commit.at_once_after(chance)):
                assert judged(between, packet) in (before, after), (packet, str(commit.transaction))
        changed += before != after
    return changed


def is_edited_apart(change: Change) -> bool:
    """Whether elements by priority came before the switch or went after it."""
    early = any(entry.kind is Kind.ELEMENTS and entry.subject.name in BY_PRIORITY for entry in change.stage.operations)
    return early or any(entry.kind is Kind.ELEMENTS for entry in change.sweep.operations)


def run_all(kernel: RecordingKernel, steps: Plan) -> None:
    for change in steps.changes:
        for step in (change.stage, change.switch, change.sweep):
            kernel.run(step)


@pytest.mark.parametrize("may_miss", [False, True], ids=["looks-again", "may-miss"])
@pytest.mark.parametrize(
    "shard", [pytest.param(shard, marks=[pytest.mark.slow] if shard >= QUICK else []) for shard in range(SHARDS)]
)
def test_packets_on_their_way_are_judged_by_one_table(shard: int, may_miss: bool) -> None:
    chance = random.Random(f"priorities-{shard}")
    kernel, anew, detours, apart = RecordingKernel(NAME), 0, 0, 0
    policy, held = Policy.any_of(chance), None
    for number in range(1, CHANGES):
        desired = policy.table(NAME, number)
        kernel.commits.clear()
        steps = plan(held, kernel.inventory(NAME), desired, may_miss=may_miss)
        run_all(kernel, steps)
        counts = [check_commit(commit, chance, may_miss=may_miss) for commit in kernel.commits]
        assert sum(count > 0 for count in counts) <= 1, "a table came into force in two steps"
        assert kernel.table(NAME) == with_generation(desired, kernel.generation)
        anew, detours = anew + sum(counts), detours + (len(steps.changes) > 1)
        apart += any(is_edited_apart(change) for change in steps.changes)
        policy, held = policy.changed(chance), desired
    assert anew > CHANGES, "hardly any packet's verdict ever changed: this proves nothing"
    assert CHANGES // 10 < detours < CHANGES * 9 // 10
    assert apart > CHANGES // 10


def test_a_key_that_gets_another_value_in_place_is_noticed_where_look_ups_may_miss() -> None:
    """The control: such a plan is for kernels that look again, and the model of the others says so."""
    chance = random.Random("misses")
    kernel, policy = RecordingKernel(NAME), Policy.any_of(chance)
    held, noticed = policy.table(NAME, 1), 0
    run_all(kernel, plan(None, kernel.inventory(NAME), held))
    for number in range(2, 2 + CHANGES):
        policy = replace(policy, members=Policy.any_of(chance).members)
        desired = policy.table(NAME, number)
        kernel.commits.clear()
        run_all(kernel, plan(held, kernel.inventory(NAME), desired, may_miss=False))
        noticed += any(_is_noticed(commit, chance) for commit in kernel.commits)
        held = desired
    assert noticed


def _is_noticed(commit: Commit, chance: random.Random) -> bool:
    try:
        check_commit(commit, chance, may_miss=True)
    except AssertionError:
        return True
    return False

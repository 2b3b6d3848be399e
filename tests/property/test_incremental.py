"""What a compile takes over from an earlier one never shows: after any sequence of changes, also ones that are taken
back, the table equals that of a compile from nothing. It is proven, too."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest

from sgdataplane.compiler import profiles
from sgdataplane.compiler.recent import Recent
from sgdataplane.enforce import Desired, Proven, build
from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.state import CloudState
from sgdataplane.nft.text import render_table
from sgdataplane.policy.resolve import interfaces_of
from sgdataplane.proof.prove import prove
from sgdataplane.proof.spec.specification import Specification
from tests.support.inputs import hardpolicies
from tests.support.inputs.building import UNPROVEN, table_of
from tests.support.inputs.edits import edited

FEW, STEPS = 8, 12
POLICIES = ("typical", "alternating", "nested_cidrs", "overlapping_ports", "five_tuple", "prefix_lists", "mixture")


@pytest.fixture(autouse=True)
def small_diagrams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the diagrams of small policies, too."""
    monkeypatch.setattr(profiles, "FEWEST", 1)


CROWDED = ("typical", "mixture", "kinships")


def shuffled(state: CloudState, chance: random.Random) -> CloudState:
    """The same rules and ENIs in another order."""
    groups = tuple(
        replace(group, rules=tuple(chance.sample(group.rules, len(group.rules)))) for group in state.security_groups
    )
    enis = tuple(chance.sample(state.network_interfaces, len(state.network_interfaces)))
    return replace(state, security_groups=groups, network_interfaces=enis)


def slow(seeds: Iterable[int]) -> list[object]:
    """With all steps."""
    return [pytest.param(seed, STEPS, marks=pytest.mark.slow) for seed in seeds]


def history(first: CloudState, chance: random.Random, steps: int) -> list[CloudState]:
    """Changes one by one, several at once, taken back, and in another order."""
    states = [first]
    for _ in range(steps):
        kind = chance.random()
        if kind < 0.6:
            states.append(edited(states[-1], chance))
        elif kind < 0.8:
            states.append(chance.choice(states))
        else:
            states.append(shuffled(states[-1], chance))
    return states


def desired_of(state: CloudState) -> Desired:
    return Desired(state, interfaces_of(state, hardpolicies.targets(state)[0]))


def from_nothing(state: CloudState) -> str:
    """The table's text, of a state that nobody has looked into yet."""
    return render_table(table_of(desired_of(replace(state))))


@pytest.mark.parametrize(("seed", "steps"), [(0, FEW), *slow([0, 1])])
@pytest.mark.parametrize("policy", POLICIES)
def test_table_is_the_same_whatever_was_compiled_before(policy: str, seed: int, steps: int) -> None:
    chance = random.Random(f"{policy} {seed}")
    previous: Proven | None = None
    for state in history(getattr(hardpolicies, policy)(seed, 100), chance, steps):
        previous = build(desired_of(state), previous=previous)
        assert render_table(previous.table) == from_nothing(state)


@pytest.mark.parametrize(("seed", "steps"), [(0, FEW), (1, FEW), *slow(range(4))])
@pytest.mark.parametrize("policy", CROWDED)
def test_member_and_interface_come_and_go_without_a_trace(
    policy: str, seed: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several hundred members; some states are skipped, as when changes come faster than they are applied. With
    diagrams that are kept, and without."""
    monkeypatch.setattr(profiles, "MAX_PROFILES", seed % 2)
    chance = random.Random(f"{policy} {seed}")
    previous: Proven | None = None
    for state in history(getattr(hardpolicies, policy)(seed, 60), chance, 2 * steps):
        found = build(desired_of(state), UNPROVEN, previous)
        assert render_table(found.table) == from_nothing(state)
        if chance.random() < 0.7:
            previous = found


def test_what_one_rule_leaves_alone_is_not_made_again() -> None:
    state = hardpolicies.typical(0, 200)
    first = build(desired_of(state), UNPROVEN)
    group = next(group for group in state.security_groups if len(group.rules) > 1)
    fewer = replace(group, rules=group.rules[1:])
    groups = tuple(fewer if entry is group else entry for entry in state.security_groups)
    second = build(desired_of(replace(state, security_groups=groups)), UNPROVEN, first)
    before, after = (
        {name: named.chain for side in made.memo.sides.values() for name, named in side.side.lowering.previous.items()}
        for made in (first, second)
    )
    made = [name for name, chain in after.items() if before.get(name) is not chain]
    assert 0 < len(made) < len(after) / 4


def test_what_one_rule_leaves_alone_is_not_proven_again() -> None:
    state = hardpolicies.typical(0, 200)
    group = next(group for group in state.security_groups if len(group.rules) > 1)
    fewer = replace(group, rules=group.rules[1:])
    groups = tuple(fewer if entry is group else entry for entry in state.security_groups)
    first, second = desired_of(state), desired_of(replace(state, security_groups=groups))
    made = build(first, UNPROVEN)
    tables = made.table, build(second, UNPROVEN, made).table
    before, after = (Specification(item.state, item.interfaces, DEFAULTS) for item in (first, second))
    whole = prove(before, tables[0])
    part = prove(after, tables[1], whole.proven)
    nothing = prove(replace(after, state=replace(after.state)), tables[1], part.proven)
    assert (whole.holds, part.holds, nothing.holds) == (True, True, True)
    assert 0 < part.cells < whole.cells / 4
    assert (nothing.cells, nothing.profiles) == (0, 0)
    assert not prove(after, tables[0], whole.proven).holds


def test_memory_is_of_the_last_two_compiles() -> None:
    recent = Recent[str, str]()
    recent.get("first", lambda: "chain")
    second = recent.next()
    assert second.get("first", lambda: "another") == "chain"  # asked for, and so kept on
    assert second.next().get("first", lambda: "another") == "chain"
    assert recent.next().next().get("first", lambda: "another") == "another"


def test_memory_does_not_grow_with_the_number_of_compiles() -> None:
    chance = random.Random(0)
    state = hardpolicies.typical(0, 60)
    previous = build(desired_of(state), UNPROVEN)
    for _ in range(2):
        for eni in state.network_interfaces[:2]:
            moved = replace(eni, security_group_ids=(chance.choice(state.security_groups).security_group_id,))
            enis = tuple(moved if entry is eni else entry for entry in state.network_interfaces)
            for changed in (replace(state, network_interfaces=enis), state):
                previous = build(desired_of(replace(changed)), UNPROVEN, previous)
    memo, wanted = previous.memo, build(desired_of(replace(state)), UNPROVEN).memo
    assert {key: side.side.lowering.previous.keys() for key, side in memo.sides.items()} == {
        key: side.side.lowering.previous.keys() for key, side in wanted.sides.items()
    }
    assert not memo.previous

"""An earlier proof never hides a difference: along random changes the result is the one of a proof from nothing, for
right tables, for tables of another state, and for wrong compiles."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product

import pytest

from sgdataplane.enforce import Desired, Proven, build
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address, Family
from sgdataplane.nft.ir import Table
from sgdataplane.policy.resolve import interfaces_of
from sgdataplane.proof.prove import ProvenTable, prove
from sgdataplane.proof.spec.specification import Specification
from sgdataplane.proof.walk.far import GroupSetAtoms, Kinships
from sgdataplane.proof.walk.lookups import Lookup
from sgdataplane.proof.walk.priority import GroupSet
from sgdataplane.proof.walk.structure import Structure
from tests.support.inputs import hardpolicies
from tests.support.inputs.edits import EDITS, edited
from tests.support.inputs.mutate import mutants

POLICIES = ("typical", "mixture", "prefix_lists", "kinships")
ABOUT_ONE = "prefix_lists"  # it has one ENI, so that each change is about it
RULES, STEPS = 30, 5
MUTANTS, FEW = 12, 3  # of each step
FEW_STEPS, TRIES = 2, 50
SEEDS = [(0,), pytest.param((0, 1), marks=pytest.mark.slow)]
QUICK_POLICIES = dict(zip(Placement, (POLICIES[::2], POLICIES[1::2]), strict=True))
Edit = Callable[[CloudState, random.Random], CloudState]


def desired_of(state: CloudState, placement: Placement) -> Desired:
    """In host placement, of all ENIs that the policy is about."""
    targets = hardpolicies.targets(state)
    if placement is Placement.INSTANCE:
        return Desired(state, interfaces_of(state, targets[0]))
    return Desired(state, {eni.network_interface_id: f"veth{n}" for n, eni in enumerate(targets)}, placement=placement)


def changed(state: CloudState, edit: Edit, chance: random.Random) -> CloudState:
    """After the first edit of that kind that is one: some find nothing to do."""
    for _ in range(TRIES):
        found = edit(state, chance)
        if found != state:
            return found
    return state


def specification_of(desired: Desired) -> Specification:
    return Specification(desired.state, desired.interfaces, DEFAULTS, placement=desired.placement)


def known_of(made: Proven) -> ProvenTable:
    assert made.proof is not None
    assert made.proof.proven is not None
    return made.proof.proven


def holds(desired: Desired, table: Table, known: ProvenTable, what: object) -> bool:
    """Whether the table does what is desired; the same from nothing."""
    found = prove(specification_of(desired), table, known)
    anew = prove(specification_of(desired), table)
    assert found.holds == anew.holds, what
    if anew.proven is not None and found.proven is not None:
        assert is_alike(found.proven.structure, anew.proven.structure), what
    return found.holds


def is_alike(one: Structure, other: Structure) -> bool:
    return (one.facts, one.targets, one.depth) == (other.facts, other.targets, other.depth)


@cache
def built(policy: str, seed: int, where: Placement) -> Proven:
    """Each change starts from it."""
    return build(desired_of(getattr(hardpolicies, policy)(seed, RULES), where))


@pytest.mark.parametrize("where", Placement, ids=lambda where: where.value)
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__.strip("_"))
@pytest.mark.parametrize("seeds", SEEDS, ids=lambda seeds: f"{len(seeds)}-seeds")
def test_state_that_changes_without_its_table_is_refused(seeds: tuple[int, ...], edit: Edit, where: Placement) -> None:
    """And a table that changes without its state. With one seed, each policy is tried in one of the
    placements, and the one that is about one ENI in both."""
    verdicts: Counter[bool] = Counter()
    for policy in POLICIES if len(seeds) > 1 else sorted({*QUICK_POLICIES[where], ABOUT_ONE}):
        for seed in seeds:
            what = f"{policy}, seed {seed}"
            chance = random.Random(what)
            before = built(policy, seed, where)
            old = before.desired
            new = desired_of(changed(old.state, edit, chance), where)
            if new.interfaces.keys() != old.interfaces.keys():
                continue
            after = build(new, previous=before)
            verdicts[holds(new, before.table, known_of(before), what)] += 1
            verdicts[holds(old, after.table, known_of(after), what)] += 1
    print(edit.__name__, dict(verdicts))
    assert verdicts[False], "no change of that kind made any difference: this proves nothing"


QUICK_CASES = [(policy, where, FEW, FEW_STEPS) for where in Placement for policy in QUICK_POLICIES[where]]
SLOW_CASES = [pytest.param(*case, MUTANTS, STEPS, marks=pytest.mark.slow) for case in product(POLICIES, Placement)]


@pytest.mark.parametrize(("policy", "where", "many", "count"), [*QUICK_CASES, *SLOW_CASES])
def test_wrong_compile_after_a_change_is_refused_just_the_same(
    policy: str, where: Placement, many: int, count: int
) -> None:
    """Whichever state before is known."""
    what = f"{policy}, {where.value}"
    chance = random.Random(what)
    steps = [build(desired_of(getattr(hardpolicies, policy)(0, RULES), where))]
    verdicts: Counter[bool] = Counter()
    for number in range(count):
        desired = desired_of(edited(steps[-1].desired.state, chance), where)
        steps.append(build(desired, previous=steps[-1]))
        for mutant in mutants(steps[-1].table, chance, many):
            known = known_of(chance.choice(steps))
            verdicts[holds(desired, mutant.table, known, f"{what}, step {number}: {mutant.what}")] += 1
        assert holds(desired, steps[-1].table, known_of(steps[0]), f"{what}, step {number}")
    assert verdicts[False] > verdicts[True]


@pytest.mark.parametrize("policy", POLICIES)
def test_who_is_a_member_is_the_same_whatever_was_read_before(policy: str) -> None:
    chance = random.Random(policy)
    state = getattr(hardpolicies, policy)(0, RULES)
    before, atoms = Kinships.read(state), dict.fromkeys(Family, GroupSetAtoms())
    for number in range(40):
        members = state.network_interfaces
        twin = replace(
            members[-1], network_interface_id=f"eni-twin-{number}", security_group_ids=members[0].security_group_ids
        )
        more = replace(state, network_interfaces=(*members, twin)) if chance.random() < 0.3 else state
        state = edited(more, chance)
        found, anew = Kinships.read(state, before), Kinships.read(replace(state))
        assert found.pages == anew.pages, number
        assert shared(found) == shared(anew), number
        assert set(found.carriers) == set(anew.carriers), number
        changed = {group for group in state.group if members_of(found, group) != members_of(before, group)}
        assert changed <= found.changed
        for family in Family:
            atoms[family] = GroupSetAtoms.read(found.pages[family], Lookup({}), atoms[family])
            assert atoms[family].all == GroupSetAtoms.read(anew.pages[family], Lookup({})).all, number
        before = found


def shared(kinships: Kinships) -> dict[Address, list[GroupSet]]:
    return {address: sorted(group_sets) for address, group_sets in kinships.shared.items()}


def members_of(kinships: Kinships, group: str) -> set[object]:
    """The addresses and prefixes of a group's members."""
    pages = [page for family in Family for page in kinships.pages[family].values()]
    addresses = {address for page in pages for address, group_set in page.items() if group in group_set}
    return {*addresses, *(prefix for family in Family for prefix in kinships.list_delegated(group, family))}

"""Changes that are measured: each leads to a state that was never there, and sizes stay."""

from __future__ import annotations

from bench import hostcost
from bench.deltacost import MAX_ROUNDS, base_state, kinds, steps

from sgdataplane.model.state import CloudState
from tests.support.inputs.hardpolicies import targets


def sizes(state: CloudState) -> tuple[int, ...]:
    lists = sum(len(entry.entries) for entry in state.prefix_lists)
    return len(state.network_interfaces), sum(len(group.rules) for group in state.security_groups), lists


def test_no_state_comes_twice_and_each_round_ends_with_the_sizes_of_the_first() -> None:
    base = base_state(64, 100)
    found = [base, *(step.state for step in steps(base, MAX_ROUNDS))]
    assert all(one != other for number, one in enumerate(found) for other in found[:number])
    each = 2 * len(kinds(base)) + 2
    assert {sizes(state) for state in found[::each]} == {sizes(base)}


def test_a_round_has_each_kind_in_both_directions() -> None:
    found = list(steps(base_state(64, 100), 1))
    counted = [step.kind for step in found if step.is_counted]
    assert len(counted) == len(set(counted)) == 2 * 6
    assert [step.kind for step in found if step.has_other] == ["ENI in", "between"] * 2


def test_without_members_there_are_no_changes_of_members() -> None:
    found = {step.kind for step in steps(base_state(0, 100), 0)}
    assert "rule on group in" in found
    assert not any("member" in kind or "kinship" in kind for kind in found)


def test_a_new_kinship_is_new_in_each_round() -> None:
    base = base_state(640, 20)
    seen = {eni.security_group_ids for eni in base.network_interfaces}
    for step in steps(base, MAX_ROUNDS):
        now = {eni.security_group_ids for eni in step.state.network_interfaces}
        if step.kind == "new kinship in":
            assert now - seen
        seen |= now


def test_one_rule_of_one_combination_of_a_full_host_is_in_one_combination() -> None:
    state = hostcost.base_state(100)
    combinations = {eni.security_group_ids for eni in targets(state)}
    assert len(combinations) == 5
    assert len([groups for groups in combinations if hostcost.OWN in groups]) == 1
    assert {len(groups) for groups in combinations} == {10}
    changed = hostcost.with_rule(state, 1)
    kept = {group.security_group_id for group in changed.security_groups if group in state.security_groups}
    assert state.group.keys() - kept == {hostcost.OWN}


def test_a_member_of_a_full_host_is_one_that_a_rule_is_about() -> None:
    state = hostcost.base_state(100)
    new = hostcost.with_member(state, 1).network_interfaces[-1]
    assert new.security_group_ids in {eni.security_group_ids for eni in state.network_interfaces}

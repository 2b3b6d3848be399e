"""The hard policies are legal, use their whole quota, and are the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgdataplane.model.state import CloudState, PrefixListRef, SecurityGroup
from sgdataplane.statefile.dump_native import sections
from sgdataplane.statefile.load import load
from tests.support.inputs.hardpolicies import GROUP_REMOTES, GROUPS, POLICIES, QUOTA, targets

SMALL = 100
WHOLE_QUOTA = sorted(POLICIES.keys() - {"kinships"})


def cost(state: CloudState, group: SecurityGroup) -> int:
    """Counted once more here, as semantics.md, section 5 says it."""
    lists = (rule.remote for rule in group.rules if isinstance(rule.remote, PrefixListRef))
    entries = [state.prefix_list[ref.prefix_list_id].max_entries for ref in lists]
    entries += [state.port_list[rule.port_list_id].max_entries for rule in group.rules if rule.port_list_id]
    return len(group.rules) + sum(entries) - len(entries)


def costs(state: CloudState) -> set[int]:
    return {sum(cost(state, state.group[group]) for group in eni.security_group_ids) for eni in targets(state)}


def loaded(state: CloudState, folder: Path) -> CloudState:
    """Through the loader, which refuses what is not legal within quota."""
    path = folder / "state.json"
    path.write_text(json.dumps({"version": 1, **sections(state)}), encoding="utf-8")
    return load(path, profile="2026").state


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", POLICIES)
def test_policy_is_legal(name: str, seed: int, tmp_path: Path) -> None:
    state = POLICIES[name](seed, SMALL)
    assert loaded(state, tmp_path) == state


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_policy_of_full_size_is_legal(name: str, tmp_path: Path) -> None:
    state = POLICIES[name](0, QUOTA)
    assert loaded(state, tmp_path) == state


@pytest.mark.parametrize("rules", [SMALL, QUOTA])
@pytest.mark.parametrize("name", [name for name in WHOLE_QUOTA if name != "host"])
def test_policy_uses_its_whole_quota(name: str, rules: int) -> None:
    assert costs(POLICIES[name](0, rules)) == {rules}


def test_every_eni_of_the_host_uses_its_whole_quota() -> None:
    state = POLICIES["host"](0, SMALL)
    assert costs(state) == {SMALL}
    assert len(targets(state)) == SMALL
    assert len({eni.security_group_ids for eni in targets(state)}) == SMALL // 20
    assert sum(len(eni.addresses) for eni in state.network_interfaces) == SMALL * 65_536 // 1000 // 2 * 2


def test_kinships_has_as_many_rules_on_groups_as_there_may_be() -> None:
    assert costs(POLICIES["kinships"](0, QUOTA)) == {GROUPS * GROUP_REMOTES}


@pytest.mark.parametrize("name", POLICIES)
def test_the_seed_alone_says_what_the_policy_is(name: str) -> None:
    assert POLICIES[name](3, SMALL) == POLICIES[name](3, SMALL)
    assert POLICIES[name](3, SMALL) != POLICIES[name](5, SMALL)

"""How many paths lead through compiled tables: bounds that today's figures fill, so that what makes more of them fails.

A kernel without memory walks each of them at each commit, some 20 to 60 ns a visit. The goal is 100 visits an ENI at
1,000 ENIs in host placement, without memory: 100,000 (docs/decisions/075-steps-decide.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.contract.fields import Hook
from sgdataplane.enforce import Desired
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.model.state import CloudState
from sgdataplane.nft.ir import Chain, Table, goto, rule
from sgdataplane.nft.validation import Visits
from sgdataplane.policy.resolve import interfaces_of, resolve
from sgdataplane.statefile import load
from tests.golden.test_golden import CASES
from tests.support.inputs.building import visits_of
from tests.support.inputs.hardpolicies import POLICIES, host, targets
from tests.support.run.paths import check_paths

SCENARIOS = sorted((Path(__file__).resolve().parents[2] / "netns-lab" / "scenarios").glob("*/state*.yaml"))
STATES = [*(case / "state.yaml" for case in CASES), *SCENARIOS]
HOST = {10: (539, 351), 20: (979, 596), 50: (2_675, 1_538), 100: (6_145, 3_473)}
WHOLE_HOST = {1_000: (98_609, 50_428)}
SMALL = 189  # of a policy of a few rules
INSTANCE = {  # at 100 rules (kinships, host: 30), the greater of two seeds
    "typical": 415,
    "alternating": 355,
    "nested_cidrs": 371,
    "overlapping_ports": 349,
    "five_tuple": 285,
    "prefix_lists": 181,
    "port_lists": 347,
    "mixture": 467,
    "kinships": 391,
    "host": 197,
}


def of_host(enis: int) -> Visits:
    state = host(0, enis)
    interfaces = {eni.network_interface_id: f"h{number}" for number, eni in enumerate(targets(state))}
    return visits_of(Desired(state, interfaces, placement=Placement.HOST))


@pytest.mark.parametrize("enis", [*HOST, pytest.param(1_000, marks=pytest.mark.slow)])
def test_host_placement(enis: int) -> None:
    """The largest takes some seconds."""
    visits = of_host(enis)
    every_path, remembered = (HOST | WHOLE_HOST)[enis]
    assert visits.every_path <= every_path
    assert visits.remembered <= remembered


def of_instances(state: CloudState) -> Iterator[Visits]:
    """Of each instance's namespace."""
    for interfaces in {tuple(sorted(interfaces_of(state, eni).items())) for eni in state.network_interfaces}:
        yield visits_of(Desired(state, dict(interfaces)))


@pytest.mark.parametrize("path", STATES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_instance_placement_of_small_states(path: Path) -> None:
    assert max(visits.every_path for visits in of_instances(load(path).state)) <= SMALL


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("seed", [0, 1])
def test_instance_placement_of_hard_policies(name: str, seed: int) -> None:
    state = POLICIES[name](seed, 30 if name in ("kinships", "host") else 100)
    assert visits_of(Desired(state, interfaces_of(state, targets(state)[0]))).every_path <= INSTANCE[name]


def test_table_with_far_more_paths_than_chains_fails_wherever_it_is_compiled() -> None:
    state = host(0, 10)
    policy = resolve(state, interfaces_of(state, targets(state)[0]), DEFAULTS)
    check_paths(compile_policy(policy, DEFAULTS))
    assert hasattr(compile_policy, "__wrapped__"), "tests/conftest.py has each table checked as it is compiled"
    levels = [
        Chain(f"c{n}", (rule(goto(f"c{n + 1}")),) * 3, Hook("prerouting", 0) if n == 0 else None) for n in range(9)
    ]
    with pytest.raises(AssertionError, match="were expected at most"):
        check_paths(Table("t", (*levels, Chain("c9", ()))))

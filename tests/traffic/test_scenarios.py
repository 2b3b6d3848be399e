"""Every folder of netns-lab/scenarios/ is a test: real packets agree with its rows, and its matrix with decide()."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sgdataplane.lab.manage import enforce_policy
from sgdataplane.lab.record import LabRecord
from sgdataplane.lab.scenario import Scenario, load_scenario, run_scenario
from tests.support import labs

pytestmark = pytest.mark.traffic

FOLDERS = sorted(
    path.parent for path in (Path(__file__).parents[2] / "netns-lab" / "scenarios").glob("*/scenario.toml")
)


def test_there_are_scenarios() -> None:
    assert len(FOLDERS) >= 19


@pytest.mark.parametrize("folder", [pytest.param(folder, id=folder.name) for folder in FOLDERS])
def test_scenario(folder: Path, placement: str, make_lab_name: Callable[[], str]) -> None:
    scenario, name = load_scenario(folder), make_lab_name()
    check(scenario, labs.record_of(name, placement))
    labs.assert_gone(name)


@pytest.mark.placement("host")
@pytest.mark.parametrize("folder", [pytest.param(folder, id=folder.name) for folder in FOLDERS])
def test_scenario_over_two_hosts(folder: Path, placement: str, make_lab_name: Callable[[], str]) -> None:
    """The cases in which each end can be enforced in another router."""
    check(load_scenario(folder), labs.record_of(make_lab_name(), placement, hosts=2))


def check(scenario: Scenario, record: LabRecord) -> None:
    seen = []
    with closing(run_scenario(scenario, record, enforce_policy)) as results:
        for result in results:
            assert result.mistakes == (), "\n".join((result.step.title, *result.mistakes))
            assert len(result.matrix) > 0
            seen.append(result.step)
    assert tuple(seen) == scenario.steps

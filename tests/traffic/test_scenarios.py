"""Every folder of netns-lab/scenarios/ is a test: real packets agree with its rows, and its matrix with decide()."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sgdataplane.lab.record import LabRecord
from sgdataplane.lab.scenario import Scenario, load_scenario, run_scenario
from tests.support.scenes import labs

pytestmark = pytest.mark.traffic

FOLDERS = sorted(
    path.parent for path in (Path(__file__).parents[2] / "netns-lab" / "scenarios").glob("*/scenario.toml")
)
# Each scenario runs at instances, and where routers enforce: over two hosts, or on one. The slow tests have the rest.
OVER_TWO_HOSTS = {
    "11-figure-1-basic-ipv6",
    "20-three-tier",
    "33-inner-accept-over-drop",
    "42-five-tuple",
    "60-secondary-enis",
}


def scenarios(is_quick: Callable[[str], bool]) -> pytest.MarkDecorator:
    """All of them. Those that this doesn't choose are slow."""
    marks = {folder: [] if is_quick(folder.name) else [pytest.mark.slow] for folder in FOLDERS}
    return pytest.mark.parametrize(
        "folder", [pytest.param(folder, id=folder.name, marks=marks[folder]) for folder in FOLDERS]
    )


def test_there_are_scenarios() -> None:
    assert len(FOLDERS) >= 19
    assert {folder.name for folder in FOLDERS} >= OVER_TWO_HOSTS


@pytest.mark.placement("instance")
@scenarios(lambda _: True)
def test_scenario_at_instances(folder: Path, placement: str, make_lab_name: Callable[[], str]) -> None:
    name = make_lab_name()
    check(load_scenario(folder), labs.record_of(name, placement))
    labs.assert_gone(name)


@pytest.mark.placement("host")
@scenarios(lambda name: name not in OVER_TWO_HOSTS)
def test_scenario_on_one_host(folder: Path, placement: str, make_lab_name: Callable[[], str]) -> None:
    name = make_lab_name()
    check(load_scenario(folder), labs.record_of(name, placement))
    labs.assert_gone(name)


@pytest.mark.placement("host")
@scenarios(OVER_TWO_HOSTS.__contains__)
def test_scenario_over_two_hosts(folder: Path, placement: str, make_lab_name: Callable[[], str]) -> None:
    """The cases in which each end can be enforced in another router."""
    check(load_scenario(folder), labs.record_of(make_lab_name(), placement, hosts=2))


def check(scenario: Scenario, record: LabRecord) -> None:
    seen = []
    with closing(run_scenario(scenario, record, labs.enforce_policy)) as results:
        for result in results:
            assert result.mistakes == (), "\n".join((result.step.title, *result.mistakes))
            assert len(result.matrix) > 0
            seen.append(result.step)
    assert tuple(seen) == scenario.steps

"""Every folder of netns-lab/scenarios/ is a test: its rows, and its whole matrix against decide(), in real packets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sgdataplane.lab.policy import enforce_policy
from sgdataplane.lab.scenario import load_scenario, run_scenario
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
    seen = []
    with closing(run_scenario(scenario, labs.record_of(name, placement), enforce_policy)) as results:
        for result in results:
            assert result.mistakes == (), "\n".join((result.step.title, *result.mistakes))
            assert len(result.matrix) > 0
            seen.append(result.step)
    assert tuple(seen) == scenario.steps
    labs.assert_gone(name)

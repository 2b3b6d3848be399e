"""`make test-vm` itself: one scenario in a user-mode kernel that was built before."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import report, suites
from tests.vm.__main__ import CACHE
from tests.vm.machines import LOG, MACHINES, Cache, run, write_job

pytestmark = [pytest.mark.kernel, pytest.mark.optional]
SCENARIO = ("tests/traffic/test_scenarios.py", "-k", "60-secondary-enis")
SMOKE_S = 280.0


def test_a_scenario_passes_on_debians_kernel_in_both_placements(tmp_path: Path) -> None:
    machine, cache = MACHINES[0], Cache(CACHE)
    if not cache.is_ready(machine.release):
        pytest.skip(f"no kernel is built here, or not of the present files: make test-vm VM={machine.name} builds one")
    job = tmp_path / machine.name
    write_job(job, suites.of_chosen(SCENARIO))
    outcome = run(machine, cache, job, SMOKE_S)
    print((outcome.results / LOG).read_text("utf-8"))
    found = report.read(machine.name, outcome.results)
    assert outcome.code == 0
    assert found.kernel.startswith("6.12.")
    assert [(suite.passed > 1, suite.failed, suite.skipped) for suite in found.suites] == [(True, (), ())]

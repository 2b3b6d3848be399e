"""Scenarios: folders of states, with what each step must show (netns-lab/scenarios/README.md has the format).

Owns how they are read and run. A step is right if every probe of its matrix agrees with the policy, and every row of
its expectations agrees with both. It is given a folder and an enforcer. Must not print.
"""

from __future__ import annotations

import tomllib
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sgdataplane.errors import LabError
from sgdataplane.lab import manage
from sgdataplane.lab.expect import ProbeResult, explain_result
from sgdataplane.lab.expectations import Row, judge, parse_row, probes_of_row
from sgdataplane.lab.manage import Enforcer, Lab
from sgdataplane.lab.matrix import matrix_probes, probe_all
from sgdataplane.lab.probe import Service, parse_services
from sgdataplane.lab.record import LabRecord
from sgdataplane.statefile import load

SCENARIO_KEYS, STEP_KEYS = {"title", "externals", "ports", "steps"}, {"title", "state", "expect"}


@dataclass(frozen=True, slots=True)
class ScenarioStep:
    """One step of a scenario: a state, and what it must show."""

    title: str
    """What the step is about."""
    state: Path
    rows: tuple[Row, ...]
    """Its expectations."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario as its folder has it."""

    folder: Path
    title: str
    externals: tuple[tuple[str, ...], ...]
    """The addresses of each host outside."""
    services: tuple[Service, ...]
    """The services of each step's matrix."""
    steps: tuple[ScenarioStep, ...]


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of a step's packets."""

    step: ScenarioStep
    lab: Lab
    matrix: tuple[ProbeResult, ...]
    mistakes: tuple[str, ...]
    """What wasn't as it should be; empty if everything was."""


def load_scenario(folder: Path) -> Scenario:
    """Read a scenario's folder. LabError, with the place, if it isn't one."""
    path = folder / "scenario.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        _refuse_unknown(path, document, SCENARIO_KEYS)
        return Scenario(
            folder=folder,
            title=document["title"],
            externals=tuple(tuple(host) for host in document["externals"]),
            services=parse_services(",".join(document["ports"])),
            steps=tuple(_read_step(path, step) for step in document["steps"]),
        )
    except OSError as error:
        raise LabError(str(path), error.strerror or str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise LabError(str(path), f"not a scenario: {error!r}") from error


def _read_step(path: Path, step: dict[str, Any]) -> ScenarioStep:
    _refuse_unknown(path, step, STEP_KEYS)
    return ScenarioStep(
        step["title"], path.parent / step["state"], tuple(_read_row(path, text) for text in step["expect"])
    )


def _read_row(path: Path, text: str) -> Row:
    try:
        return parse_row(text)
    except ValueError as error:
        raise LabError(str(path), f"the row {text!r} is not an expectation; {error}") from error


def _refuse_unknown(path: Path, table: dict[str, Any], known: set[str]) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise LabError(str(path), f"unknown key {unknown[0]!r}; there are {', '.join(sorted(known))}")


def run_scenario(scenario: Scenario, asked: LabRecord, enforce: Enforcer) -> Generator[StepResult, None, None]:
    """Run a scenario step by step in a lab of that record, with the scenario's own hosts outside.

    The lab is removed when the iterator is exhausted, closed or fails.
    """
    record = replace(asked, externals=scenario.externals)
    manage.refuse_existing(record.name)
    try:
        for number, step in enumerate(scenario.steps):
            state = load(step.state).state
            lab = manage.apply(record.name, state, enforce) if number else manage.up(record, state, enforce)
            yield run_step(lab, step, scenario.services)
    finally:
        manage.down(record.name)


def run_step(lab: Lab, step: ScenarioStep, services: tuple[Service, ...]) -> StepResult:
    """Probe the whole matrix and all rows at once, then compare."""
    matrix = matrix_probes(lab.topology.nodes, services)
    of_row = {row: probes_of_row(lab, row) for row in step.rows}
    probes = tuple(dict.fromkeys((*matrix, *(probe for found in of_row.values() for probe in found))))
    cells = dict(zip(probes, probe_all(lab, probes), strict=True))
    mistakes = [f"{cell.probe}: {explain_result(cell)}" for cell in cells.values() if not cell.agrees]
    wrong = (each for each in judge(of_row, cells) if each.mistake)
    mistakes += [f"row {each.row.text!r}: {each.probe}: {each.mistake}" for each in wrong]
    return StepResult(step, lab, tuple(cells[probe] for probe in matrix), tuple(mistakes))

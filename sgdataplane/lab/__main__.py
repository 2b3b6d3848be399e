"""`python -m sgdataplane.lab run [FOLDER]`: run a scenario with real packets and show what they do.

Owns the arguments, and what a scenario looks like to a person. Must not leave anything behind, however it ends.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import sgdataplane
from sgdataplane.errors import PrivilegeError, SgDataplaneError
from sgdataplane.lab import report, status
from sgdataplane.lab.manage import default_record, enforce_policy, terminate_like_interrupt
from sgdataplane.lab.record import LabRecord
from sgdataplane.lab.scenario import StepResult, load_scenario, run_scenario
from sgdataplane.lab.topology import MAX_HOSTS
from sgdataplane.model.options import Placement
from sgdataplane.model.words import pluralize
from sgdataplane.terminal.output import complain, guard_output, paint, say, say_aside, say_block

THREE_TIER = Path(sgdataplane.__file__).parents[1] / "netns-lab" / "scenarios" / "20-three-tier"
DONE, NO, NOT_ROOT, INTERRUPTED = 0, 1, 4, 130


def main() -> int:
    """Run the scenario that the command line names; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sgdataplane.lab", description="the lab's scenarios")
    run = parser.add_subparsers(metavar="COMMAND", required=True).add_parser("run", help="run a scenario and show it")
    run.add_argument(
        "folder", type=Path, nargs="?", default=THREE_TIER, metavar="FOLDER", help="default: 20-three-tier"
    )
    run.add_argument("--placement", choices=[placement.value for placement in Placement], default="instance")
    run.add_argument("--hosts", type=int, choices=range(1, MAX_HOSTS + 1), default=1, metavar="N")
    arguments = parser.parse_args()
    record = default_record(f"demo{os.getpid()}")
    choices = replace(record.choices, placement=Placement(arguments.placement))
    with guard_output():
        return _run(arguments.folder, replace(record, choices=choices, hosts=arguments.hosts))


def _run(folder: Path, record: LabRecord) -> int:
    """Run the scenario; print an error, if there is one, and return the exit code that stands for it."""
    try:
        if os.geteuid() != 0:
            command = f"sudo {sys.executable} -m sgdataplane.lab run"
            raise PrivilegeError("root (it makes network namespaces)", command)
        with terminate_like_interrupt():
            return _show(folder, record)
    except SgDataplaneError as error:
        complain(error)
        return NOT_ROOT if isinstance(error, PrivilegeError) else NO
    except KeyboardInterrupt:
        say_aside("interrupted; the lab is down")
        return INTERRUPTED


def _show(folder: Path, record: LabRecord) -> int:
    """Print each step: what is where, and what packets showed beside what the policy says."""
    scenario = load_scenario(folder)
    say(paint(scenario.title, "bold"))
    mistakes, began = 0, time.monotonic()
    with closing(run_scenario(scenario, record, enforce_policy)) as results:
        for number, result in enumerate(results, 1):
            _print_step(number, result)
            mistakes += len(result.mistakes)
    took = f"{time.monotonic() - began:.1f} s, the lab is down again"
    if mistakes:
        say(paint(f"{pluralize(mistakes, 'thing')} differed from what the scenario expects; {took}", "red"))
        return NO
    say(paint(f"every packet did what the policy says; {took}", "green"))
    return DONE


def _print_step(number: int, result: StepResult) -> None:
    """Print a step's nodes, its matrix, and the expectations that weren't met."""
    say()
    say(f"Step {number}: {result.step.title}")
    say()
    say_block(status.status_as_text(result.lab), end="\n\n")
    say_block(report.matrix_as_text(result.matrix, status.notes(result.lab)))
    rows = len(result.step.rows)
    say(f"{rows} expectations of the scenario, {'some not met:' if result.mistakes else 'all met'}")
    for mistake in result.mistakes:
        say(paint(f"! {mistake}", "red"))


if __name__ == "__main__":
    sys.exit(main())

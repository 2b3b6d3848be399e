"""`python -m sgdataplane.lab.demo`: the three-tier example as a lab, with real packets, and gone afterwards.

Owns what a scenario looks like to a person. Is given a scenario's folder. Must not leave anything behind, however it
ends.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sgdataplane
from sgdataplane.cli.output import complain, guarded, paint, say, say_aside, say_block
from sgdataplane.errors import PrivilegeError, SgDataplaneError
from sgdataplane.lab import report
from sgdataplane.lab.manage import default_record
from sgdataplane.lab.policy import enforce_policy
from sgdataplane.lab.record import LabRecord
from sgdataplane.lab.scenario import StepResult, load_scenario, run_scenario

THREE_TIER = Path(sgdataplane.__file__).parents[1] / "netns-lab" / "scenarios" / "20-three-tier"
DONE, NO, NOT_ROOT, INTERRUPTED = 0, 1, 4, 130


def main() -> int:
    """Show the three-tier scenario; the exit code."""
    return show(THREE_TIER, default_record(f"demo{os.getpid()}"))


def show(folder: Path, record: LabRecord) -> int:
    """Run a scenario and print each step: who is where, what packets showed beside what policy says. The exit code."""
    with guarded():
        return _ended(folder, record)


def _ended(folder: Path, record: LabRecord) -> int:
    try:
        if os.geteuid() != 0:
            raise PrivilegeError("root (it makes network namespaces)", f"sudo {sys.executable} -m sgdataplane.lab.demo")
        with _terminated_like_interrupted():
            return _show(folder, record)
    except SgDataplaneError as error:
        complain(error)
        return NOT_ROOT if isinstance(error, PrivilegeError) else NO
    except KeyboardInterrupt:
        say_aside("interrupted; the lab is down")
        return INTERRUPTED


def _show(folder: Path, record: LabRecord) -> int:
    scenario = load_scenario(folder)
    say(paint(scenario.title, "bold"))
    mistakes, began = 0, time.monotonic()
    with closing(run_scenario(scenario, record, enforce_policy)) as results:
        for number, result in enumerate(results, 1):
            _print_step(number, result)
            mistakes += len(result.mistakes)
    took = f"{time.monotonic() - began:.1f} s, the lab is down again"
    if mistakes:
        say(paint(f"{mistakes} things were not as they should be; {took}", "red"))
        return NO
    say(paint(f"every packet did what the policy says; {took}", "green"))
    return DONE


def _print_step(number: int, result: StepResult) -> None:
    say()
    say(f"Step {number}: {result.step.title}")
    say()
    say_block(report.status_as_text(result.lab), end="\n\n")
    say_block(report.matrix_as_text(result.matrix, report.notes(result.lab)))
    rows = len(result.step.rows)
    say(f"{rows} expectations of the scenario, {'some not met:' if result.mistakes else 'all met'}")
    for mistake in result.mistakes:
        say(paint(f"! {mistake}", "red"))


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM takes the lab down as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


if __name__ == "__main__":
    sys.exit(main())

"""`make test-vm`: makes what is missing, runs the machines, writes the report.

Owns arguments and order. Must not know what runs in a machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.vm import races, report, suites
from tests.vm.machines import MACHINES, ROOT, TOOLS, Cache, Machine, install_packages, many_mappings, run, write_job

CACHE = Path(os.environ.get("SGDP_VM_CACHE", "/var/tmp/sgdataplane-vm"))
RESULTS = ROOT / "build" / "vm"
REPORT = ROOT / "docs" / "kernels.md"
MACHINE_S = 9000.0


@dataclass(frozen=True, slots=True)
class Part:
    """What of a user-mode kernel's job is asked for: these tests, or these suites; nothing: all of it."""

    tests: tuple[str, ...]
    suites: tuple[str, ...]

    @property
    def is_any(self) -> bool:
        return bool(self.tests or self.suites)


def main() -> int:
    """0 if everything passed that ran."""
    arguments, options = _parser().parse_known_args()
    tests = [*arguments.tests, *options]
    part = Part(tuple(tests), tuple(arguments.suite or ()))
    if os.geteuid() != 0:
        print("test-vm needs root (mmdebstrap, chroot). Run: sudo make test-vm", file=sys.stderr)
        return 4
    install_packages()
    chosen = [machine for machine in MACHINES if machine.name in (arguments.machine or _names())]
    cache = Cache(CACHE)
    for release in dict.fromkeys(machine.release for machine in chosen):
        cache.prepare(release)
    results = _run_all(chosen, cache, part)
    text = report.page(results)
    if any((RESULTS / name).is_dir() for name in _names()):
        earlier = [report.read(name, RESULTS / name / "results") for name in _names() if (RESULTS / name).is_dir()]
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(report.page(earlier), "utf-8")
    print(f"{text}\nWhat each machine said is in {RESULTS.relative_to(ROOT)}.")
    return int(any(result.has_failed for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make test-vm")
    parser.add_argument("--machine", action="append", choices=_names(), help="one of them (default: all)")
    what = "in user-mode kernels this suite alone; its results take the place of those on the page"
    parser.add_argument("--suite", action="append", choices=suites.SUITES, help=what)
    parser.add_argument("tests", nargs="*", help="what pytest gets in user-mode kernels, its options, too")
    return parser


def _names() -> list[str]:
    return [machine.name for machine in MACHINES]


def _run_all(chosen: Sequence[Machine], cache: Cache, part: Part) -> list[report.MachineResult]:
    """One more at once than there are processors: each keeps little more than one busy, two thirds of the time."""
    with many_mappings(), ThreadPoolExecutor(len(os.sched_getaffinity(0)) + 1) as pool:
        return list(pool.map(lambda machine: _run_one(machine, cache, part), chosen))


def _run_one(machine: Machine, cache: Cache, part: Part) -> report.MachineResult:
    whole = RESULTS / machine.name
    job = RESULTS / "some" / machine.name if part.is_any else whole
    if machine.kind == "uml":
        names = part.suites or suites.usual(is_first=machine == MACHINES[0])
        write_job(job, suites.of_chosen(part.tests) if part.tests else suites.on_user_mode_kernel(names))
    elif machine.kind == "race":
        write_job(job, suites.under_a_debugger(races.WAYS))
    else:
        package = _build_package(cache.of(machine.release, "tree"))
        write_job(job, suites.on_stock_debian(package.name))
        package.rename(job / package.name)
    print(f"{machine.name}: running; its console is in {job.relative_to(ROOT)}", flush=True)
    commit = _commit()  # there may be another one by the end
    outcome = run(machine, cache, job, MACHINE_S)
    gone = f"Its job did not come to its end; after {outcome.seconds:.0f} s the machine was gone."
    notes = {0: "", 1: "", None: gone}
    note = notes.get(outcome.code, f"Its job ended with exit code {outcome.code}.")
    report.add(outcome.results, commit, note, outcome.seconds)
    if part.tests and whole.is_dir():
        report.take_over_cases(outcome.results, whole / "results", suites.suite_of)
    elif part.suites:
        report.take_over(outcome.results, whole / "results")
    return report.read(machine.name, outcome.results)


def _build_package(tree: Path) -> Path:
    """The agent's Debian package of the last commit, built by the release that it is for."""
    source = tree / "src"
    subprocess.run([str(TOOLS / "checkout.sh"), str(tree)], check=True)
    command = [str(TOOLS / "chroot.sh"), str(tree), "sh", "-c", "cd /src && tools/deb.sh"]
    built = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    (agent,) = (name for name in built if name.startswith("sgdataplane_"))
    return source / "build" / agent


def _commit() -> str:
    line = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())

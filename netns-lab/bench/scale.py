"""`python -m bench.scale`: what many hosts cost, and how soon each of them hears and enforces what concerns it.

Owns the run: which cases it has, their time, and the results that are kept. Relays are real, and each simulated host
holds a TLS stream of its own to one (bench/scalehosts.py). All of it is in namespaces that belong to the run. Must not
know how a case is measured (bench/scalemeasures.py, scalereal.py, costs.py).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.costs import Figures
from bench.costs import run as run_command
from bench.errors import BenchError
from bench.facts import facts
from bench.isolation import isolate
from bench.scalecases import CHURN, FULL, LARGE, QUICK, AnyCase, Case, CommandCase, find_cases
from bench.scalemeasures import measure, told
from bench.scalereal import measure_whole

TOTAL_S = 870.0  # of a default run: with what begins and ends the cases, less than 15 minutes
CLOSING_S = 20.0  # that ending a case may take
LEAST_S = 15.0  # less isn't worth a start: what was measured before stays
Entry = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.scale", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where results and pictures go")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases")
    parser.add_argument(
        "--large", action="store_true", help="the cases that a run of 15 minutes has no room for, alone"
    )
    parser.add_argument(
        "--only", metavar="CASE", action="append", help="this case; can be repeated (--list: all names)"
    )
    parser.add_argument("--list", action="store_true", help="the cases, and after how long each is given up")
    parser.add_argument("--changes", type=int, metavar="N", help="of each kind, in each case; and calls")
    parser.add_argument("--minutes", type=float, metavar="N", help="of all cases together")
    parser.add_argument("--redraw", action="store_true", help="page and pictures anew, from the results that are there")
    options = parser.parse_args()
    if options.list:
        for case in (*FULL, *LARGE):
            print(f"{case.name:20} {case.most_s:5.0f} s{' (--large)' * (case in LARGE)}")
        return 0
    file = options.out / "scale.json"
    if not options.redraw:
        chosen = choose_cases(parser, options)
        isolate("bench.scale")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        whole_s = sum(case.most_s + CLOSING_S for case in chosen)
        is_default = not (options.only or options.large)
        seconds = options.minutes * 60 if options.minutes else TOTAL_S if is_default else whole_s
        run(chosen, file, seconds, former(file))
    from bench.scalereport import page  # noqa: PLC0415  # it draws, and needs matplotlib

    results = json.loads(file.read_text(encoding="utf-8"))
    print(page(results | {"cases": former(file)}, options.out))
    return 0


def choose_cases(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[AnyCase, ...]:
    """Return the cases that the options name."""
    found = LARGE if options.large else QUICK if options.quick else FULL
    try:
        found = find_cases(options.only) if options.only else found
    except KeyError as missing:
        parser.error(f"no case {missing}; --list names them")
    return tuple(with_changes(case, options.changes) if options.changes else case for case in found)


def with_changes(case: AnyCase, changes: int) -> AnyCase:
    """Return the case with so many changes, or calls."""
    if isinstance(case, Case):
        return replace(case, changes=changes)
    assert isinstance(case, CommandCase)
    return replace(case, words=("--changes" if case.name == CHURN else "--times", str(changes)))


def former(file: Path) -> list[Entry]:
    """Return the results that are there, each with the commit that it is of. If no run has measured the agent's churn,
    its figures come from the last whole run of `bench`, which keeps its samples in the same folder."""
    found: list[Entry] = []
    if file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
        of_run = {name: kept["facts"][name] for name in ("commit", "date")}
        found = [{"name": name_of(one), **of_run, **one} for one in kept["cases"]]
    return [*found, *churn_of_bench(file.parent / "results.json", found)]


def name_of(entry: Entry) -> str:
    """Return the name of a result's case, also of one that was kept before cases had names."""
    case = entry.get("case", {})
    return str(entry.get("name") or Case(case["hosts"], case["connected"], case["store"], 0).name)


def churn_of_bench(file: Path, found: list[Entry]) -> list[Entry]:
    """Return the result of the agent's churn from the samples of `bench`, if it isn't among those that are there."""
    if any(one["name"] == CHURN for one in found) or not file.exists():
        return []
    kept = json.loads(file.read_text(encoding="utf-8"))
    samples = {name: values for name, values in kept["figures"]["samples"].items() if name.startswith(f"{CHURN}.")}
    of_run = {name: kept["facts"][name] for name in ("commit", "date")}
    return [{"name": CHURN, **of_run, "figures": samples}] if samples else []


def run(cases: Sequence[AnyCase], file: Path, seconds: float, results: list[Entry]) -> None:
    """Results are written after each case: what is there stays, if a later one fails. A case for which no time is left
    keeps its former result."""
    deadline, of_run = time.monotonic() + seconds, facts()
    for case in cases:
        begin = time.monotonic()
        left = deadline - begin - CLOSING_S
        found = result_of(case, min(case.most_s, left)) | {"commit": of_run["commit"], "date": of_run["date"]}
        found["seconds"] = time.monotonic() - begin
        told(f"{case.name}: {found['seconds']:.0f} s{', ' + found['error'] if 'error' in found else ''}")
        if left > LEAST_S or all(one["name"] != case.name for one in results):
            results = [one for one in results if one["name"] != case.name] + [found]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"facts": of_run, "cases": results}, indent=1) + "\n", encoding="utf-8")


def result_of(case: AnyCase, seconds: float) -> Entry:
    """Return what was measured, also if the case ended with an error, which is among it then."""
    found: Entry = {"name": case.name}
    if isinstance(case, Case):
        found["case"] = asdict(case) | {"relays": case.relays}
    with TemporaryDirectory(prefix="sgdp-scale-", ignore_cleanup_errors=True) as folder:
        try:
            if seconds <= 0:
                raise BenchError("no time is left")
            if isinstance(case, Case):
                (measure_whole if case.has_agent else measure)(case, Path(folder), seconds, found)
            elif isinstance(case, CommandCase):
                measure_command(case, seconds, found)
        except Exception as error:  # noqa: BLE001  # the other cases are measured
            found["error"] = f"{type(error).__name__}: {error}"[:500]
    return found


def measure_command(case: CommandCase, seconds: float, result: Entry) -> None:
    """BenchError if it fails or takes longer; what it has told until then is in the result."""
    figures = Figures()
    run_command(case.command, figures, seconds, case.words)
    result["figures"] = figures.samples
    for why in figures.why.values():
        raise BenchError(why)


if __name__ == "__main__":
    sys.exit(main())

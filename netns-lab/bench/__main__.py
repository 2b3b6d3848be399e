"""`python -m bench`: run the benchmark, write its table and plots, and print the table.

Owns the arguments and the isolation. Everything happens in network, mount and process namespaces that belong to the
run, so the machine isn't touched, and nothing is left however the run ends.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from bench.facts import facts
from bench.plots import draw
from bench.report import report
from bench.results import Results, read
from bench.run import Plan, Run

SIZES = (1, 10, 100, 1000)
FULL = Plan(SIZES, loads=3, change_rounds=9, packet_rounds=150, slice_s=0.004, has_costs=True)
QUICK = Plan(SIZES, loads=1, change_rounds=2, packet_rounds=25, slice_s=0.004, has_costs=False)
ISOLATED = "SGDP_BENCH_ISOLATED"
# /run/netns is ours alone, so that no name is left in the machine's.
ENTER = 'mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && exec "$@"'
UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", ENTER, "sh")


def main() -> int:
    options = _arguments()
    if options.redraw:
        results = read(options.redraw)
    else:
        _isolate()
        results = _run(options)
    options.out.mkdir(parents=True, exist_ok=True)
    results.write(options.out / "results.json")
    text = report(results, draw(results, options.out))
    (options.out / "results.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a result")
    parser.add_argument("--peers", type=Path, required=True, metavar="DIR", help="the tree with the peers' programs")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where table and plots go")
    parser.add_argument("--seed", type=int, default=1, help="of the order of turns (default 1)")
    parser.add_argument("--redraw", type=Path, metavar="JSON", help="run nothing: tell an earlier run's results anew")
    return parser.parse_args()


def _isolate() -> None:
    """Start this program again in namespaces that belong to the run, unless it is in them already."""
    if os.environ.get(ISOLATED) != "yes":
        environment = {**os.environ, ISOLATED: "yes"}
        os.execvpe("unshare", (*UNSHARE, sys.executable, "-m", "bench", *sys.argv[1:]), environment)


def _run(options: argparse.Namespace) -> Results:
    results = Run(QUICK if options.quick else FULL, options.peers, options.seed).everything()
    kind = "quick" if options.quick else "full"
    results.facts.update(facts(), run=f"{kind}, seed {options.seed}", took=f"{results.seconds:.0f} s")
    return results


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench`: run the benchmark, write its table and plots, and print the table.

Owns the arguments and the isolation. Everything happens in network, mount and process namespaces that belong to the
run, so the machine isn't touched, and nothing is left however the run ends.
"""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path

from bench.facts import facts
from bench.isolation import isolate
from bench.peers import IPTABLES_ONE_SET, NFTABLES
from bench.plots import draw
from bench.report import report
from bench.results import Results, read
from bench.run import Plan, Run
from bench.variants import ALL_PEERS, variants

QUICK_PEERS = (NFTABLES.name, IPTABLES_ONE_SET.name)
FULL = Plan(
    variants((1, 10, 100, 1000), (1, 2, 8, 32), (1, 10, 100, 1000), (256, 4096, 65_536), tuple(ALL_PEERS)),
    loads=3,
    build_s=120,
    change_rounds=9,
    packet_rounds=120,
    slice_s=0.004,
    packets_until=15 * 60,
    seconds=30 * 60,
    is_quick=False,
)
QUICK = Plan(
    variants((1, 1000), (32,), (1000,), (), QUICK_PEERS),
    loads=1,
    build_s=20,
    change_rounds=5,
    packet_rounds=40,
    slice_s=0.004,
    packets_until=80,
    seconds=150,
    is_quick=True,
)


def main() -> int:
    options = _arguments()
    if options.redraw:
        results = read(options.redraw)
    else:
        isolate("bench")
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


def _run(options: argparse.Namespace) -> Results:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a dozen sockets for each variant
    results = Run(QUICK if options.quick else FULL, options.peers, options.seed).everything()
    kind = "quick" if options.quick else "full"
    results.facts.update(facts(), run=f"{kind}, seed {options.seed}", took=f"{results.seconds:.0f} s")
    return results


if __name__ == "__main__":
    sys.exit(main())

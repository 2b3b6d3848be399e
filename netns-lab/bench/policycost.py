"""`python -m bench.policycost`: what policies cost to compile, as a table with a row for each policy.

Owns the measuring, in a process for each policy. It is given names of policies. Must not know how the compiler works:
it counts what comes out.

    python -m bench.policycost                           all policies, with a whole quota of rules
    python -m bench.policycost five_tuple -r 200 -s 1    one policy, 200 rules, seed 1
    python -m bench.policycost fw-1000                   a ClassBench-like set of 1,000 rules: real five-tuple rules
    python -m bench.policycost fw-1000 --json            and its proof (what `make bench` reads)

| column | is |
|---|---|
| rules | how many rules the ENI's groups have (a rule on a prefix list counts once) |
| cells, elements | entries of maps without a name; elements of named maps |
| bytes | the size of the text that loads the table |
| lookups | the most on any path: in verdict maps only / in sets without a name too (tests/support/models/lookups.py) |
| resolve, compile, render | seconds of processor time |
| mb | the most memory that the process had |
"""

from __future__ import annotations

import argparse
import ctypes
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.costs import begin, most_memory_mb, tell
from sgdataplane.compiler.compile import compile_policy
from sgdataplane.enforce import Desired, Settings, build
from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.state import CloudState
from sgdataplane.nft.ir import Table, VerdictMap
from sgdataplane.nft.text import render_table
from sgdataplane.policy.resolve import interfaces_of, resolve
from tests.support.inputs.classbench import classbench
from tests.support.inputs.classbench_seeds import SEEDS
from tests.support.inputs.hardpolicies import POLICIES, QUOTA, targets
from tests.support.models.lookups import most_lookups

PR_SET_PDEATHSIG = 1  # linux/prctl.h
ROOT = Path(__file__).resolve().parents[2]
MAX_SECONDS, MAX_BYTES = 600, 12 << 30  # for one process
SETS = {f"{kind}-{count}": (kind, count) for count in (500, 1_000, 10_000) for kind in SEEDS}
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class PolicyCost:
    policy: str
    rules: int
    cells: int
    chains: int
    elements: int
    bytes: int
    lookups: str
    resolve: float
    compile: float
    render: float
    mb: int


def makers(rules: int) -> dict[str, Callable[[int], CloudState]]:
    """All policies by name, as functions of the seed. Hard ones have `rules` rules, ClassBench sets their own size."""
    hard = {name: partial(_sized, make, rules) for name, make in POLICIES.items()}
    return {**hard, **{name: partial(_set, kind, count) for name, (kind, count) in SETS.items()}}


def _sized(make: Callable[[int, int], CloudState], rules: int, seed: int) -> CloudState:
    return make(seed, rules)


def _set(kind: str, count: int, seed: int) -> CloudState:
    return classbench(kind, seed, count)


def measured(name: str, state: CloudState, *, with_lookups: bool) -> PolicyCost:
    """The cost of the first target's namespace. LimitError if it is too much for the compiler."""
    eni = targets(state)[0]
    resolving, policy = _timed(lambda: resolve(state, interfaces_of(state, eni), DEFAULTS))
    compiling, table = _timed(lambda: compile_policy(policy, DEFAULTS))
    rendering, text = _timed(lambda: render_table(table))
    rules = sum(len(state.group[group].rules) for group in eni.security_group_ids)
    elements = sum(len(entry.elements) for entry in table.maps)
    lookups = _lookups(table) if with_lookups else ""
    size = len(text.encode())
    return PolicyCost(
        name,
        rules,
        cells(table),
        len(table.chains),
        elements,
        size,
        lookups,
        resolving,
        compiling,
        rendering,
        round(most_memory_mb()),
    )


def cells(table: Table) -> int:
    """How many entries the verdict maps without a name have."""
    statements = (statement for chain in table.chains for rule in chain.rules for statement in rule.statements)
    return sum(len(statement.entries) for statement in statements if isinstance(statement, VerdictMap))


def _lookups(table: Table) -> str:
    return "/".join(str(most_lookups(table, with_sets=with_sets).lookups) for with_sets in (False, True))


def _timed(make: Callable[[], Made]) -> tuple[float, Made]:
    began = time.process_time()
    made = make()
    return time.process_time() - began, made


def tell_costs(state: CloudState) -> None:
    """Of a policy alone: seconds, bytes of text, MB of memory at its peak. The compile comes first, in a process that
    has compiled nothing; its seconds are the processor's. The proof is of the same table, and nothing of it was proven
    before."""
    desired = Desired(state, {targets(state)[0].network_interface_id: "eth0"})
    begin("both", "compile")
    compiling, compiled = _timed(lambda: build(desired, Settings(prove=False)))
    tell(compile=compiling, compile_mb=most_memory_mb())
    tell(bytes=len(render_table(compiled.table).encode()))
    begin("prove")
    proof = build(desired, previous=compiled).proof
    assert proof is not None
    tell(prove=proof.seconds, both=compiling + proof.seconds, mb=most_memory_mb())


def main() -> None:
    """Print the table; or with --child, one policy's row as JSON; or with --json, figures for `bench`."""
    asked = _arguments()
    if asked.json:
        tell_costs(makers(asked.rules)[asked.policies[0]](asked.seed))
        return
    if asked.child:
        _bind_to_parent()
        state = makers(asked.rules)[asked.policies[0]](asked.seed)
        print(json.dumps(asdict(measured(asked.policies[0], state, with_lookups=asked.lookups))))
        return
    print(f"seed {asked.seed}, quota {asked.rules}")
    print(" ".join(f"{column.name:>{_width(column.name)}}" for column in fields(PolicyCost)))
    for name in asked.policies or makers(asked.rules):
        print(_row(name, asked), flush=True)


def _bind_to_parent() -> None:
    """Limit this process, and end it when its parent ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.policycost")
    parser.add_argument("policies", nargs="*", help=f"of {', '.join(makers(QUOTA))}; all if none is named")
    parser.add_argument("-r", "--rules", type=int, default=QUOTA)
    parser.add_argument("-s", "--seed", type=int, default=0)
    parser.add_argument("-l", "--lookups", action="store_true", help="count look-ups too, which takes a while")
    parser.add_argument("--json", action="store_true", help="one policy: figures for `bench`, with its proof")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    unknown = set(asked.policies) - makers(QUOTA).keys()
    if unknown:
        parser.error(f"no such policy: {', '.join(sorted(unknown))}")
    if asked.json and len(asked.policies) != 1:
        parser.error("--json takes one policy")
    return asked


def _row(name: str, asked: argparse.Namespace) -> str:
    """A policy's row, measured in a process of its own, so that the memory is that policy's."""
    flags = ["--child", "-r", str(asked.rules), "-s", str(asked.seed), *(["-l"] if asked.lookups else [])]
    command = [sys.executable, "-m", "bench.policycost", name, *flags]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=MAX_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"{name:>18} took more than {MAX_SECONDS} s"
    if done.returncode:
        return f"{name:>18} {done.stderr.strip().splitlines()[-1]}"
    return " ".join(_cell(key, value) for key, value in json.loads(done.stdout).items())


def _width(column: str) -> int:
    return 18 if column == "policy" else 9


def _cell(column: str, value: object) -> str:
    return f"{value:>{_width(column)}.2f}" if isinstance(value, float) else f"{value:>{_width(column)}}"


if __name__ == "__main__":
    main()

"""What isn't measured on a path: compiling, proving, changes, a full host, the agent. A command measures each, in a
process with limits of time and memory, and can be run alone.

Owns the list of commands, running them within their limits, and the form in which they tell their figures. Must not
know what is promised of a figure.

A command prints lines of JSON: what it begins to measure, {"begins": "compile", "at": 17.25} by the monotonic clock,
and what it found, {"compile": [0.43]}. So what was found before a limit counts, and what was stopped took at least so
long.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.isolation import outside
from tests.support.inputs.classbench_seeds import SEEDS as KINDS

ROOT = Path(__file__).resolve().parents[2]
MAX_REASON = 200  # characters
FULL_ONLY = "in full runs only"
NAMED = ("five_tuple", "mixture")  # hard policies with a goal of their own
HARD = ("alternating", "nested_cidrs", "overlapping_ports", "prefix_lists", "port_lists", "kinships")
SET_SIZES = {500: 60, 1_000: 60, 10_000: 60}  # rules: seconds for each kind of set
HOSTS, AGENTS = (50, 200), (20, 100)  # ENIs, for the plots, before 1,000
OF_ETCD = 64_000  # MB of address space: etcd reserves 10 GB for its store, however little it keeps


@dataclass(frozen=True, slots=True)
class Command:
    """A module of this package and its arguments. `name`: its figures are `<name>.<what it tells>`. `seconds`,
    `megabytes`: it is stopped when it needs more. `is_quick`: quick runs have it, too, with `quick` as further
    arguments."""

    name: str
    words: tuple[str, ...]
    seconds: int
    megabytes: int = 6_000
    is_quick: bool = False
    quick: tuple[str, ...] = ()


@dataclass
class Figures:
    """`samples`: by name. `why`: by command's name, why some of its figures are missing. `stopped`: by figure's name,
    for how many seconds it was being measured when time was up."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    stopped: dict[str, float] = field(default_factory=dict)

    def of(self, name: str) -> list[float]:
        """All samples of one figure; none if it wasn't measured."""
        return self.samples.get(name, [])

    def missing(self, name: str) -> str:
        """Why a figure wasn't measured."""
        return self.why.get(name.rpartition(".")[0], "its command didn't tell it")

    def add(self, command: str, told: Sequence[Mapping[str, Any]], stopped_at: float | None = None) -> None:
        """What a command told until it ended, or until it was stopped at that time of the monotonic clock."""
        for line in told:
            for what, values in line.items() if "begins" not in line else ():
                self.samples.setdefault(f"{command}.{what}", []).extend(values)
        for line in told if stopped_at else ():
            if "begins" in line and not self.of(name := f"{command}.{line['begins']}"):
                self.stopped[name] = stopped_at - line["at"]


def commands() -> Iterator[Command]:
    """All of them, the cheap ones first, as a quick run may not get to the last ones."""
    for seed in range(3):
        yield Command("typical", ("policycost", "typical", "--json", "-s", str(seed)), 60, is_quick=True)
    for name in (*NAMED, *HARD):
        yield Command(name, ("policycost", name, "--json"), 60, is_quick=name in NAMED)
    yield Command("members", ("deltacost", "--json"), 120, is_quick=True, quick=("-n", "5"))
    for placement in ("instance", "host"):
        words = ("agentevents", placement, "--json")
        yield Command(f"plug-{placement}", words, 120, is_quick=True, quick=("--times", "5"))
    for rules, seconds in SET_SIZES.items():
        for kind in KINDS:
            words = ("policycost", f"{kind}-{rules}", "--json")
            yield Command(f"{kind}-{rules}", words, seconds, is_quick=rules <= 1_000)
    yield from (Command(f"host-{enis}", ("hostcost", "-n", str(enis)), 60) for enis in HOSTS)
    yield Command("host", ("hostcost",), 150, is_quick=True)
    yield from (Command(f"agent-{enis}", ("agentscale", "--json", "--enis", str(enis)), 90) for enis in AGENTS)
    yield Command("agent", ("agentscale", "--json"), 240)
    yield Command("gaps", ("gaps", "--json"), 120)
    yield Command("churn", ("churn", "--json"), 240)
    yield Command("history", ("historycost", "--json"), 150)
    yield Command("api", ("apicost", "--json"), 300)
    for hosts in (3, 16):
        over = ("endtoend", "--json", "--hosts", str(hosts))
        yield Command(f"everywhere-{hosts}", over, 240, megabytes=OF_ETCD)


def measure_costs(say: Callable[[str], None], deadline: float, *, is_quick: bool) -> Figures:
    """Run all commands, one by one. None runs on after `deadline` (of time.monotonic)."""
    figures = Figures()
    for command in commands():
        left = deadline - time.monotonic()
        if is_quick and not command.is_quick:
            figures.why[command.name] = FULL_ONLY
        elif find_spec(f"bench.{command.words[0]}") is None:
            figures.why[command.name] = f"bench.{command.words[0]} isn't written yet"
        elif left < 1:
            figures.why[command.name] = "no time was left in this run"
        else:
            say(f"bench.{' '.join(command.words)}")
            run(command, figures, min(command.seconds, left), command.quick if is_quick else ())
    return figures


def run(command: Command, figures: Figures, seconds: float, more: Sequence[str] = ()) -> None:
    """Run one of them in a process of its own, and add what it tells."""
    module, *words = command.words
    process = subprocess.Popen(
        [sys.executable, "-m", f"bench.{module}", *words, *more],
        cwd=ROOT,
        env={**outside(), "PYTHONPATH": "netns-lab"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: _limit(command.megabytes),  # noqa: PLW1509  # no threads here
    )
    stopped_at = None
    try:
        output, errors = process.communicate(timeout=seconds)
        if process.returncode:
            figures.why[command.name] = _reason(errors, command.megabytes)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stopped_at = time.monotonic()
        output, _ = process.communicate()
        figures.why[command.name] = f"stopped after {seconds:,.0f} s"
    figures.add(command.name, [json.loads(line) for line in output.splitlines()], stopped_at)


def _limit(megabytes: int) -> None:
    """Of the address space, which is always more than the memory in use."""
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))


def _reason(errors: str, megabytes: int) -> str:
    """The error's own text, cut to what fits into a row."""
    last = (errors.strip().splitlines() or ["it failed"])[-1]
    return f"it took more than {megabytes:,} MB" if last == "MemoryError" else last[:MAX_REASON]


def begin(*names: str) -> None:
    """What a command says to measure_costs() before it measures something for long."""
    for name in names:
        print(json.dumps({"begins": name, "at": time.monotonic()}), flush=True)


def tell(**figures: float | Sequence[float]) -> None:
    """What it says afterwards."""
    told = {name: [value] if isinstance(value, int | float) else list(value) for name, value in figures.items()}
    print(json.dumps(told), flush=True)


def most_memory_mb() -> float:
    """The most memory that this program had. What getrusage() says begins with what the program had that started it."""
    text = Path("/proc/self/status").read_text("ascii")
    return int(text.partition("\nVmHWM:")[2].split()[0]) / 1024

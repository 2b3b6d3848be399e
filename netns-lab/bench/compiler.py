"""What compiling and changing cost, compared with what was promised. A command measures each, and can be run alone.

Owns the promises and the commands. Must not know how the figures are shown.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOW: dict[str, Any] = {
    "cwd": ROOT,
    "env": {**os.environ, "PYTHONPATH": "netns-lab"},
    "capture_output": True,
    "text": True,
}
MOST_SECONDS = 300
SEEDS = range(3)
WORST = ("alternating", "nested_cidrs", "overlapping_ports", "five_tuple", "prefix_lists", "port_lists", "mixture")
MEMBERS = "of 65,536 members"


@dataclass(frozen=True, slots=True)
class Cost:
    """One promise: at most `limit`. If it couldn't be measured, `samples` is empty and `why` says why."""

    title: str
    unit: str
    limit: float
    samples: Sequence[float]
    why: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def is_met(self) -> bool:
        return bool(self.samples) and self.median <= self.limit

    @property
    def verdict(self) -> str:
        """`met`, or by how much it is missed."""
        if not self.samples:
            return f"not measured: {self.why}"
        return "met" if self.is_met else f"short by a factor of {self.median / self.limit:,.1f}"


def costs(say: Callable[[str], None]) -> list[Cost]:
    """Measure all of them, which takes some minutes."""
    return [*_compiles(say), *_changes(say), *_hosts(say)]


def _compiles(say: Callable[[str], None]) -> Iterator[Cost]:
    say("compiling policies of 1,000 rules")
    typical, why = _each([["policycost", "typical", "--child", "-s", str(seed)] for seed in SEEDS])
    yield Cost("typical policy, 1,000 rules: compile", "ms", 100, [_compile_ms(cost) for cost in typical], why)
    for name in WORST:
        found, why = _each([["policycost", name, "--child"]])
        yield Cost(f"{name}, 1,000 rules: compile", "ms", 1000, [_compile_ms(cost) for cost in found], why)


def _compile_ms(cost: dict[str, Any]) -> float:
    return 1000 * float(cost["resolve"] + cost["compile"])


def _changes(say: Callable[[str], None]) -> Iterator[Cost]:
    say("changes where 65,536 addresses are in groups")
    found, why = _each([["deltacost", "--json"]])
    kinds: dict[str, dict[str, list[float]]] = found[0] if found else {}

    def of(prefix: str, *parts: str) -> list[float]:
        rows = [row for kind, row in kinds.items() if kind.startswith(prefix)]
        return [1000 * sum(values) for row in rows for values in zip(*(row[part] for part in parts), strict=True)]

    alone, whole = ("compile", "kernel"), ("compile", "kernel", "proof")
    for what, kind, limit in (("a member joins or leaves", "member", 10), ("a rule of 200 comes or goes", "rule", 30)):
        for parts, words in ((alone, "compile and delta, kernel"), (whole, "the same, and its proof")):
            yield Cost(f"{what}, {MEMBERS}: {words}", "ms", limit, of(kind, *parts), why)


def _hosts(say: Callable[[str], None]) -> Iterator[Cost]:
    say("a host of 1,000 ENIs")
    found, why = _each([["hostcost"]])
    for key, what, unit, limit in (
        ("compile", "compile", "s", 5),
        ("program", "program the kernel", "s", 5),
        ("mb", "memory", "MB", 600),
    ):
        title = f"1,000 ENIs in 50 combinations of 1,000 rules, 65,536 addresses in groups: {what}"
        yield Cost(title, unit, limit, [float(step[key]) for step in found if key in step], why)


def _each(commands: Sequence[Sequence[str]]) -> tuple[list[dict[str, Any]], str]:
    """What the commands print, which is JSON in each line; and why one of them failed, if it did."""
    found: list[dict[str, Any]] = []
    for module, *arguments in commands:
        command = [sys.executable, "-m", f"bench.{module}", *arguments]
        try:
            done = subprocess.run(command, **HOW, timeout=MOST_SECONDS, check=False)
        except subprocess.TimeoutExpired as slow:
            return [*found, *_read((slow.stdout or b"").decode())], f"it took more than {MOST_SECONDS} s"
        if done.returncode:
            return found, (done.stderr.strip().splitlines() or ["it failed"])[-1]
        found += _read(done.stdout)
    return found, ""


def _read(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]

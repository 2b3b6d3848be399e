"""What compiling costs: the commands print what `bench` reads, and each promise has its row."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from bench import compiler
from bench.compiler import Cost, costs
from bench.report import report
from bench.results import Results, read
from bench.variants import FLOOR, NO_FILTER, ours, peers

SMALL = {"policycost": ("-r", "20"), "deltacost": ("-m", "640", "-r", "100", "-n", "1"), "hostcost": ("-n", "3")}


def with_costs(found: list[Cost]) -> Results:
    results = Results((NO_FILTER, FLOOR, *ours((1, 100)), *peers((1, 100))))
    results.costs = found
    return results


@pytest.mark.parametrize(
    ("cost", "row"),
    [
        pytest.param(Cost("a", "ms", 100, [90, 110, 80]), "| a | 100 ms | 90.0 ms | met |", id="met"),
        pytest.param(Cost("a", "s", 5, [10, 15]), "| a | 5 s | 12.5 s | short by a factor of 2.5 |", id="short"),
        pytest.param(Cost("a", "s", 5, [], "no"), "| a | 5 s | - | not measured: no |", id="not-measured"),
    ],
)
def test_a_row_says_whether_it_is_met(cost: Cost, row: str, tmp_path: Path) -> None:
    results = with_costs([cost])
    results.write(tmp_path / "results.json")
    assert row in report(read(tmp_path / "results.json"), ())


def test_a_quick_run_says_that_it_has_none() -> None:
    assert "Compiling and changing: in full runs only" in report(with_costs([]), ())


@pytest.mark.kernel
def test_all_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """All commands are run, at small sizes."""
    real = compiler._each
    said: list[str] = []

    def small(commands: list[list[str]]) -> object:
        return real([[*command, *SMALL[command[0]]] for command in commands])

    monkeypatch.setattr(compiler, "_each", small)
    found = costs(said.append)
    assert [cost.title for cost in found if not cost.samples or min(cost.samples) <= 0] == []
    assert len(found) == len({cost.title for cost in found}) == 1 + len(compiler.WORST) + 4 + 3
    assert len(said) == 3


def test_what_fails_says_why() -> None:
    assert compiler._each([["policycost", "none"]])[1].endswith("no such policy: none")


def test_of_what_takes_too_long_the_steps_before_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 1, b'{"compile": 9.5, "mb": 700}\n')

    monkeypatch.setattr(subprocess, "run", slow)
    compiled, programmed, memory = compiler._hosts(lambda _: None)
    assert (compiled.samples, memory.samples, programmed.samples) == ([9.5], [700.0], [])
    assert programmed.verdict == "not measured: it took more than 300 s"

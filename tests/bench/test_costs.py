"""What isn't measured on a path: the commands tell what `bench` reads, within their limits, and each promise has its
row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from bench import costs
from bench.costs import FULL_ONLY, Command, Figures, commands, measure_costs
from bench.goals import Goal, goals
from bench.promises import AGENT, API, CHANGES, COMPILING, EVERYWHERE, FULL_HOST, HISTORY, Promise
from bench.report import report
from bench.results import Results, read
from bench.variants import variants

from tests.support.probes.flood import wait_until

PROMISES = (*COMPILING, *CHANGES, *FULL_HOST, *AGENT, *HISTORY, *API, *EVERYWHERE)
# Arguments with which each command is done in seconds.
SMALL = {
    "policycost": ("-r", "20"),
    "deltacost": ("-m", "640", "-r", "100", "-n", "1"),
    "agentevents": ("--enis", "20", "--times", "1"),
    "apicost": ("--groups", "20", "30", "40", "--times", "2"),
    "historycost": ("--rounds", "1"),
    "hostcost": ("-n", "50"),
    "endtoend": ("--hosts", "2", "--times", "2"),
    "churn": ("--enis", "20", "--changes", "2"),
    "gaps": ("-n", "3", "--rounds", "1"),
    "agentscale": ("--enis", "4", "--per-group", "2", "--changes", "1"),
}
TOLD = """
import time
from pathlib import Path
from bench.costs import begin, tell
begin("quick", "whole")
tell(quick=1.5)
begin("slow")
Path({mark!r}).touch()
{rest}
"""


def made_results(figures: Figures) -> Results:
    results = Results(variants((1, 1000), (32,), (1000,), (), ()))
    results.figures = figures
    return results


def row(figures: Figures, promise: Promise) -> Goal:
    (found,) = (goal for goal in goals(made_results(figures)) if goal.title == promise.title)
    return found


def told(*values: float) -> Figures:
    """The first change's figure, in seconds."""
    return Figures({CHANGES[0].figures[0]: list(values)})


@pytest.mark.parametrize(
    ("figures", "cells"),
    [
        pytest.param(told(0.007, 0.008, 0.009), "| at most 8 ms | 8.00 ms | 7.50 to 8.50 | met |", id="met"),
        pytest.param(told(0.01), "| at most 8 ms | 10.0 ms | - | short by 25.0 % |", id="short"),
        pytest.param(told(0.4), "| at most 8 ms | 400 ms | - | short by a factor of 50.0 |", id="far-too-slow"),
        pytest.param(
            Figures(why={"members": "no such thing"}),
            "| at most 8 ms | - | - | not measured: no such thing |",
            id="not-measured",
        ),
        pytest.param(
            Figures(why={"members": "stopped after 3 s"}, stopped={"members.member": 2.0}),
            "| at most 8 ms | - | - | short by more than a factor of 250.0: stopped after 3 s |",
            id="stopped",
        ),
        pytest.param(
            Figures(why={"members": "stopped after 3 s"}, stopped={"members.member": 0.001}),
            "| at most 8 ms | - | - | not measured: stopped after 3 s |",
            id="stopped-too-early-to-tell",
        ),
        pytest.param(Figures(why={"members": FULL_ONLY}), f"| at most 8 ms | - | - | {FULL_ONLY} |", id="full-only"),
    ],
)
def test_a_row_says_whether_it_is_met(figures: Figures, cells: str, tmp_path: Path) -> None:
    results = made_results(figures)
    results.write(tmp_path / "results.json")
    assert f"| {CHANGES[0].title} {cells}" in report(read(tmp_path / "results.json"), ())


def test_the_worst_kind_of_five_tuple_sets_counts() -> None:
    promise = next(promise for promise in COMPILING if promise.is_worst)
    all_kinds = {**{key: [0.4] for key in promise.figures}, promise.figures[1]: [0.7, 0.9, 0.8]}
    goal = row(Figures(all_kinds), promise)
    assert goal.measured is not None
    assert (goal.measured.median, goal.verdict) == (0.8, "short by 60.0 %")
    all_kinds.pop(promise.figures[1])
    missing = row(Figures(all_kinds, {"fw-500": "it took more than 6,000 MB"}), promise)
    assert missing.verdict == "not measured: fw: it took more than 6,000 MB"


def test_rows_without_a_goal_and_rows_elsewhere_are_not_counted() -> None:
    informing = next(promise for promise in FULL_HOST if promise.limit is None)
    figures = Figures({informing.figures[0]: [3.0], "host.compile": [2.0]}, dict.fromkeys(_names(), FULL_ONLY))
    found = goals(made_results(figures))
    assert row(figures, informing).verdict == "no goal"
    assert [goal.title for goal in found if goal.is_met] == ["compile"]
    assert "in full runs only" in report(made_results(figures), ())


def test_each_promise_is_about_figures_that_a_command_has() -> None:
    promised = {figure.rpartition(".")[0] for promise in PROMISES for figure in promise.figures}
    assert promised <= _names()


def _names() -> set[str]:
    return {command.name for command in commands()}


OF_THE_AGENT = [
    pytest.param(name, marks=[pytest.mark.daemon, pytest.mark.slow])
    for name in ("plug-instance", "plug-host", "agent", "history", "api", "everywhere-3", "churn")
]


# More than before or without; less, if others on the machine give memory back, or a stream is slow by itself.
DIFFERENCES = {"host.kernel_mb", "gaps.more_ms"}


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["typical", "ipc-500", "members", "host", "gaps", *OF_THE_AGENT])
def test_a_command_tells_what_is_promised(name: str) -> None:
    """One of each kind, at a small size; sets have theirs in their names."""
    command = next(command for command in commands() if command.name == name)
    figures = Figures()
    costs.run(replace(command, words=(*command.words, *SMALL[command.words[0]])), figures, 60)
    assert figures.why == {}
    assert [
        figure for figure, samples in figures.samples.items() if min(samples) < 0 and figure not in DIFFERENCES
    ] == []
    wanted = {figure for promise in PROMISES for figure in promise.figures if figure.rpartition(".")[0] == name}
    assert wanted <= figures.samples.keys()


@pytest.fixture
def telling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands whose module is a Python text. Their time begins when they have told what they tell at first."""
    real, mark = subprocess.Popen, tmp_path / "told"

    def started(words: list[str], **how: object) -> object:
        text = TOLD.format(rest=words[2].removeprefix("bench."), mark=str(mark))
        process = real([sys.executable, "-c", text], **how)  # type: ignore[call-overload]
        wait_until(mark.exists)
        return process

    monkeypatch.setattr(subprocess, "Popen", started)


def run(rest: str, seconds: float) -> Figures:
    figures = Figures()
    costs.run(Command("c", (rest,), 60, megabytes=1_000), figures, seconds)
    return figures


@pytest.mark.usefixtures("telling")
def test_what_a_command_told_before_it_was_stopped_counts() -> None:
    figures = run("time.sleep(60)", 0.2)
    assert (figures.samples, figures.why) == ({"c.quick": [1.5]}, {"c": "stopped after 0 s"})
    assert figures.stopped.keys() == {"c.slow", "c.whole"}
    assert 0.2 < figures.stopped["c.slow"] <= figures.stopped["c.whole"]


@pytest.mark.usefixtures("telling")
@pytest.mark.parametrize(
    ("rest", "why"),
    [
        pytest.param("raise SystemExit('no such policy: none')", "no such policy: none", id="fails"),
        pytest.param("bytearray(2 << 30)", "it took more than 1,000 MB", id="too much memory"),
    ],
)
def test_a_command_that_fails_says_why(rest: str, why: str) -> None:
    figures = run(rest, 60)
    assert (figures.samples, figures.why, figures.stopped) == ({"c.quick": [1.5]}, {"c": why}, {})


def test_a_quick_run_measures_only_what_is_quick_and_nothing_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(command: Command, figures: Figures, *_: object) -> None:
        figures.add(command.name, [json.loads('{"it": [1]}')])

    monkeypatch.setattr(costs, "run", found)
    monkeypatch.setattr(costs, "find_spec", lambda name: None if name == "bench.hostcost" else name)
    quick = measure_costs(lambda _: None, time.monotonic() + 60, is_quick=True)
    assert quick.of("typical.it") == [1, 1, 1]
    assert quick.why["agent"] == FULL_ONLY
    assert quick.why["host"] == "bench.hostcost isn't written yet"
    late = measure_costs(lambda _: None, time.monotonic(), is_quick=False)
    assert late.samples == {}
    assert late.why["typical"] == "no time was left in this run"


def test_memory_is_that_of_the_program_alone() -> None:
    """The parent has 200 MB when it starts the program."""
    measure = "from bench.costs import most_memory_mb; print(most_memory_mb())"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = f"import subprocess, sys; held = b'x' * (200 << 20); subprocess.run([sys.executable, '-c', {measure!r}])"
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True, env=env)
    assert 1 < float(done.stdout) < 100

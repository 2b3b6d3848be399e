"""The Python API's Lab, and the fixtures of pytest-sgdataplane: with packets, by several workers, and after a kill."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sgdataplane import Lab
from sgdataplane.host import netns
from sgdataplane.lab.record import lab_names
from tests.support.probes.flood import wait_until
from tests.unit.cli.test_test import STATE

pytest_plugins = ("pytester",)
ROOT = Path(__file__).resolve().parents[2]
CLOSED = STATE.replace("5432/5432", "5433/5433")
HOLDS, FAILS = "web -> db tcp/5432 accept", "web -> db tcp/5432 drop"


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    found = tmp_path / "state.yaml", tmp_path / "closed.yaml"
    for path, text in zip(found, (STATE, CLOSED), strict=True):
        path.write_text(text, encoding="utf-8")
    return found


@pytest.mark.parametrize("where", ["instance", "host"])
def test_a_lab_is_changed_probed_and_removed(where: str, paths: tuple[Path, Path]) -> None:
    with Lab(paths[0], placement=where) as lab:  # type: ignore[arg-type]
        assert lab.name in lab_names()
        assert netns.exists(lab.namespace("web"))
        lab.expect(HOLDS, "198.51.100.7 -> db tcp/5432 drop")
        assert lab.probe("web", "db", "tcp/5432").observed.verdict == "accept"
        lab.apply(paths[1])
        assert lab.probe("web", "db", "tcp/5432").observed.verdict == "drop"
        with pytest.raises(AssertionError, match="expected accept, but the policy says drop at ingress"):
            lab.expect(HOLDS)
        assert all(result.agrees for result in lab.matrix("tcp/5432,tcp/5433"))
    assert lab.name not in lab_names()


def test_a_lab_is_probed_where_an_event_loop_runs(paths: tuple[Path, Path]) -> None:
    async def ask() -> str:
        with Lab(paths[0]) as lab:
            return lab.probe("web", "db", "tcp/5432").observed.verdict

    assert asyncio.run(ask()) == "accept"


def test_a_lab_is_removed_if_its_process_is_killed(paths: tuple[Path, Path]) -> None:
    script = (
        "import sys, os, sgdataplane\n"
        "with sgdataplane.Lab(sys.argv[1], name=sys.argv[2]) as lab:\n"
        "    print(lab.probe('web', 'db', 'tcp/5432').observed.verdict, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    name = f"killed{os.getpid()}"
    command = [sys.executable, "-c", script, str(paths[0]), name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "accept\n"
        assert name in lab_names()
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: name not in lab_names() and not netns.exists(f"{name}-i-web"))


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder where pytest runs with this checkout's plugin, wherever the package is installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p sgdataplane.pytest_plugin -p xdist.plugin")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return pytester


SUITE = """
import pytest
from sgdataplane import load

@pytest.fixture(autouse=True)
def note_lab(request):
    if "sg_lab" in request.fixturenames:
        with open("labs", "a") as notes:
            print(request.getfixturevalue("sg_lab").name, file=notes)

def test_static(sg_expect):
    sg_expect("web -> db tcp/5432 accept sgr-pg")

def test_static_that_fails(sg_expect):
    sg_expect("web -> db tcp/22 accept")

@pytest.mark.parametrize("turn", range(3))
def test_live(sg_lab, turn):
    sg_lab.expect("web -> db tcp/5432 accept")
    sg_lab.apply("closed.yaml")
    sg_lab.expect("web -> db tcp/5432 drop")

class TestOther:
    @pytest.fixture
    def sg_state(self):
        return load("closed.yaml")

    def test_live(self, sg_lab):
        sg_lab.expect("web -> db tcp/5433 accept")

def test_live_that_fails(sg_lab):
    sg_lab.expect("web -> db tcp/5432 drop")
"""


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one process", "two workers"])
def test_fixtures(workers: list[str], paths: tuple[Path, Path], suite: pytest.Pytester) -> None:
    for path in paths:
        (suite.path / path.name).write_text(path.read_text("utf-8"), "utf-8")
    suite.makeini("[pytest]\nsg_state = state.yaml\n")
    suite.makepyfile(SUITE)
    result = suite.runpytest_subprocess(*workers)
    result.assert_outcomes(passed=5, failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "*expected accept, but the policy says drop at ingress, by default",
            "*expected drop, but the policy says accept, by sgr-pg of sg-db (priority 1); packets show accept: *",
        ]
    )
    made = set((suite.path / "labs").read_text("utf-8").split())
    assert made, "each process that asks for a lab has one"
    assert made.isdisjoint(lab_names())


def test_a_state_must_be_named(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test(sg_state): pass")
    result = suite.runpytest_subprocess()
    result.stdout.fnmatch_lines(["*sg_state: name the state with --sg-state or the ini option sg_state*"])
    suite.path.joinpath("named.yaml").write_text(STATE, "utf-8")
    suite.runpytest_subprocess("--sg-state", "named.yaml").assert_outcomes(passed=1)

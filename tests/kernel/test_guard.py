"""The guard of conftest.py fails a run that does what it must not: each case is a run of its own, of one small test.

The inner run's "machine" is this worker's namespace, so that the real one is safe from it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.run import isolation

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).resolve().parents[2]
KERNEL_TEST = "import subprocess, pytest\npytestmark = pytest.mark.kernel\n"
INNOCENT = "def test_innocent(): pass\n"
ADDS_A_TABLE = "def test_adds(machine): machine.run('nft', 'add table inet rogue')\n"
LEAVES_A_NAME = "def test_leaves(lab_name): subprocess.run(['ip', 'netns', 'add', lab_name], check=True)\n"
LEAVES_A_PROCESS = "def test_leaves(): test_leaves.process = subprocess.Popen(['sleep', '60'])\n"
LEAVES_A_FORK = """
import time
from tests.support.run.forked import Forked
def test_leaves(): Forked(lambda: time.sleep(60), ["forked"])
"""
SKIPS = "def test_skips(): pytest.skip('no such feature')\n"
MAY_SKIP = "@pytest.mark.optional\n" + SKIPS
MODULE_SKIPS = "pytest.skip('no such feature', allow_module_level=True)\n"


def run_suite(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A run of the suite's conftest on one file in `folder`/kernel, in a process of its own."""
    file = folder / "kernel" / "test_case.py"
    file.parent.mkdir()
    file.write_text(text)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "SGDP_TEST_"))}
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "tests.conftest", *options, str(file)],
        cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_an_innocent_run_passes(tmp_path: Path) -> None:
    run = run_suite(tmp_path, KERNEL_TEST + INNOCENT, "-n", "1", "--fail-on-skip")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed" in run.stdout


@pytest.mark.parametrize("workers", ["0", "1"], ids=["one process", "a worker"])
def test_a_change_of_the_machines_rules_fails_the_run(tmp_path: Path, workers: str) -> None:
    try:
        run = run_suite(tmp_path, KERNEL_TEST + ADDS_A_TABLE, "-n", workers)
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "rogue"], check=True)
    assert run.returncode == 1
    assert "the machine's own network changed" in run.stdout
    assert "THE MACHINE'S OWN NETWORK CHANGED" in run.stdout
    assert '"name": "rogue"' in run.stdout


@pytest.mark.parametrize(
    ("case", "line", "workers"),
    [
        pytest.param(LEAVES_A_NAME, "namespace t", "0", id="a namespace"),
        pytest.param(LEAVES_A_PROCESS, "sleep 60", "1", id="a process of a worker"),
        pytest.param(LEAVES_A_FORK, "forked", "1", id="a process that forked from a worker"),
    ],
)
def test_what_a_test_leaves_behind_fails_the_run(tmp_path: Path, case: str, line: str, workers: str) -> None:
    run = run_suite(tmp_path, KERNEL_TEST + case, "-n", workers, "-W", "ignore")
    isolation.sweep()
    assert run.returncode == 1
    assert "the tests left behind:" in run.stdout
    assert line in run.stdout
    assert isolation.leftovers("0.0", "none") == (), "a name is gone with the run that made it"


@pytest.mark.parametrize("case", [KERNEL_TEST + SKIPS, KERNEL_TEST + MODULE_SKIPS], ids=["a test", "a module"])
def test_a_kernel_test_that_skips_fails_the_run_where_that_is_asked(tmp_path: Path, case: str) -> None:
    run = run_suite(tmp_path, case + INNOCENT, "-n", "1", "--fail-on-skip")
    assert run.returncode == 1
    assert "SKIPPED, but must run here" in run.stdout
    assert "no such feature" in run.stdout


def test_a_kernel_test_may_skip_where_nothing_is_asked(tmp_path: Path) -> None:
    assert run_suite(tmp_path, KERNEL_TEST + SKIPS + INNOCENT).returncode == 0


def test_an_optional_test_may_skip_everywhere(tmp_path: Path) -> None:
    assert run_suite(tmp_path, KERNEL_TEST + MAY_SKIP + INNOCENT, "--fail-on-skip").returncode == 0

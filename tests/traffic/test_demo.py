"""The demo as a process: it shows what it promises, and leaves nothing, even if it is interrupted half-way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sgdataplane.host import netns

pytestmark = pytest.mark.traffic

ROOT = Path(__file__).parents[2]
START_S, END_S = 120.0, 120.0  # beside others that keep all processors busy


def start(*module: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *module]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def left_of(process: subprocess.Popen[str]) -> list[str]:
    return [name for name in netns.list_names() if name.startswith(f"demo{process.pid}-")]


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(("sgdataplane.lab", "run"), id="demo"),
        pytest.param(("sgdataplane.lab", "run", "netns-lab/scenarios/33-inner-accept-over-drop"), id="run a scenario"),
    ],
)
def test_demo_shows_what_passes_and_leaves_nothing(module: tuple[str, ...]) -> None:
    with start(*module) as process:
        printed, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert "what passes, of tcp/" in printed
    assert "everything" in printed
    assert "nothing" in printed
    assert "0 disagree with the policy" in printed
    assert "every packet did what the policy says" in printed
    assert left_of(process) == []


BUILDING, PROBING = 1, 9  # namespaces that are there


@pytest.mark.parametrize(
    ("existing", "number"),
    [
        pytest.param(BUILDING, signal.SIGINT, id="while building-2"),
        pytest.param(PROBING, signal.SIGTERM, id="while probing-15"),
        pytest.param(BUILDING, signal.SIGTERM, id="while building-15", marks=pytest.mark.slow),
        pytest.param(PROBING, signal.SIGINT, id="while probing-2", marks=pytest.mark.slow),
    ],
)
def test_interrupted_demo_takes_its_lab_down(number: signal.Signals, existing: int) -> None:
    with start("sgdataplane.lab", "run") as process:
        wait_exist(process, existing)
        process.send_signal(number)
        printed, errors = process.communicate(timeout=END_S)
    assert process.returncode == 130, printed
    assert errors == "interrupted; the lab is down\n"
    assert left_of(process) == []


def wait_exist(process: subprocess.Popen[str], count: int) -> None:
    """Wait until the demo has made that many namespaces."""
    deadline = time.monotonic() + START_S
    while len(left_of(process)) < count:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)


def test_folder_that_is_no_scenario_is_told() -> None:
    with start("sgdataplane.lab", "run", "netns-lab") as process:
        _, errors = process.communicate(timeout=END_S)
    assert process.returncode == 1
    assert errors == "error: netns-lab/scenario.toml: No such file or directory\n"


def test_interrupted_lab_says_that_it_is_removed() -> None:
    state = "netns-lab/scenarios/20-three-tier/state.yaml"
    with start("sgdataplane", "lab", "up", state, "--name", f"demo{os.getpid()}") as process:
        deadline = time.monotonic() + START_S
        while not of_this_process():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=END_S)
    assert (process.returncode, printed) == (130, "")
    assert errors == "interrupted: the lab is removed, nothing of it stays\n"
    assert of_this_process() == []


def of_this_process() -> list[str]:
    return [name for name in netns.list_names() if name.startswith(f"demo{os.getpid()}-")]

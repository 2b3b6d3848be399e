"""The example test suite for Node (examples/node), run as its readers run it: it starts `sgdp api --dev` by itself.

`make sdks` installs the SDK; without, these tests skip.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers.sdks import CLIENTS, command_of

ROOT = Path(__file__).resolve().parents[2]
SUITE = ROOT / "examples" / "node"
SDK = "@alicloud/ecs20140526"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A copy of the example with its packages beside it."""
    _, environment = command_of("drive_today.cjs")
    folder = tmp_path / "suite"
    shutil.copytree(SUITE, folder, ignore=shutil.ignore_patterns("node_modules"))
    (folder / "node_modules").symlink_to(environment["NODE_PATH"])
    (tmp_path / "temporary").mkdir()
    return folder


def run(suite: Path, programs: Path) -> subprocess.CompletedProcess[str]:
    """`programs`: where `sgdp` is."""
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "TMPDIR": str(suite.parent / "temporary")}
    command = ["node", "--test", "--test-reporter=tap"]
    return subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_its_tests_pass_and_leave_nothing(suite: Path) -> None:
    done = run(suite, Path(sys.executable).parent)
    assert done.returncode == 0, done.stdout
    assert "\n# pass 2\n# fail 0\n" in done.stdout
    assert [*(suite.parent / "temporary").iterdir()] == []


def test_its_failure_says_what_the_api_said(suite: Path, tmp_path: Path) -> None:
    program = tmp_path / "sgdp"
    program.write_text("#!/bin/sh\necho the extra is missing >&2\nexit 3\n")
    program.chmod(0o755)
    done = run(suite, tmp_path)
    assert done.returncode == 1
    assert "sgdp api doesn't start" in done.stdout
    assert "the extra is missing" in done.stdout


def test_it_has_the_sdk_with_which_it_is_tried() -> None:
    example, tried = (json.loads((folder / "package.json").read_text("utf-8")) for folder in (SUITE, CLIENTS))
    assert example["devDependencies"][SDK] == tried["dependencies"][SDK]

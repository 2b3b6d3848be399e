"""Tests of the garbage collector, in a process where nothing else was made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ALONE = Path(__file__).with_name("collection_alone.py")


def test_a_build_and_the_collector() -> None:
    """Without the suite's configuration, which keeps what it collected out of all collections."""
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run([*command, str(ALONE)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout

"""Programs of others that judge our files: lintian, promtool, mandoc, zsh, fish; in the tree of tools/setup-checks.sh.

Owns how they are run. Must not know what they judge.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sgdataplane.lab.waiting import scale_timeout

ROOT = Path(__file__).resolve().parents[3]
TREE = Path(os.environ.get("SGDP_CHECKS", "/var/tmp/sgdataplane-checks"))
COMMAND_S = scale_timeout(120)


def checker(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """What the command says; it sees `folder` as /mnt. Skips the test where the tree isn't."""
    if os.geteuid() != 0 or not TREE.is_dir():
        pytest.skip(f"{command[0]} isn't here: `sudo tools/setup-checks.sh` gets it ready")
    line = [str(ROOT / "tools/vm/chroot.sh"), str(TREE), *map(str, command)]
    surroundings = {**os.environ, "SGDP_BIND": str(folder)}
    return subprocess.run(line, env=surroundings, capture_output=True, text=True, timeout=COMMAND_S, check=False)

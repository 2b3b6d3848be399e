"""Names of namespaces made by a service that systemd keeps in a mount namespace of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.kernel
# A machine whose process 1 is this shell; others see what it mounts at /run/netns. $0: the Python to run.
MACHINE = r"""
set -eu
mount -t tmpfs tmpfs /run/netns
mount --make-shared /run/netns
python() { "$python" -c "from sgdataplane.host import netns; $1"; }
service() { unshare --mount --propagation slave $drop "$python" -c "from sgdataplane.host import netns; $1"; }
python=$0 drop=$1
"""
BY_SERVICE = r"""
python "netns.create('before')"
service "netns.create('router'); assert netns.is_bound('router'); assert netns.is_bound('before')"
python "assert netns.is_bound('router')"
service "netns.remove('router'); netns.remove('before'); assert netns.list_names() == ()"
python "assert netns.list_names() == ()"
"""
APART = r"""
unshare --mount --propagation private "$python" -c "from sgdataplane.host import netns; netns.create('mine')"
python "assert not netns.is_bound('mine')"
"""


def said_on_a_machine(script: str, drop: str = "") -> str:
    """What the script says, if it fails."""
    command = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
    line = [*command, "sh", "-c", MACHINE + script, sys.executable, drop]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) == (not done.stderr), done.stderr
    return done.stderr


def test_what_a_service_makes_the_machine_sees_and_what_it_removes_is_gone() -> None:
    assert said_on_a_machine(BY_SERVICE) == ""


def test_a_mount_namespace_that_sees_nothing_of_the_machine_keeps_its_own() -> None:
    """As those of tests are."""
    assert said_on_a_machine(APART) == ""


def test_service_without_the_capability_is_refused_and_makes_nothing() -> None:
    said = said_on_a_machine(BY_SERVICE, "setpriv --bounding-set -sys_chroot")
    assert "setns: Operation not permitted" in said

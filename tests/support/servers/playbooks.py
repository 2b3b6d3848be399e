"""Ansible with its modules for Alibaba Cloud, as users install them (docs/terraform.md).

`make test-slow` installs them (tools/setup-sdks.sh): a virtual environment, and in it `site`, where the modules are.
Owns how a playbook is played. Must not know what it does.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.servers.sdks import SDKS

FOLDER = SDKS / "ansible"
PROGRAM = FOLDER / "bin" / "ansible-playbook"
MODULES = FOLDER / "site" / "ansible"
RECAP = re.compile(r"^localhost\s+: ok=\d+\s+changed=(\d+)\s+unreachable=0\s+failed=0\s", re.MULTILINE)


class Playbooks:
    """Ansible, with these variables. `home`: where it keeps what it needs."""

    def __init__(self, environment: Mapping[str, str], home: Path) -> None:
        if not (FOLDER / "installed.lock").is_file():
            pytest.skip(f"Ansible isn't in {FOLDER}: `make test-slow` installs it, if there is a network")
        self._environment = {
            **environment,
            "HOME": str(home),
            "ANSIBLE_LIBRARY": str(MODULES / "modules" / "cloud" / "alicloud"),
            "ANSIBLE_MODULE_UTILS": str(MODULES / "module_utils"),
            "ANSIBLE_LOCALHOST_WARNING": "False",
        }

    @property
    def version(self) -> str:
        """That of its modules for the cloud."""
        (about,) = (FOLDER / "site").glob("ansible_alicloud-*")
        return about.name.split("-")[1].removesuffix(".dist").removesuffix(".egg")

    def play(self, playbook: Path, **variables: object) -> int:
        """Play it to its end, and return how many of its tasks have changed something."""
        words = [f"--extra-vars={name}={value}" for name, value in variables.items()]
        command = [str(PROGRAM), *words, str(playbook)]
        environment = self._environment
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
        found = RECAP.search(done.stdout)
        assert found, done.stdout + done.stderr
        return int(found[1])

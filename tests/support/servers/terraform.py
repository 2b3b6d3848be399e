"""Terraform as its users have it: the program, which gets the cloud's provider from a mirror of its registry.

Neither is a package that `make` could install. The folder that SGDP_TERRAFORM names has both: `terraform`, and
`terraform-provider-alicloud`, the provider's binary.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tools.clients import VERSION

PROGRAMS = Path(os.environ.get("SGDP_TERRAFORM", "/var/tmp/sgdataplane-terraform"))
TERRAFORM, PROVIDER = PROGRAMS / "terraform", PROGRAMS / "terraform-provider-alicloud"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}  # as Go calls them
TIMEOUT_S = 1200  # for a command; the provider asks as long as something isn't as it should be


class Terraform:
    """Terraform for one module. `home`: an empty folder, for what it keeps elsewhere."""

    def __init__(self, module: Path, home: Path, variables: Mapping[str, str]) -> None:
        for program in (TERRAFORM, PROVIDER):
            if not program.is_file():
                pytest.skip(f"{program} isn't there: tests/README.md says which folder SGDP_TERRAFORM names")
        self._module, self._mirror = module, home / "mirror"
        own = {"PATH": os.environ["PATH"], "HOME": str(home), "CHECKPOINT_DISABLE": "1"}
        self._environment = {**own, **variables}

    def init(self) -> None:
        """Get the provider from a mirror that is as `terraform providers mirror` makes it."""
        folder = self._mirror / "registry.terraform.io" / "aliyun" / "alicloud" / VERSION
        binary = folder / f"linux_{MACHINES[platform.machine()]}" / f"{PROVIDER.name}_v{VERSION}"
        binary.parent.mkdir(parents=True)
        binary.symlink_to(PROVIDER)
        self("init", f"-plugin-dir={self._mirror}")

    def __call__(self, *words: str) -> str:
        """Run a command, which succeeds. Return what it prints."""
        done = subprocess.run(
            [TERRAFORM, f"-chdir={self._module}", *words, "-no-color"],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

"""What tests of the packages share: what is installed, built once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bootedhost import built_package

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `share` of a prefix, with man pages and completions."""
    folder = tmp_path_factory.mktemp("share")
    subprocess.run([sys.executable, "-I", "tools/manuals.py", folder, "site-functions"], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package, in a folder of its own."""
    return Path(built_package()).rename(tmp_path_factory.mktemp("deb") / "sgdataplane.deb")

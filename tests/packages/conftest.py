"""What tests of the packages share: what is installed, built once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scenes.bootedhost import PACKAGES, built_packages

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `share` of a prefix, with man pages and completions."""
    folder = tmp_path_factory.mktemp("share")
    subprocess.run([sys.executable, "-I", "tools/manuals.py", folder, "site-functions"], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="session")
def debs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Debian packages, without their versions: sgdataplane.deb, sgdataplane-api.deb, ..."""
    folder = tmp_path_factory.mktemp("deb")
    for built, name in zip(built_packages(tmp_path_factory), PACKAGES, strict=True):
        shutil.copy(built, folder / f"{name}.deb")
    return folder


@pytest.fixture(scope="session")
def deb(debs: Path) -> Path:
    """The agent's."""
    return debs / "sgdataplane.deb"

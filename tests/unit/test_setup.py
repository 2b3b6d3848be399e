"""The set-up's own checks: the lock fits the project, and what is missing from .venv is noticed."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ASKED_FOR = [
    Requirement(line)
    for lines in (
        PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"].values(),
        PROJECT["dependency-groups"]["dev"],
        PROJECT["build-system"]["requires"],
    )
    for line in lines
]


@pytest.fixture(scope="module")
def check_venv() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_venv", ROOT / "tools" / "check_venv.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder_of_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with one installed package in it: `parcel` 1.0, of one module."""
    (tmp_path / "parcel.py").write_text("")
    info = tmp_path / "parcel-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n")
    (info / "RECORD").write_text("parcel.py,,\nparcel-1.0.dist-info/METADATA,,\n__pycache__/parcel.cpython-311.pyc,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("requirement", ASKED_FOR, ids=lambda requirement: requirement.name)
def test_the_lock_holds_every_requirement_in_its_range(requirement: Requirement, check_venv: ModuleType) -> None:
    locked = {canonicalize_name(name): version for name, version in check_venv.pinned(LOCK)}
    assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)])


def test_every_locked_package_has_hashes() -> None:
    pins = re.findall(r"^[\w.-]+==.*$", LOCK, re.MULTILINE)
    assert len(pins) > 10
    assert [pin for pin in pins if not pin.endswith("\\")] == []
    assert LOCK.count("--hash=sha256:") >= len(pins)


def test_this_environment_is_complete() -> None:
    run = subprocess.run(
        [sys.executable, "-I", "tools/check_venv.py"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout) == (0, "")


def test_an_installed_package_is_complete(check_venv: ModuleType, folder_of_packages: Path) -> None:
    assert folder_of_packages.is_dir()
    assert list(check_venv.absent("parcel==1.0 \\\n")) == []
    assert list(check_venv.lost_files(check_venv.distribution("parcel"))) == []


def test_a_deleted_file_is_noticed_and_a_compiled_copy_is_not(check_venv: ModuleType, folder_of_packages: Path) -> None:
    (folder_of_packages / "parcel.py").unlink()
    assert list(check_venv.lost_files(check_venv.distribution("parcel"))) == ["parcel: parcel.py is gone"]


@pytest.mark.parametrize(
    ("lock", "lines"),
    [
        pytest.param("parcel==2.0 \\\n", ["parcel: needs 2.0, found 1.0"], id="another version"),
        pytest.param("no-such-parcel==1.0 \\\n", ["no-such-parcel: needs 1.0, found nothing"], id="deleted"),
        pytest.param("no-such-parcel==1.0 ; python_version < '3' \\\n", [], id="not for this Python"),
    ],
)
@pytest.mark.usefixtures("folder_of_packages")
def test_an_absent_package_is_noticed(lock: str, lines: list[str], check_venv: ModuleType) -> None:
    assert list(check_venv.absent(lock)) == lines


def stand_in(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """tools/setup.sh, and stand-ins for dpkg-query, apt-get, id and .venv, which note what they are asked."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "setup.sh", tmp_path / "tools")
    stand_in(tmp_path / "bin" / "apt-get", 'echo "apt-get $*" >> log\n')
    stand_in(tmp_path / "bin" / "dpkg-query", 'case "$*" in *" $ABSENT") ;; *) printf installed ;; esac\n')
    stand_in(tmp_path / "bin" / "id", 'echo "$USER_ID"\n')
    stand_in(tmp_path / ".venv" / "bin" / "python", 'echo "python $*" >> log\n')
    return tmp_path


def run_setup(clone: Path, *, absent: str, user: int) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The run, and what the stand-ins were asked in order."""
    environment = {**os.environ, "PATH": f"{clone / 'bin'}:/usr/bin:/bin", "ABSENT": absent, "USER_ID": str(user)}
    run = subprocess.run([clone / "tools" / "setup.sh"], env=environment, check=False, capture_output=True, text=True)
    log = clone / "log"
    return run, log.read_text().splitlines() if log.exists() else []


def test_setup_with_nothing_missing_only_looks(clone: Path) -> None:
    run, asked = run_setup(clone, absent="-", user=1000)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert asked == ["python -I tools/check_venv.py"]


def test_setup_installs_the_missing_package_alone_after_an_update(clone: Path) -> None:
    run, asked = run_setup(clone, absent="conntrack", user=0)
    assert run.returncode == 0
    update, install = (line for line in asked if line.startswith("apt-get"))
    assert update.endswith("update")
    assert install.endswith("install --yes --no-install-recommends conntrack")


def test_setup_without_root_says_what_is_missing_and_what_to_run(clone: Path) -> None:
    run, asked = run_setup(clone, absent="python3-nftables", user=1000)
    assert run.returncode == 4
    assert run.stderr == "Debian packages are missing: python3-nftables\n  to install them, run as root: make setup\n"
    assert asked == []


def test_it_names_its_packages_for_the_trees_of_virtual_machines() -> None:
    said = subprocess.run([ROOT / "tools" / "setup.sh", "packages"], check=True, capture_output=True, text=True).stdout
    names = said.split()
    assert said == f"{' '.join(names)}\n"
    assert {"nftables", "python3-venv", "systemd", "etcd-server"} <= set(names)
    tree = (ROOT / "tools" / "vm" / "tree.sh").read_text("utf-8")
    assert "asked=$(tools/setup.sh packages)" in tree

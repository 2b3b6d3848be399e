"""What images and pages install is what the tests run with: the same versions, and for the image the same files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from tools.apiactions import tried_clients
from tools.vendor import needed

ROOT = Path(__file__).resolve().parents[2]
LOCKED = re.compile(r"^(\S+==\S+)[^\n]*\n((?:    --hash=\S+[^\n]*\n)+)", re.MULTILINE)


def locked(name: str) -> dict[str, set[str]]:
    """Each package with its version, and the hashes of its files."""
    text = (ROOT / name).read_text("utf-8")
    return {package: set(re.findall(r"--hash=(\S+)", hashes)) for package, hashes in LOCKED.findall(text)}


def test_the_image_of_the_api_has_the_locked_files() -> None:
    whole, part = locked("requirements.lock"), locked("requirements-api.lock")
    assert {package: hashes for package, hashes in part.items() if hashes != whole.get(package)} == {}


def test_the_image_of_the_api_has_all_that_the_api_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = needed([*project["dependencies"], *project["optional-dependencies"]["api"]])
    names = {Requirement(package).name.lower() for package in locked("requirements-api.lock")}
    assert {name.lower().replace("_", "-") for name in wanted} - names == set()


def test_the_page_installs_the_ansible_that_tests_run_with() -> None:
    wanted = re.findall(r"[\w-]+==[\d.]+", (ROOT / "docs" / "terraform.md").read_text("utf-8"))
    pins = locked("requirements-ansible.lock") | locked("requirements-ansible-modules.lock")
    assert {pin.partition("==")[0] for pin in wanted} == {"ansible-core", "footmark", "ansible-alicloud"}
    assert set(wanted) - {*pins} == set()


def test_the_record_of_clients_is_of_the_versions_that_tests_use() -> None:
    tried = tried_clients()
    assert f"ansible-alicloud=={tried['Ansible']['version']}" in locked("requirements-ansible-modules.lock")
    checksum = (ROOT / "tests" / "http" / "clients" / "aliyun.sha256").read_text("utf-8")
    assert checksum.split()[1:] == [f"aliyun-cli-linux-{tried['CLI']['version']}-amd64.tgz"]

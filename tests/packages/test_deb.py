"""The Debian package as a file: by Debian's rules, with all that people look for in it. (Under a systemd:
tests/kernel/test_units_package.py.)"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.documents.checkers import checker
from tests.support.scenes.bootedhost import PACKAGES
from tests.unit.test_docs import LINK

pytestmark = pytest.mark.slow
DOCUMENTS = "usr/share/doc/sgdataplane"
LOADED = "import sys; sys.path.insert(0, sys.argv[1]); import markupsafe._speedups, yaml; yaml.CSafeLoader"


@pytest.fixture(scope="module")
def files(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is unpacked."""
    folder = tmp_path_factory.mktemp("files")
    subprocess.run(["dpkg-deb", "--extract", deb, folder], check=True)
    return folder


@pytest.mark.parametrize("name", PACKAGES)
def test_lintian_has_no_complaint(debs: Path, name: str) -> None:
    done = checker(debs, "lintian", "--allow-root", "--fail-on", "error,warning", f"/mnt/{name}.deb")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    "path",
    [
        "usr/bin/sgdp",
        "usr/share/man/man1/sgdp.1.gz",
        "usr/share/man/man1/sgdp-lab-up.1.gz",
        "usr/share/bash-completion/completions/sgdp",
        "usr/share/zsh/vendor-completions/_sgdp",
        "usr/share/fish/vendor_completions.d/sgdp.fish",
        f"{DOCUMENTS}/README.md",
        f"{DOCUMENTS}/changelog.gz",
        f"{DOCUMENTS}/changelog.Debian.gz",
        f"{DOCUMENTS}/copyright",
        f"{DOCUMENTS}/systemd/README.md",
        f"{DOCUMENTS}/examples/agent.toml",
        f"{DOCUMENTS}/examples/monitoring/grafana-dashboard.json",
        f"{DOCUMENTS}/examples/monitoring/grafana-hosts-dashboard.json",
        f"{DOCUMENTS}/examples/monitoring/sgdataplane-alerts.yml",
        f"{DOCUMENTS}/examples/monitoring/sgdataplane-hosts-alerts.yml",
        f"{DOCUMENTS}/examples/scenarios/20-three-tier/state.yaml",
    ],
)
def test_what_people_look_for_is_there(files: Path, path: str) -> None:
    assert (files / path).stat().st_mode & 0o444 == 0o444


def test_users_pages_lead_to_each_other(files: Path) -> None:
    """What is for developers is in the repository."""
    pages = [page for page in (files / DOCUMENTS).rglob("docs/*.md") if page.name != "cookbook.md"]
    assert len(pages) > 5
    ways = {(page, link) for page in pages for link in LINK.findall(page.read_text("utf-8")) if link.endswith(".md")}
    elsewhere = ("netns-lab/", "tests/", "sgdataplane/", "CONTRIBUTING.md")
    lost = [(page.name, link) for page, link in ways if not (page.parent / link).exists()]
    assert [way for way in lost if not way[1].removeprefix("../").startswith(elsewhere)] == []


def test_the_agent_depends_on_nothing_of_servers(debs: Path) -> None:
    """The API takes only its cryptography from Debian, and that alone."""
    found = {
        name: subprocess.run(
            ["dpkg-deb", "--field", debs / f"{name}.deb", "Depends"], capture_output=True, text=True, check=True
        ).stdout
        for name in PACKAGES
    }
    assert {part.split()[0].split(":")[0] for part in found["sgdataplane"].split(", ")} == {"python3", "libc6"}
    own = {part.split()[0] for part in found["sgdataplane-api"].split(", ")} - {"systemd"}
    assert own == {"sgdataplane", "python3-cryptography"}
    assert {part.split()[0] for part in found["sgdataplane-hosts"].split(", ")} - {"systemd"} == {"sgdataplane"}


def test_compiled_parts_load(files: Path) -> None:
    """debhelper has stripped them."""
    subprocess.run(["/usr/bin/python3", "-I", "-c", LOADED, files / "usr/lib/sgdataplane"], check=True)

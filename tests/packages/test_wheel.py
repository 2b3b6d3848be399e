"""sdist and wheel: what is in them, and that they work in a clean environment. The network isn't asked."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane import __version__
from tests.support.inputs.pages import THREE_TIER
from tools.vendor import copy, files_of, needed

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sgdataplane"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
OFFLINE = ("--no-index", "--no-build-isolation", "--disable-pip-version-check", "--quiet")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both; the wheel is built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


def run(*command: object, code: int = 0, cwd: Path = ROOT) -> str:
    line = [*map(str, command)]
    clean = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(line, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def wheel_of(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


def sdist_of(dist: Path) -> Path:
    (found,) = dist.glob("*.tar.gz")
    return found


def sources() -> Iterator[str]:
    """The files of the package that git knows or would take."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "sgdataplane")
    yield from listed.splitlines()


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_package(dist: Path) -> None:
    names = set(zipfile.ZipFile(wheel_of(dist)).namelist())
    assert sorted(set(sources()) - names) == []
    assert {"sgdataplane/py.typed", "sgdataplane/schemas/status.schema.json"} <= names
    ours = ("sgdataplane/", f"sgdataplane-{__version__}.dist-info/")
    assert [name for name in names if not name.startswith(ours)] == []


@pytest.mark.slow
def test_the_sdist_has_all_that_builds_and_tests_it(dist: Path) -> None:
    with tarfile.open(sdist_of(dist)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"README.md", "LICENSE", "CHANGELOG.md", "Makefile", "requirements.lock", "debian/rules"}
    assert wanted | set(sources()) <= names
    assert not [name for name in names if name.startswith((".venv", "build/", "dist/"))]


@pytest.mark.slow
def test_metadata_says_what_people_search_for(dist: Path) -> None:
    with zipfile.ZipFile(wheel_of(dist)) as archive:
        about = email.message_from_bytes(archive.read(f"sgdataplane-{__version__}.dist-info/METADATA"))
    assert (about["Version"], about["Requires-Python"]) == (__version__, ">=3.11")
    assert about["License-Expression"] == "GPL-2.0-or-later"
    named = {line.partition(",")[0] for line in about.get_all("Project-URL", ())}
    assert named == {"Homepage", "Documentation", "Source", "Issues", "Changelog"}
    assert "security groups" in about["Keywords"]
    assert about["Description-Content-Type"] == "text/markdown"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [wheel_of, sdist_of], ids=["wheel", "sdist"])
def test_it_works_in_a_clean_environment(dist: Path, tmp_path: Path, kind: Callable[[Path], Path]) -> None:
    """The environment has what the metadata asks for, and for the sdist what builds it; pip compares."""
    home = tmp_path / "env"
    run("/usr/bin/python3", "-m", "venv", home)
    (library,) = home.glob("lib/python3*/site-packages")
    builds = PROJECT["build-system"]["requires"] if kind is sdist_of else []
    for package in needed([*PROJECT["project"]["dependencies"], *builds]).values():
        for name in files_of(package):
            copy(Path(str(package.locate_file(name))), library / name)
    run(home / "bin/pip", "install", *OFFLINE, kind(dist), cwd=tmp_path)
    run(home / "bin/pip", "check", cwd=tmp_path)
    sgdp = home / "bin/sgdp"
    assert run(sgdp, "--version", cwd=tmp_path) == f"sgdp {__version__}\n"
    assert run(sgdp, "check", THREE_TIER, cwd=tmp_path).startswith("ok: ")
    assert "table inet sgdataplane" in run(sgdp, "compile", THREE_TIER, "--eni", "eni-web1", cwd=tmp_path)
    typed = "import sgdataplane, pathlib; print(pathlib.Path(sgdataplane.__file__).with_name('py.typed').exists())"
    assert run(home / "bin/python", "-c", typed, cwd=tmp_path) == "True\n"
    run(sgdp, "report", THREE_TIER, "--html", "page.html", cwd=tmp_path)  # which has templates
    assert "<html" in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.slow
def test_a_release_is_all_of_it_with_checksums_and_twice_the_same(tmp_path: Path) -> None:
    sums = []
    for folder in (tmp_path / "once", tmp_path / "twice"):
        run("git", "clone", "--quiet", ROOT, folder)
        (folder / ".venv").symlink_to(ROOT / ".venv")
        (folder / ".git/info/exclude").write_text(".venv\n")
        (folder / "build").mkdir()
        run("env", "TWINE=true", "tools/release.sh", cwd=folder)
        run("sha256sum", "--check", "--quiet", "SHA256SUMS", cwd=folder / "dist")
        sums.append((folder / "dist/SHA256SUMS").read_text("ascii"))
        (folder / "README.md").write_text("changed")
        assert "no release: there are uncommitted changes" in run("tools/release.sh", code=1, cwd=folder)
    assert sums[0] == sums[1]
    kinds = [re.sub(r".*?(\.whl|\.tar\.gz|\.deb)$", r"\1", line) for line in sums[0].splitlines()]
    assert sorted(kinds) == [".deb", ".deb", ".deb", ".tar.gz", ".whl"]


def test_versions_are_equal_everywhere() -> None:
    assert (ROOT / "debian/changelog").read_text("utf-8").startswith(f"sgdataplane ({__version__}) ")
    sections = re.findall(r"^## \[(.+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    released = [section for section in sections if section != "Unreleased"]
    assert released[:1] in ([], [__version__])


def test_addresses_of_the_project_are_of_one_host() -> None:
    (host,) = {url.split("/")[2] for url in PROJECT["project"]["urls"].values()}
    for name in ("control", "copyright", "changelog"):
        assert host in (ROOT / "debian" / name).read_text("utf-8")

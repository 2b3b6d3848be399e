"""What our OCI runtime adds to a container's description, and what it hands on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sgdataplane.cni import request, runtime
from sgdataplane.cni.runtime import bundle_of, main, protect

ANNOTATED = {"annotations": {"sgdataplane/bind": "web1", "other": "x"}}
OTHERS = {"hooks": {"prestart": [{"path": "/net"}], "createRuntime": [{"path": "/first"}], "poststop": None}}
HOOK = Path("/usr/bin/sgdataplane-oci")
BUNDLES = {
    "as containerd asks": (["--root", "/r", "--log", "/l", "create", "--bundle", "/b", "--pid-file", "/p", "c1"], "/b"),
    "short": (["create", "-b", "/b", "c1"], "/b"),
    "joined": (["run", "--bundle=/b", "c1"], "/b"),
    "from a checkpoint": (["restore", "--image-path", "/i", "--bundle", "/b", "c1"], "/b"),
    "a start": (["--root", "/r", "start", "c1"], None),
    "an exec": (["exec", "--process", "/p.json", "c1"], None),
    "its version": (["--version"], None),
    "nothing": ([], None),
}


@pytest.mark.parametrize(("arguments", "expected"), BUNDLES.values(), ids=BUNDLES)
def test_the_bundle_is_found(arguments: list[str], expected: str | None) -> None:
    assert bundle_of(arguments) == (None if expected is None else Path(expected))


def test_without_a_bundle_it_is_where_the_runtime_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundle_of(["delete", "create"]) is None  # a container of that name
    described(tmp_path, ANNOTATED)
    assert bundle_of(["create", "c1"]) == Path()


def described(folder: Path, description: object) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(description), "utf-8")
    file.chmod(0o640)
    return file


def test_a_container_with_the_annotation_gets_our_hooks_after_those_of_others(tmp_path: Path) -> None:
    file = described(tmp_path, {**ANNOTATED, **OTHERS, "ociVersion": "1.2.0"})
    protect(file, HOOK, None)
    found = json.loads(file.read_text("utf-8"))
    bind = {"path": str(HOOK), "args": ["sgdataplane-oci", "bind", "--early"]}
    unbind = {"path": str(HOOK), "args": ["sgdataplane-oci", "unbind"]}
    assert found.pop("hooks") == {
        "prestart": [{"path": "/net"}],
        "createRuntime": [{"path": "/first"}, bind],
        "poststop": [unbind],
    }
    assert found == {**ANNOTATED, "ociVersion": "1.2.0"}
    assert (file.stat().st_mode & 0o777, os.listdir(tmp_path)) == (0o640, ["config.json"])


def test_the_hook_gets_the_agents_configuration(tmp_path: Path) -> None:
    file = described(tmp_path, ANNOTATED)
    protect(file, HOOK, "/etc/other.toml")
    (bind,) = json.loads(file.read_text("utf-8"))["hooks"]["createRuntime"]
    assert bind["args"] == ["sgdataplane-oci", "--config", "/etc/other.toml", "bind", "--early"]


@pytest.mark.parametrize("more", [{}, {"annotations": None}, {"annotations": {"sgdataplane/eni": "web1"}}, OTHERS])
def test_other_containers_stay_as_they_are(tmp_path: Path, more: dict[str, object]) -> None:
    file = described(tmp_path, more)
    before = file.stat().st_ino, file.read_bytes()
    protect(file, HOOK, None)
    assert (file.stat().st_ino, file.read_bytes()) == before


def test_it_means_the_annotation_of_the_hook() -> None:
    assert runtime.BIND == request.BIND


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """With a runtime that prints what it is given."""
    shows = tmp_path / "shows"
    shows.write_text('#!/bin/sh\nfor one in "$@"; do echo "$one"; done; exit 7\n', "utf-8")
    shows.chmod(0o755)
    command = [sys.executable, "-m", "sgdataplane.cni.runtime", f"--with={shows}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_everything_else_is_the_runtimes(tmp_path: Path) -> None:
    described(tmp_path, ANNOTATED)
    asked = ["--root", "/r", "create", "--bundle", str(tmp_path), "--config", "a b", "c1"]
    done = run(tmp_path, "--hook", "/h", *asked)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (7, asked, "")
    assert json.loads((tmp_path / "config.json").read_text("utf-8"))["hooks"]["createRuntime"][0]["path"] == "/h"
    assert run(tmp_path, "--version").stdout == "--version\n"


BAD = {"not JSON": b"{", "not an object": b"[]", "no text": b"\xff\xfe", "too large": b" " * (runtime.MAX_BYTES + 1)}


@pytest.mark.parametrize("content", [None, *BAD.values()], ids=["missing", *BAD])
def test_a_description_that_cannot_be_read_makes_no_container(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    assert main(["--with", "/bin/true", "create", "--bundle", str(tmp_path), "c1"]) == 1
    assert capsys.readouterr().err.startswith("sgdataplane-runc: ")


def test_a_runtime_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--with", "/nowhere/runc", "state", "c1"]) == 1
    assert capsys.readouterr().err == "sgdataplane-runc: /nowhere/runc: No such file or directory\n"

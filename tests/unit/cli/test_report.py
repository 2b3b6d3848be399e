"""`sgdp report`: the file it writes, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from tests.support.inputs.pages import THREE_TIER

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_written_and_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "page.html"
    assert main(["report", str(THREE_TIER), "--html", str(target)]) == 0
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    said = capsys.readouterr().out
    assert f"{target}: 1 VPC, 4 security groups, 11 rules, 5 instances, 5 ENIs; findings: 3 info" in said
    assert "no hits and sessions: no lab was named with --name" in said
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "missing" / "page.html"
    assert main(["report", str(THREE_TIER), "--html", str(target)]) == 5
    said = capsys.readouterr().err
    assert "InvalidTarget.NotWritable" in said
    assert str(target) in said


def test_what_lies_below_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["report", str(THREE_TIER), "--html", str(tmp_path / "file" / "page.html")]) == 5
    assert "not a directory" in capsys.readouterr().err


def test_a_folder_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(THREE_TIER), "--html", str(tmp_path)]) == 5
    assert "InvalidTarget.NotWritable" in capsys.readouterr().err


def test_a_bad_state_leaves_the_page_that_was_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, state = tmp_path / "page.html", tmp_path / "state.yaml"
    target.write_text("before")
    state.write_text("version: 1\nvpcs: 7\n")
    assert main(["report", str(state), "--html", str(target)]) == 5
    assert "error:" in capsys.readouterr().err
    assert target.read_text() == "before"


def test_without_a_file_it_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(THREE_TIER)])
    assert "--html" in capsys.readouterr().err


def test_it_can_be_written_to_a_pipe() -> None:
    command = [sys.executable, "-m", "sgdataplane", "report", str(THREE_TIER), "--html", "/dev/stdout"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert "</html>" in done.stdout

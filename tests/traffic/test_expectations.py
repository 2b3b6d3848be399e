"""`sgdp test --live`: expectations held against packets, in a running lab and in one that is built for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.lab.record import lab_names
from tests.unit.cli.test_test import RIGHT, STATE, WRONG, expectations


def run(*arguments: object) -> int:
    return main(list(map(str, arguments)))


@pytest.mark.parametrize("where", ["instance", "host"])
def test_a_lab_is_built_asked_and_removed(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = expectations(tmp_path, STATE, "state.yaml")
    asked = "--state", state, "--live", "--placement", where, "--json"
    assert run("test", expectations(tmp_path, RIGHT), *asked) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    observed = [cell["observed"] for result in results for cell in result["cells"]]
    assert observed == ["accept", "drop", "drop", "drop", "drop"]
    assert run("test", expectations(tmp_path, WRONG), *asked) == 1
    assert [result["ok"] for result in json.loads(capsys.readouterr().out)["results"]] == [False] * 3
    assert f"test{os.getpid()}" not in lab_names()


def test_a_running_lab_is_asked_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"exp{tmp_path.name[-4:].strip('_')}"
    state = expectations(tmp_path, STATE, "state.yaml")
    of_lab = expectations(tmp_path, RIGHT.replace("203.0.113.9", "198.51.100.7"), "lab.txt")
    assert run("lab", "up", state, "--name", name) == 0
    try:
        assert run("test", of_lab, "--live", name) == 0
        assert "4 expectations: 4 hold, 0 fail" in capsys.readouterr().out
        assert run("test", expectations(tmp_path, RIGHT), "--live", name) == 5
        assert "end '203.0.113.9': no node of this lab has it" in capsys.readouterr().err
    finally:
        assert run("lab", "down", "--name", name) == 0

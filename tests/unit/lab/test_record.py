from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.errors import LabError, StateFileError
from sgdataplane.lab.record import LabFolder, LabRecord, lab_names
from tests.support.scenes.labs import state_of

RECORD = LabRecord("lab", (("198.51.100.7", "2001:db8:ffff::7"), ("192.0.2.1",)), ("lab-a", "lab-b"))
STATE = state_of("version: 1\nvpcs: [{vpc_id: v, cidr_blocks: [10.0.0.0/8]}]\n")


def test_record_survives_being_written_and_read(tmp_path: Path) -> None:
    folder = LabFolder("lab", tmp_path)
    assert folder.load() is None
    with folder.lock():
        folder.store(RECORD)
    assert folder.load() == RECORD
    assert lab_names(tmp_path) == ("lab",)


def test_applied_state_is_kept_and_the_former_goes(tmp_path: Path) -> None:
    folder = LabFolder("lab", tmp_path)
    with folder.lock():
        folder.store(RECORD)
        first = folder.store_applied(RECORD, state_of("version: 1\n"))
        second = folder.store_applied(first, STATE)
    assert (first.is_up, second.is_up) == (True, True)
    assert folder.load() == second
    assert folder.load_applied(second) == STATE
    assert first.state_file != second.state_file
    assert [path.name for path in tmp_path.glob("lab/state-*")] == [second.state_file]
    assert list(tmp_path.glob("lab/.*.new")) == []


def test_remove_leaves_nothing(tmp_path: Path) -> None:
    folder = LabFolder("lab", tmp_path / "labs")
    with folder.lock():
        folder.store(RECORD)
        folder.remove()
    assert not (tmp_path / "labs").exists()


def test_lock_taken_on_a_folder_that_was_removed_is_taken_again(tmp_path: Path) -> None:
    folder = LabFolder("lab", tmp_path)
    with folder.lock():
        folder.remove()
    with folder.lock():
        assert (tmp_path / "lab" / "lock").exists()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="cut off"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="nothing in it"),
        pytest.param(json.dumps({"version": 1, "name": "lab"}), id="half of it"),
        pytest.param(json.dumps({"version": 1, "externals": [], "namespaces": [], "name": "x", "other": 1}), id="more"),
    ],
)
def test_unreadable_record_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "lab.json").write_text(text)
    with pytest.raises(LabError, match=r"its record .*lab.json can't be read"):
        LabFolder("lab", tmp_path).load()


def test_record_of_another_version_is_told(tmp_path: Path) -> None:
    folder = LabFolder("lab", tmp_path)
    with folder.lock():
        folder.store(RECORD)
    text = (tmp_path / "lab" / "lab.json").read_text()
    (tmp_path / "lab" / "lab.json").write_text(text.replace('"version": 1', '"version": 9'))
    with pytest.raises(LabError, match="its record is of another version"):
        folder.load()


def test_applied_state_that_is_gone_is_told(tmp_path: Path) -> None:
    folder = LabFolder("lab", tmp_path)
    with pytest.raises(StateFileError, match=r"state-1\.yaml"):
        folder.load_applied(replace(RECORD, state_file="state-1.yaml"))

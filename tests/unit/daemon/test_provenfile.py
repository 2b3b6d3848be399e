"""The summaries on disk: read back as they were written, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sgdataplane.daemon import provenfile
from sgdataplane.daemon.provenfile import ProvenFile
from sgdataplane.enforce import TableSummary
from sgdataplane.enforce.inputs import program

SUMMARIES = {
    "1" * 32: TableSummary("a" * 32, frozenset({"sgr-1", "sgr-2"}), 40),
    "2" * 32: TableSummary("b" * 32, frozenset({"sgr-1", "sgr-2"}), 40),
    "3" * 32: TableSummary("c" * 32, frozenset(), 7),
}


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    file = ProvenFile(tmp_path / "var")
    assert file.load() == {}
    file.store(SUMMARIES)
    assert ProvenFile(tmp_path / "var").load() == SUMMARIES
    assert len(json.loads(file.path.read_text("ascii"))["counters"]) == 2, "equal sets are written once"
    assert file.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 1}', "null"])
def test_what_is_no_such_file_is_ignored(tmp_path: Path, text: str) -> None:
    file = ProvenFile(tmp_path)
    file.path.write_text(text, "ascii")
    assert file.load() == {}


@pytest.mark.parametrize("tables", [{"1": []}, {"1": ["a", 9, 1]}, {"1": ["a", 0, "x"]}, {"1": None}, [], None])
def test_a_damaged_table_is_ignored_with_all_others(tmp_path: Path, tables: object) -> None:
    file = ProvenFile(tmp_path)
    document = {"version": 1, "program": program(), "counters": [["sgr-1"]], "tables": tables}
    file.path.write_text(json.dumps(document), "ascii")
    assert file.load() == {}


def test_another_programs_file_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ProvenFile(tmp_path).store(SUMMARIES)
    monkeypatch.setattr(provenfile, "program", lambda: "0" * 64)
    assert ProvenFile(tmp_path).load() == {}
    monkeypatch.setattr(provenfile, "program", lambda: "")
    ProvenFile(tmp_path).store(SUMMARIES)
    assert ProvenFile(tmp_path).load() == {}, "a program whose source isn't there knows of none"


def test_what_is_no_file_stops_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "proven.json")
    assert ProvenFile(tmp_path).load() == {}
    (tmp_path / "file").touch()
    ProvenFile(tmp_path / "file").store(SUMMARIES)


def test_a_program_is_all_its_modules() -> None:
    assert len(program()) == 64

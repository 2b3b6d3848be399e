"""Counts on disk: all of them or none, of this boot or another, and never another program's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sgdataplane.daemon import ledgerfile
from sgdataplane.daemon.ledgerfile import LedgerFile
from sgdataplane.host.files import beside_of
from sgdataplane.nft.counters import Counted
from sgdataplane.observe.ledger import Base, Ledger, Sum


def a_ledger() -> Ledger:
    ledger = Ledger()
    ledger.note(7, "eni-a", {"hit": Counted(3, 180, "1.1"), "never": Counted(0, 0, "1.2")}, "t1")
    return ledger


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    LedgerFile(tmp_path / "new", "boot").store(a_ledger())
    file = LedgerFile(tmp_path / "new", "boot")
    found = file.load()
    assert (found.scopes, file.error) == (a_ledger().scopes, "")
    assert found.bases == {7: Base("eni-a", {"hit": Counted(3, 180, "1.1")})}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["counters.json"]
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_after_a_boot_sums_are_kept_and_every_namespace_is_new(tmp_path: Path) -> None:
    LedgerFile(tmp_path, "boot").store(a_ledger())
    found = LedgerFile(tmp_path, "another").load()
    found.note(7, "eni-a", {"hit": Counted(3, 180, "1.1")}, "t2")
    assert found.scopes["eni-a"]["hit"] == Sum(6, 360, "t1", "t1", "t2")


def spoilt() -> list[bytes]:
    good = {"version": 1, "boot": "boot", "scopes": {"s": {"c": [1, 2, "", "", ""]}}, "bases": {"7": ["s", {}]}}
    changes: list[dict[str, object]] = [
        {"version": 2},
        {"scopes": []},
        {"scopes": {"s": {"c": [1, 2, "", ""]}}},
        {"scopes": {"s": {"c": [-1, 2, "", "", ""]}}},
        {"scopes": {"s": {"c": [True, 2, "", "", ""]}}},
        {"scopes": {"s": {"c": [1, 2, 3, "", ""]}}},
        {"bases": {"x": ["s", {}]}},
        {"bases": {"7": ["s", {"c": ["1.1", 1]}]}},
        {"bases": {"7": {}}},
        {"more": 1},
    ]
    whole = json.dumps(good).encode()
    return [json.dumps(good | change).encode() for change in changes] + [b"", b"\xff", b"[" * 99999, whole[:-9]]


@pytest.mark.parametrize("content", spoilt(), ids=lambda content: repr(content[:40]))
def test_what_is_no_ledger_is_refused_whole_and_replaced(tmp_path: Path, content: bytes) -> None:
    file = LedgerFile(tmp_path, "boot")
    file.path.write_bytes(content)
    assert file.load() == Ledger()
    assert "begins anew" in file.error
    file.store(a_ledger())
    assert (LedgerFile(tmp_path, "boot").load().scopes, file.error) == (a_ledger().scopes, "")


def test_what_is_no_file_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LedgerFile(tmp_path, "boot").store(a_ledger())
    monkeypatch.setattr(ledgerfile, "MAX_BYTES", 10)
    assert LedgerFile(tmp_path, "boot").load() == Ledger()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "fifo").replace(tmp_path / "counters.json")
    assert LedgerFile(tmp_path, "boot").load() == Ledger()


def test_where_it_cannot_be_written_what_was_there_stays(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path, "boot")
    file.store(a_ledger())
    beside_of(file.path).mkdir()  # root may write to any folder
    ledger = a_ledger()
    ledger.note(7, "eni-a", {"hit": Counted(9, 180, "1.1")}, "t2")
    file.store(ledger)
    assert "counters" in file.error
    assert LedgerFile(tmp_path, "boot").load().scopes == a_ledger().scopes


def test_there_is_none_at_first(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path)
    assert (file.load(), file.error) == (Ledger(), "")

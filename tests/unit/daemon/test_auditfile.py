"""Which audits have ended, on disk: kept over a start, refused if it is anything else, and never needed to go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sgdataplane.daemon.auditfile import AuditEndFile
from sgdataplane.host.files import beside_of

ONE, TWO = "2026-12-24T13:00:00Z", "2026-12-24T14:00:00Z"


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert AuditEndFile(tmp_path / "new").load() == ""
    file = AuditEndFile(tmp_path / "new")
    for ended in (ONE, TWO):
        file.store(ended)
        assert (AuditEndFile(tmp_path / "new").load(), file.error) == (ended, "")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["audit-ended"]
    assert file.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"soon\n", b"\xff", ONE.encode() + b"\nmore", b"9" * 99_999, None])
def test_what_is_no_time_is_refused_reported_and_replaced(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "audit-ended"
    os.mkfifo(path) if content is None else path.write_bytes(content)
    file = AuditEndFile(tmp_path)
    assert file.load() == ""
    assert "audit-end-unreadable" in caplog.text
    file.store("")
    assert not path.exists()
    file.store(ONE)
    assert AuditEndFile(tmp_path).load() == ONE


def test_what_cannot_be_written_is_said_and_tried_again(tmp_path: Path) -> None:
    file = AuditEndFile(tmp_path)
    beside_of(file.path, "new").mkdir()
    file.store(ONE)
    assert "audit-ended" in file.error
    beside_of(file.path, "new").rmdir()
    file.store(ONE)
    assert (AuditEndFile(tmp_path).load(), file.error) == (ONE, "")

"""Where the agent's policy comes from: files that are watched, and the last good policy. In the agent:
tests/agent/test_cycle.py."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.daemon.source import LastGood, WatchedFiles
from sgdataplane.errors import StateFileError
from sgdataplane.statefile import dump_native
from tests.support.inputs.generations import turn, write_generation
from tests.support.scenes.attachbench import state_of

PROFILE = "seed"
OLD, NEW = state_of(443), state_of(80, 8080)
SECONDS = 10.0


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[WatchedFiles]:
    """A link to the first of two generations, as a sync program leaves them."""
    for name, state in (("1", OLD), ("2", NEW)):
        write_generation(tmp_path / name, state)
    (tmp_path / "current").symlink_to("1")
    found = WatchedFiles(tmp_path / "current")
    yield found
    found.close()


def is_told(followed: WatchedFiles) -> bool:
    return bool(select.select([followed], [], [], SECONDS)[0]) and followed.poll()


def test_a_turned_link_is_told_once_it_is_turned(followed: WatchedFiles) -> None:
    followed.read(PROFILE)
    assert not followed.poll()
    turn(followed.path, "2")
    assert is_told(followed)
    assert followed.read(PROFILE) == NEW
    turn(followed.path, "1")
    assert is_told(followed), "what the link leads to now is followed, too"


def test_a_file_that_is_not_there_is_told_when_it_comes(tmp_path: Path) -> None:
    found = WatchedFiles(tmp_path / "state.yaml")
    try:
        with pytest.raises(StateFileError):
            found.read(PROFILE)
        found.path.write_text(dump_native(OLD), "utf-8")
        assert is_told(found)
        assert found.read(PROFILE) == OLD
    finally:
        found.close()


STATE, OTHER = state_of(80), state_of(443)


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    LastGood(tmp_path / "var").store(STATE)
    again = LastGood(tmp_path / "var")
    assert (again.load(), again.error) == (STATE, "")
    assert again.path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "var") == [again.path.name]


def test_without_a_file_there_is_none(tmp_path: Path) -> None:
    last = LastGood(tmp_path)
    assert (last.load(), last.error) == (None, "")


def test_what_is_on_disk_already_is_not_written_again(tmp_path: Path) -> None:
    last = LastGood(tmp_path)
    last.store(STATE)
    before = last.path.stat().st_ino
    last.store(state_of(80))
    assert last.path.stat().st_ino == before
    last.store(OTHER)
    assert LastGood(tmp_path).load() == OTHER


@pytest.mark.parametrize("content", [b"", b"\xff", b"version: 9\n", b"{"])
def test_a_spoilt_file_is_none_and_says_why(tmp_path: Path, content: bytes) -> None:
    last = LastGood(tmp_path)
    last.path.write_bytes(content)
    assert last.load() is None
    assert str(last.path.parent) in last.error
    last.store(STATE)
    assert (LastGood(tmp_path).load(), last.error) == (STATE, "")


def test_where_it_cannot_be_written_the_older_one_goes_and_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = LastGood(tmp_path)
    last.store(STATE)

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        last.store(OTHER)
    assert "No space left" in last.error
    assert os.listdir(tmp_path) == []
    last.store(OTHER)
    assert (LastGood(tmp_path).load(), last.error) == (OTHER, "")


def test_a_folder_that_cannot_be_made_is_an_error_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    last = LastGood(tmp_path / "file")
    last.store(STATE)
    assert str(last.path.parent) in last.error


def test_a_crash_while_writing_leaves_the_former_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = LastGood(tmp_path)
    last.store(STATE)

    class CrashError(BaseException):
        pass

    def crash(_: int) -> None:
        raise CrashError

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(CrashError):
        last.store(OTHER)
    assert LastGood(tmp_path).load() == STATE

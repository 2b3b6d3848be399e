"""Where the agent's state comes from, and what is told of it. The agent with it: tests/kernel/test_agent.py."""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.daemon.source import StateFiles, WatchedFiles
from sgdataplane.errors import StateFileError
from sgdataplane.statefile import dump_native
from tests.support.attachbench import state_of
from tests.support.generations import turn, write_generation

PROFILE = "seed"
OLD, NEW = state_of(443), state_of(80, 8080)
SECONDS = 10.0


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[WatchedFiles]:
    """A link to the first of two generations, as `sync` leaves them."""
    for name, state in (("1", OLD), ("2", NEW)):
        write_generation(tmp_path / name, state)
    (tmp_path / "current").symlink_to("1")
    found = WatchedFiles(tmp_path / "current")
    yield found
    found.close()


def is_told(followed: WatchedFiles) -> bool:
    return bool(select.select([followed], [], [], SECONDS)[0]) and followed.changed()


def test_a_turned_link_is_told_once_it_is_turned(followed: WatchedFiles) -> None:
    followed.read(PROFILE)
    assert not followed.changed()
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


def test_files_are_read_without_being_followed(tmp_path: Path) -> None:
    write_generation(tmp_path / "1", NEW)
    assert StateFiles(tmp_path / "1").read(PROFILE) == NEW

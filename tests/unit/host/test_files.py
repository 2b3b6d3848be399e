"""A replaced file is complete at every moment, and no other file is written to."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from sgdataplane.host.files import Survives, beside_of, replace_file, require_replaceable

OLD, NEW = b"old", b"new and longer"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(OLD)
    return tmp_path / "file"


def noted(monkeypatch: pytest.MonkeyPatch, path: Path) -> list[str]:
    """What is synced to disk, and when the rename happens."""
    done: list[str] = []
    sync, rename = os.fsync, Path.replace

    def synced(number: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(number).st_mode)
        done.append("folder" if is_folder else f"text of {os.fstat(number).st_size} octets")
        sync(number)

    def renamed(beside: Path, target: Path) -> Path:
        assert path.read_bytes() == OLD
        done.append("name")
        return rename(beside, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    return done


@pytest.mark.parametrize(
    ("survives", "wanted"),
    [
        (Survives.THE_WRITER, ["name"]),
        (Survives.THE_MACHINE, ["text of 14 octets", "name"]),
        (Survives.AS_NEW, ["text of 14 octets", "name", "folder"]),
    ],
)
def test_what_survives_is_on_disk_in_that_order(
    path: Path, monkeypatch: pytest.MonkeyPatch, survives: Survives, wanted: list[str]
) -> None:
    done = noted(monkeypatch, path)
    replace_file(path, NEW, survives, mode=0o600)
    assert done == wanted
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (NEW, 0o600)
    assert os.listdir(path.parent) == [path.name]


class CrashError(BaseException):
    pass


@pytest.mark.parametrize("what", [OSError(errno.ENOSPC, "full"), CrashError()], ids=["full", "crash"])
def test_a_text_that_cannot_be_written_leaves_the_old_one_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, what: BaseException
) -> None:
    def fail(_: int) -> None:
        raise what

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(what)):
        replace_file(path, NEW, Survives.THE_MACHINE)
    assert (path.read_bytes(), os.listdir(path.parent)) == (OLD, [path.name])


def test_what_one_who_died_left_is_in_nobodys_way(path: Path) -> None:
    beside_of(path).write_bytes(b"half of it")
    replace_file(path, NEW, Survives.THE_WRITER)
    assert (path.read_bytes(), os.listdir(path.parent)) == (NEW, [path.name])


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_a_link_that_waits_where_the_text_is_written_is_not_followed(
    path: Path, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"somebody's")
    link(other, beside_of(path))
    replace_file(path, NEW, Survives.THE_WRITER)
    assert (path.read_bytes(), other.read_bytes()) == (NEW, b"somebody's")


def test_whether_it_could_be_replaced_is_asked_without_a_trace(path: Path, tmp_path: Path) -> None:
    require_replaceable(path)
    assert (path.read_bytes(), os.listdir(tmp_path)) == (OLD, [path.name])
    with pytest.raises(FileNotFoundError):
        require_replaceable(tmp_path / "missing" / "file")

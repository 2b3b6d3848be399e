from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.host.watch import PathWatch


@pytest.fixture
def watch() -> Iterator[PathWatch]:
    watch = PathWatch()
    yield watch
    watch.close()


def changed(watch: PathWatch, path: Path, change: Callable[[], object]) -> bool:
    """Whether the change is reported; inotify reports it before the system call returns."""
    watch.follow([path])
    watch.read()
    change()
    found = watch.read()
    assert found in (frozenset(), {path})
    return bool(found)


def test_every_way_to_change_a_file_is_told(tmp_path: Path, watch: PathWatch) -> None:
    path, beside = tmp_path / "folder" / "state.yaml", tmp_path / "beside"
    assert changed(watch, path, path.parent.mkdir)
    assert changed(watch, path, lambda: path.write_text("a"))
    assert changed(watch, path, lambda: path.write_text("b"))
    beside.write_text("c")
    assert changed(watch, path, lambda: beside.replace(path))
    assert changed(watch, path, lambda: path.write_text("d"))
    assert changed(watch, path, path.unlink)
    assert changed(watch, path, lambda: path.parent.rename(tmp_path / "other"))
    assert changed(watch, path, lambda: (tmp_path / "other").rename(path.parent))
    assert changed(watch, path, lambda: shutil.rmtree(path.parent))


def test_others_in_the_same_folder_are_not_told(tmp_path: Path, watch: PathWatch) -> None:
    path = tmp_path / "state.yaml"
    path.write_text("a")
    assert not changed(watch, path, lambda: (tmp_path / "other").write_text("b"))
    assert not changed(watch, path, path.read_text)


def test_what_is_in_a_folder_is_told(tmp_path: Path, watch: PathWatch) -> None:
    folder = tmp_path / "states"
    folder.mkdir()
    assert changed(watch, folder, lambda: (folder / "a.yaml").write_text("a"))
    assert changed(watch, folder, lambda: (folder / "a.yaml").rename(folder / "b.yaml"))
    assert changed(watch, folder, (folder / "b.yaml").unlink)
    assert changed(watch, folder, folder.rmdir)


def test_links_are_followed_and_may_be_turned(tmp_path: Path, watch: PathWatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.yaml").write_text(name)
    now, following = tmp_path / "now", tmp_path / "next"
    now.symlink_to("one")
    path = now / "state.yaml"
    assert changed(watch, path, lambda: (tmp_path / "one" / "state.yaml").write_text("a"))
    assert not changed(watch, path, lambda: (tmp_path / "two" / "state.yaml").write_text("b"))
    following.symlink_to(tmp_path / "two")
    assert changed(watch, path, lambda: following.replace(now))
    assert changed(watch, path, lambda: (tmp_path / "two" / "state.yaml").write_text("c"))


def test_links_in_a_circle_end(tmp_path: Path, watch: PathWatch) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert changed(watch, tmp_path / "a", (tmp_path / "b").unlink)


def test_what_is_no_longer_followed_is_not_told(tmp_path: Path, watch: PathWatch) -> None:
    former, path = tmp_path / "a" / "x", tmp_path / "b" / "x"
    former.parent.mkdir()
    path.parent.mkdir()
    watch.follow([former])
    assert not changed(watch, path, lambda: former.write_text("a"))
    assert changed(watch, path, lambda: path.write_text("a"))

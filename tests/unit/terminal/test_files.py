"""Files that a verb writes are replaced whole, or stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.errors import StateFileError
from sgdataplane.terminal import files
from sgdataplane.terminal.files import require_writable, write, write_folder


def test_a_name_that_is_no_utf_8_is_written_as_far_as_it_can_be(tmp_path: Path) -> None:
    write("<h1>b\udcff.yaml</h1>", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "<h1>b?.yaml</h1>"


def test_a_link_stays_one(tmp_path: Path) -> None:
    """As /dev/stdout is, where the output goes to a file."""
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder / "page.html")
    for text in ("first", "second"):
        require_writable(link)
        write(text, link)
        assert (link.is_symlink(), (folder / "page.html").read_text(encoding="utf-8")) == (True, text)
    assert sorted(tmp_path.rglob("*")) == [folder, folder / "page.html", link]


def test_asking_whether_a_file_can_be_written_leaves_it_as_it_is(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    require_writable(target)
    assert list(tmp_path.iterdir()) == []
    target.write_text("before")
    require_writable(target)
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]
    require_writable(Path("/dev/stdout"))
    for place in (tmp_path, tmp_path / "missing" / "page.html", target / "page.html", tmp_path / ("x" * 300)):
        with pytest.raises(StateFileError, match="NotWritable"):
            require_writable(place)


def test_a_file_that_cannot_be_replaced_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "state.yaml"
    target.write_text("before")
    monkeypatch.setattr(files, "replace_file", fail)
    with pytest.raises(StateFileError, match="no space left on device"):
        write("after", target)
    assert target.read_text() == "before"


def test_a_private_file_stays_private(tmp_path: Path) -> None:
    target = tmp_path / "state.yaml"
    target.touch(mode=0o600)
    write("text", target)
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("text", 0o600)


def test_a_folder_is_written_only_if_it_is_empty(tmp_path: Path) -> None:
    write_folder({"a.json": "{}"}, tmp_path / "answers")
    assert (tmp_path / "answers" / "a.json").read_text() == "{}"
    with pytest.raises(StateFileError, match="the folder isn't empty"):
        write_folder({"b.json": "{}"}, tmp_path / "answers")
    assert [entry.name for entry in (tmp_path / "answers").iterdir()] == ["a.json"]

"""A generation is whole and says what it is to say, whatever became of the files of the one before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sgdataplane.errors import HostError
from sgdataplane.handover import publishing
from sgdataplane.handover.publishing import Publisher
from sgdataplane.store.history import Version

Document = dict[str, object]


def document(*names: str, cidr: str = "10.0.0.0/8") -> Document:
    return {"version": 1, "vpcs": [{"vpc_id": name, "cidr_blocks": [cidr]} for name in names]}


def read(folder: Path) -> Document:
    found: Document = {}
    for file in sorted(folder.iterdir()):
        for section, part in json.loads(file.read_bytes()).items():
            found[section] = [*found.get(section, []), *part] if isinstance(part, list) else part  # type: ignore[misc]
    return found


def inodes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_ino for file in folder.iterdir()}


def same(found: Document, expected: Document) -> bool:
    def ordered(one: Document) -> Document:
        return {**one, "vpcs": sorted(one["vpcs"], key=str)}  # type: ignore[call-overload]

    return ordered(found) == ordered(expected)


@pytest.mark.parametrize("is_remembered", [True, False])
def test_a_file_that_says_the_same_is_linked_and_another_one_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_remembered: bool
) -> None:
    if not is_remembered:
        monkeypatch.setattr(publishing, "MAX_REMEMBERED", 1)
    publisher = Publisher(tmp_path)
    publisher.publish(Version(0, 1), document("vpc-1", "vpc-2"))
    before = inodes(publisher.current)
    publisher.publish(Version(0, 2), document("vpc-1", "vpc-3"))
    after = inodes(publisher.current)
    assert same(read(publisher.current), document("vpc-1", "vpc-3"))
    kept = {name for name in before.keys() & after.keys() if before[name] == after[name]}
    assert len(kept) == 2, "the version, and vpc-1"
    publisher.publish(Version(0, 3), document("vpc-1", "vpc-3", cidr="172.16.0.0/12"))
    assert same(read(publisher.current), document("vpc-1", "vpc-3", cidr="172.16.0.0/12"))


def remove(file: Path) -> None:
    file.unlink()


def none(_: Path) -> None:
    """Leave it."""


@pytest.mark.parametrize("happen", [none, remove])
def test_what_cannot_be_linked_is_written(tmp_path: Path, happen: Callable[[Path], None]) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish(Version(0, 1), document("vpc-1", "vpc-2"))
    for file in publisher.current.iterdir():
        happen(file)
    publisher.publish(Version(0, 2), document("vpc-1", "vpc-2"))
    assert same(read(publisher.current), document("vpc-1", "vpc-2"))


def test_what_another_process_has_written_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    publisher, other = Publisher(tmp_path), Publisher(tmp_path)
    publisher.publish(Version(0, 1), document("vpc-1"))
    other.publish(Version(0, 2), document("vpc-1", cidr="172.16.0.0/12"))
    publisher.publish(Version(0, 3), document("vpc-1"))
    assert same(read(publisher.current), document("vpc-1"))


def test_a_generation_that_could_not_be_written_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish(Version(0, 1), document("vpc-1"))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "_write_or_link", fail)
        with pytest.raises(HostError, match="No space left"):
            publisher.publish(Version(0, 2), document("vpc-2"))
    assert same(read(publisher.current), document("vpc-1"))
    publisher.publish(Version(0, 2), document("vpc-2", "vpc-1"))
    assert same(read(publisher.current), document("vpc-1", "vpc-2"))

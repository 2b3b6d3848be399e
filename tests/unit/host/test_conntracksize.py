"""Conntrack's two settings are raised, and nothing else is ever done to them. Here they are files of a folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sgdataplane.errors import HostError
from sgdataplane.host.conntracksize import (
    BUCKETS,
    LIMIT,
    TableSize,
    affordable,
    memory_of_machine,
    raise_size,
    read_size,
    size_for,
)

GIB = 1 << 30


def settings(folder: Path, limit: int, buckets: int) -> Path:
    (folder / LIMIT).write_text(f"{limit}\n", "ascii")
    (folder / BUCKETS).write_text(f"{buckets}\n", "ascii")
    return folder


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param((1000, 500), (4096, 4096), id="both-are-raised"),
        pytest.param((8192, 500), (8192, 4096), id="a-higher-limit-stays"),
        pytest.param((1000, 8192), (4096, 8192), id="more-buckets-stay"),
        pytest.param((4096, 4096), (4096, 4096), id="what-is-enough-stays"),
        pytest.param((9999, 8888), (9999, 8888), id="nothing-is-lowered"),
        pytest.param((0, 500), (0, 4096), id="no-limit-stays-none"),
    ],
)
def test_what_is_lower_is_raised(tmp_path: Path, before: tuple[int, int], after: tuple[int, int]) -> None:
    raise_size(4096, settings(tmp_path, *before))
    assert read_size(tmp_path) == TableSize(*after)


def test_what_is_enough_is_not_even_written(tmp_path: Path) -> None:
    settings(tmp_path, 4096, 4096)
    times = [os.stat(tmp_path / name).st_mtime_ns for name in (LIMIT, BUCKETS)]
    raise_size(4096, tmp_path)
    assert [os.stat(tmp_path / name).st_mtime_ns for name in (LIMIT, BUCKETS)] == times


def test_where_nothing_is_tracked_there_is_nothing_to_raise(tmp_path: Path) -> None:
    assert read_size(tmp_path) is None
    raise_size(4096, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_buckets_come_first_and_if_they_are_refused_the_limit_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(tmp_path, 1000, 500)
    write = Path.write_text

    def refused(path: Path, data: str, encoding: str) -> int:
        if path.name == BUCKETS:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return write(path, data, encoding)

    monkeypatch.setattr(Path, "write_text", refused)
    with pytest.raises(HostError, match=r"nf_conntrack_buckets=4096.*Cannot allocate memory"):
        raise_size(4096, tmp_path)
    assert read_size(tmp_path) == TableSize(1000, 500)


def test_nonsense_is_refused(tmp_path: Path) -> None:
    settings(tmp_path, 1000, 500)
    (tmp_path / LIMIT).write_text("many\n", "ascii")
    with pytest.raises(HostError, match="many"):
        raise_size(4096, tmp_path)


@pytest.mark.parametrize(
    ("sessions", "memory", "size"),
    [
        (1, 64 * GIB, 1),
        (98_304, 64 * GIB, 1 << 17),
        (1 << 17, 64 * GIB, 1 << 17),
        ((1 << 17) + 1, 64 * GIB, 1 << 18),
        (1 << 40, 8 * GIB, affordable(8 * GIB)),
    ],
)
def test_size_is_the_next_power_of_two_as_far_as_memory_goes(sessions: int, memory: int, size: int) -> None:
    assert size_for(sessions, memory) == size


def test_a_full_namespace_takes_a_sixteenth_of_the_memory_at_most() -> None:
    memory = memory_of_machine()
    assert 0.99 * memory / 16 < affordable(memory) * 392 <= memory / 16

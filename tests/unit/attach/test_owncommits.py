"""Whose a commit is: ours only if namespace, process and generation all fit. Numbers of processes are used again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sgdataplane.attach import owncommits
from sgdataplane.attach.owncommits import CommitFile, OwnCommits
from sgdataplane.host.identity import Identity

COOKIE, PROCESS, OTHER = 7, 4711, 4712
OURS = OwnCommits(COOKIE, PROCESS, before=10, after=12)  # it has made the 11th and the 12th


@pytest.mark.parametrize(
    ("cookie", "process", "generation", "is_ours"),
    [
        pytest.param(COOKIE, PROCESS, 11, True, id="the first one"),
        pytest.param(COOKIE, PROCESS, 12, True, id="the last one"),
        pytest.param(COOKIE, PROCESS, 10, False, id="before it came"),
        pytest.param(COOKIE, PROCESS, 13, False, id="after it had ended, by whoever has its number next"),
        pytest.param(COOKIE, PROCESS, 12 + (1 << 31), False, id="much later"),
        pytest.param(COOKIE, OTHER, 11, False, id="meanwhile, by another process"),
        pytest.param(COOKIE + 1, PROCESS, 11, False, id="in another namespace"),
    ],
)
def test_a_commit_is_ours_if_all_fit(cookie: int, process: int, generation: int, is_ours: bool) -> None:
    assert OURS.include(cookie, process, generation) is is_ours


def test_generations_begin_anew_after_the_last_one() -> None:
    over = OwnCommits(COOKIE, PROCESS, before=(1 << 32) - 1, after=1)
    assert [over.include(COOKIE, PROCESS, number) for number in ((1 << 32) - 1, 0, 1, 2)] == [False, True, True, False]


@pytest.fixture
def generations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the kernel says from now on, one after the other, to a process of that number."""
    told: list[int] = []
    monkeypatch.setattr(owncommits, "generation_and_process", lambda _: (told.pop(0), PROCESS))
    monkeypatch.setattr(owncommits, "identity_of", lambda _: Identity(1, COOKIE))
    return told


def test_what_was_committed_in_a_block_is_noted_and_nothing_else(tmp_path: Path, generations: list[int]) -> None:
    noted = CommitFile(tmp_path)
    for before, after in ((10, 12), (12, 12), (20, 21)):
        generations += [before, after]
        with noted.note_commits("place"):
            pass
    assert noted.load() == (OURS, OwnCommits(COOKIE, PROCESS, 20, 21))
    assert noted.path.stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_file_s_place_is_neither_written_nor_believed(tmp_path: Path, generations: list[int]) -> None:
    """The folder is root's; whoever could put one there anyhow gains nothing."""
    aim, noted = tmp_path / "aim", CommitFile(tmp_path)
    aim.write_text(str(OURS), "ascii")
    noted.path.symlink_to(aim)
    generations += [20, 21]
    with noted.note_commits("place"):
        pass
    assert (noted.load(), aim.read_text("ascii")) == ((), str(OURS))
    noted.path.unlink()
    os.link(aim, noted.path)
    assert noted.load() == (OURS,), "control: that text is one of ours"


@pytest.mark.parametrize("text", ["", "7 4711 10", "7 4711 10 x\n", "7 4711 10 12 13\n", "\0\xff\n"])
def test_a_line_that_is_none_is_nobody_s(tmp_path: Path, text: str) -> None:
    """As a process that was killed leaves it."""
    noted = CommitFile(tmp_path)
    noted.path.write_bytes(f"{OURS}{text}".encode("latin-1"))
    assert noted.load() in ((OURS,), ())
    assert all(one == OURS for one in noted.load())

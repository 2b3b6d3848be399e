"""What stops history stops nothing else, and is said: a full disk, a broken file, hostile names, a clock that jumps."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.history.rows import Fate
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.run.disk import Disk, tiny_disk
from tests.support.scenes.agentscene import scene_at
from tests.support.scenes.attachbench import DNS, WEB
from tests.support.scenes.historyscene import PROMPT, HistoryScene

pytestmark = [pytest.mark.daemon, pytest.mark.placement("instance")]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with tiny_disk(tmp_path / "var", "600k") as disk:
        yield disk


@pytest.fixture
def kept(
    make_lab_name: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], disk: Disk
) -> Iterator[HistoryScene]:
    with scene_at("instance", make_lab_name, tmp_path, lambda: capsys.readouterr().out) as scene:
        assert scene.agent.var == disk.folder
        scene.agent.module = PROMPT
        scene.agent.configure(history={"max_mb": 8})
        scene.write(WEB)
        scene.agent.start()
        kept = HistoryScene(scene)
        kept.wait_until_listening()
        yield kept


def history_of(kept: HistoryScene) -> dict[str, Any]:
    found = kept.scene.agent.status()["history"]
    assert isinstance(found, dict)
    return found


def test_a_full_disk_stops_history_alone_and_it_goes_on_with_room(kept: HistoryScene, disk: Disk) -> None:
    kept.deny(2)
    kept.wait_for(Fate.DROP, DNS, 2)
    disk.spoil("full")
    denied, until = 2, time.monotonic() + DEADLINE
    while not history_of(kept)["error"]:  # until the pages are full that the file has already
        kept.deny(5)
        denied += 5
        assert time.monotonic() < until, "control: the disk never refused a row"
    assert "full" in history_of(kept)["error"]
    kept.scene.write(WEB, DNS)  # a change is enforced
    kept.scene.visit(DNS, 1)
    disk.mend("full")
    wait_until(lambda: history_of(kept)["error"] is None)
    kept.scene.write(WEB)
    kept.deny(1)
    wait_until(lambda: kept.total("default", Fate.DROP) >= denied + 1)
    assert kept.total("default", Fate.DROP) == denied + 1  # what was counted meanwhile is there, too


def test_a_broken_file_stops_history_alone_until_it_is_moved_away(kept: HistoryScene) -> None:
    kept.kill_recorder()
    kept.path.write_bytes(os.urandom(1 << 16))
    for ending in ("-wal", "-shm"):
        kept.path.with_name(kept.path.name + ending).unlink(missing_ok=True)
    kept.kill_recorder()
    wait_until(lambda: "not a database" in str(history_of(kept)["error"]))
    kept.deny(1)  # enforcement goes on
    assert kept.scene.agent.outcomes() == {"eni-a": "in force"}
    kept.path.rename(kept.path.with_suffix(".broken"))
    wait_until(lambda: history_of(kept)["error"] is None)
    kept.deny(2)
    wait_until(lambda: kept.number(Fate.DROP, DNS) >= 2)


def test_a_file_that_others_can_read_is_not_used(kept: HistoryScene) -> None:
    kept.path.chmod(0o644)
    kept.kill_recorder()
    wait_until(lambda: "other users can write to it" in str(history_of(kept)["error"]))
    kept.path.chmod(0o600)
    wait_until(lambda: history_of(kept)["error"] is None)

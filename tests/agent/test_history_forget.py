"""History that is forgotten: what the verbs say then, and what is left on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from sgdataplane.history.rows import Fate
from tests.support.scenes.attachbench import DNS, WEB
from tests.support.scenes.historyscene import HistoryScene, run_verb, seen_at

pytestmark = pytest.mark.daemon


@pytest.fixture
def kept(make_lab_name: Callable[[], str], tmp_path: Path, placement: str) -> Iterator[HistoryScene]:
    with seen_at(placement, make_lab_name, tmp_path) as kept:
        yield kept


@pytest.fixture
def sgdp(kept: HistoryScene, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    return partial(run_verb, capsys, kept.scene.agent.config)


def test_rules_that_nothing_used_for_a_while_are_listed(kept: HistoryScene, sgdp: Callable[..., str]) -> None:
    web, dns = (f"sgr-{port}{'-9' if kept.scene.placement == 'host' else ''} " for port in (WEB, DNS))
    kept.scene.write(WEB, DNS)
    listed = sgdp("counters", "--unused", "--since", "1h")
    assert (web in listed, dns in listed) == (False, True)
    sgdp("history forget", "--before", "2099-01-01")
    kept.scene.visit(DNS, 1)
    kept.wait_for(Fate.ACCEPT, DNS, 1)
    listed = sgdp("counters", "--unused", "--since", "1h")
    assert (web in listed, dns in listed) == (True, False)
    assert web not in sgdp("counters", "--unused")  # control: the counters know it


@pytest.mark.placement("instance")  # in the other one, the test's interface has the ENI's name
def test_what_is_forgotten_is_gone_from_the_disk_and_without_history_it_is_said_how_to_get_one(
    kept: HistoryScene, sgdp: Callable[..., str]
) -> None:
    kept.scene.agent.end()  # so that nothing is written meanwhile
    assert b"eni-a" in kept.path.read_bytes()
    assert "rows forgotten" in sgdp("history forget", "--eni", "eni-a")
    left = {path.name: path.read_bytes() for path in kept.path.parent.glob("history.db*")}
    found = {name: data[data.find(b"eni-a") - 30 :][:60] for name, data in left.items() if b"eni-a" in data}
    assert found == {}
    assert "eni-a" not in sgdp("flows")
    for name in left:
        (kept.path.parent / name).unlink(missing_ok=True)
    assert "add to the agent's configuration: history = {" in sgdp("flows", code=3)

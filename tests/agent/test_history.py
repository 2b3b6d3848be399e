"""History in the real agent: what it records of known traffic, whatever happens to agent, file and clock."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from sgdataplane.history.read import HistoryQuery
from sgdataplane.history.rows import Fate
from tests.support.agentbench import ROOT
from tests.support.attachbench import DNS, WEB
from tests.support.flood import DEADLINE
from tests.support.historyscene import HistoryScene, history_at
from tests.support.pair import HERE

pytestmark = pytest.mark.daemon


@pytest.fixture
def kept(
    make_lab_name: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], placement: str
) -> Iterator[HistoryScene]:
    with history_at(placement, make_lab_name, tmp_path, lambda: capsys.readouterr().out) as kept:
        yield kept


def test_each_session_and_each_drop_is_recorded_with_its_end_and_its_rule(kept: HistoryScene) -> None:
    kept.scene.visit(WEB, 5)
    kept.deny(3)
    kept.wait_for(Fate.DROP, DNS, 3)
    kept.wait_for(Fate.ACCEPT, WEB, 6)
    (row,) = kept.flows(HistoryQuery(fates=(Fate.ACCEPT,), port=WEB, eni_id="eni-a"))
    here = "eni-b" if kept.scene.placement == "host" else HERE["peer"][0]
    assert (row.key.end, row.key.cause, row.key.group_id) == (here, "rule", "sg-a")
    assert row.key.rule_id.startswith(f"sgr-{WEB}")
    assert not row.count.is_sampled
    (refused,) = kept.flows(HistoryQuery(fates=(Fate.DROP,), port=DNS))
    assert (refused.key.end, refused.key.cause) == (here, "default")


def test_packets_can_be_followed_while_history_records_them(kept: HistoryScene) -> None:
    """The kernel serves one listener, which the recorder is; so it tells what it hears. Two may listen to it."""
    command = [sys.executable, "-m", "sgdataplane", "log", "--config", str(kept.scene.agent.config), "--json"]
    listeners = [Popen([*command, "--seconds", "9"], cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True) for _ in range(2)]
    for listener in listeners:
        assert listener.stderr is not None
        assert listener.stderr.readline() == "listening in 1 namespace\n"
    kept.deny(3)
    kept.wait_for(Fate.DROP, DNS, 3)
    for listener in listeners:
        out, _ = listener.communicate(timeout=DEADLINE)
        lines = [json.loads(line) for line in out.splitlines()]
        assert [line["destination_port"] for line in lines if line["event"] == "denied"] == [DNS] * 3

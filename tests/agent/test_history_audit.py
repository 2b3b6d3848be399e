"""An ENI in audit mode, of whose packets history is kept: what passed is nowhere said to be dropped."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from sgdataplane.history.read import HistoryQuery
from sgdataplane.history.rows import Fate
from sgdataplane.model.state import CloudState
from tests.support.inputs.builders import make_rule
from tests.support.scenes import attachbench, attachhost
from tests.support.scenes.agentbench import ROOT
from tests.support.scenes.attachbench import DNS, WEB
from tests.support.scenes.historyscene import HistoryScene, history_at
from tests.support.scenes.pair import HERE

pytestmark = pytest.mark.daemon
RULE = "sgr-refuses"


@pytest.fixture
def kept(
    make_lab_name: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], placement: str
) -> Iterator[HistoryScene]:
    """A rule refuses DNS, and every ENI is audited."""
    with history_at(placement, make_lab_name, tmp_path, lambda: capsys.readouterr().out, audit=["*"]) as kept:
        kept.scene.agent.write(refusing(placement))
        kept.scene.agent.reload()
        kept.wait_until_listening()
        yield kept


def refusing(placement: str) -> CloudState:
    state = attachbench.state_of(WEB) if placement == "instance" else attachhost.state_of(WEB)
    rule = make_rule(f"ingress udp {DNS}/{DNS} from 0.0.0.0/0 drop 1", RULE)
    groups = (
        replace(group, rules=(*group.rules, rule)) if group.security_group_id == "sg-a" else group
        for group in state.security_groups
    )
    return replace(state, security_groups=tuple(groups))


def test_what_passes_by_audit_alone_is_recorded_as_audited_and_as_nothing_else(kept: HistoryScene) -> None:
    command = [sys.executable, "-m", "sgdataplane", "log", "-f", "--config", str(kept.scene.agent.config)]
    with Popen(command, cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert following.stderr.readline() == "listening in 1 namespace\n"
        kept.scene.visit(DNS, 1)  # it passes
        shown = next(line for line in following.stdout if f":{DNS}" in line)
        following.send_signal(signal.SIGINT)
    assert "would drop" in shown
    assert RULE in shown
    kept.wait_for(Fate.AUDITED, DNS, 1)
    (row,) = kept.flows(HistoryQuery(port=DNS, eni_id="eni-a", fates=(Fate.AUDITED, Fate.DROP)))
    here = "eni-b" if kept.scene.placement == "host" else HERE["peer"][0]
    assert (row.key.fate, row.key.end, row.key.rule_id, row.count.packets) == (Fate.AUDITED, here, RULE, 1)
    assert [total.packets for total in kept.totals() if total.decision.security_group_rule_id == RULE] == [1]
    assert (kept.total(RULE, Fate.AUDITED), kept.total(RULE, Fate.DROP)) == (1, 0)
    assert [row.key for row in kept.flows(HistoryQuery(fates=(Fate.DROP,)))] == []
    rows = [row for scope in kept.scene.read()["scopes"] for row in scope["counters"]]
    of_rule = [(bool(row.get("audited")), row["packets"]) for row in rows if row["security_group_rule_id"] == RULE]
    assert sorted(of_rule) == [(False, 0), (True, 1)]


def test_what_is_enforced_again_is_recorded_as_dropped(kept: HistoryScene) -> None:
    """Control: by the same rule, once nothing is audited."""
    kept.scene.visit(DNS, 1)
    kept.wait_for(Fate.AUDITED, DNS, 1)
    more = {"placement": "host"} if kept.scene.placement == "host" else {}
    kept.scene.agent.configure(history={"max_mb": 16}, **more)
    kept.scene.agent.reload()
    kept.wait_until_listening()
    kept.deny(2)
    kept.wait_for(Fate.DROP, DNS, 2)
    assert (kept.number(Fate.AUDITED, DNS), kept.total(RULE, Fate.AUDITED), kept.total(RULE, Fate.DROP)) == (1, 1, 2)

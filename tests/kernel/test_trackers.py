"""A tracker that nobody here has heard of is bounded and told, by every verb that puts policies in force."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.daemon.control import Request, ask
from sgdataplane.host import netns, sysctl
from sgdataplane.host.modules import TRACKING, require
from sgdataplane.host.timeouts import FOLDER, set_timeouts
from tests.support.documents.schemas import assert_conforms
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import WEB, Bench, state_of
from tests.support.variants.strangekernel import STRANGE, forget_sctp

pytestmark = pytest.mark.daemon
STATE = Path(__file__).resolve().parents[2] / "netns-lab" / "scenarios" / "20-three-tier" / "state.yaml"
WARNING = "this kernel has conntrack timeouts that sgdp doesn't know"


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The timeouts that are unknown from now on."""
    forget_sctp(monkeypatch.setattr)
    require(TRACKING)
    return tuple(name for name in STRANGE if name in os.listdir(f"{sysctl.ROOT}/{FOLDER}"))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentBench]:
    with agent_in(tmp_path, is_forked=True) as agent:
        agent.module = "tests.support.variants.strangekernel"
        agent.write(state_of(WEB))
        yield agent


def timeouts(names: tuple[str, ...]) -> dict[str, int]:
    return {name: sysctl.read_number(f"{FOLDER}/{name}") for name in names}


def test_it_is_bounded_and_only_lowered(namespace: str, strange: tuple[str, ...]) -> None:
    with netns.inside(namespace):
        before = timeouts(strange)
        assert set_timeouts().unknown == strange != ()
        after = timeouts(strange)
    assert before["nf_conntrack_sctp_timeout_established"] > 30
    assert after == {name: min(seconds, 30) for name, seconds in before.items()}


def test_apply_warns_of_it(bench: Bench, strange: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    bench.attach()
    state = bench.write(state_of(WEB))
    capsys.readouterr()
    assert bench.sgdp("apply", state) == 0
    said = capsys.readouterr().err
    assert said.count(WARNING) == 1
    assert strange[0] in said
    assert bench.sgdp("apply", state, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert_conforms("apply", found)
    assert found["unknown_timeouts"] == list(strange)


def test_a_lab_warns_of_it(lab_name: str, strange: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        for verb in (("up", str(STATE)), ("apply", str(STATE)), ("status",)):
            assert main(["lab", *verb, "--name", lab_name]) == 0
            assert capsys.readouterr().err.count(WARNING) == 1
        assert main(["lab", "status", "--json", "--name", lab_name]) == 0
        found = json.loads(capsys.readouterr().out)
        assert_conforms("lab-status", found)
        assert found["unknown_timeouts"] == list(strange)
    finally:
        main(["lab", "down", "--name", lab_name])


def test_an_agent_logs_it_once_and_its_status_warns(
    bench: Bench, agent: AgentBench, strange: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    bench.attach()
    agent.start()
    cycles = agent.cycles
    ask(agent.socket, Request.RESYNC)
    wait_until(lambda: agent.cycles > cycles)
    (line,) = agent.events("unknown-timeouts")
    assert strange[0] in line
    status = agent.status()
    assert (status["unknown_timeouts"], status["healthy"]) == (list(strange), True)
    capsys.readouterr()
    assert main(["status", "--config", str(agent.config)]) == 0
    assert WARNING in capsys.readouterr().err


def test_of_what_this_kernel_has_nothing_is_unknown(
    bench: Bench, agent: AgentBench, capsys: pytest.CaptureFixture[str]
) -> None:
    """The control of the ones before."""
    agent.module = "sgdataplane"
    bench.attach()
    assert bench.sgdp("apply", bench.write(state_of(WEB))) == 0
    assert WARNING not in capsys.readouterr().err
    agent.start()
    assert (agent.events("unknown-timeouts"), agent.status()["unknown_timeouts"]) == ([], [])

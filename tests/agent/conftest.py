"""What the agent's tests share: a workload that may be attached already, and an agent that may be started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.enforce import proven
from tests.support.scenes.agentbench import AgentBench, agent_in, warm_agents
from tests.support.scenes.attachbench import WEB, Bench, state_of
from tests.support.scenes.pair import Pair
from tests.support.scenes.workload import bench, dns, home, host_bench, make_netns, pair, process, web  # noqa: F401  # fixtures


@pytest.fixture(scope="module", autouse=True)
def _warm_agents() -> Iterator[None]:
    with warm_agents():
        yield


@pytest.fixture
def attached(pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:  # noqa: F811
    """Two named namespaces, the instance's attached."""
    attached = Bench(pair, os.getpid(), tmp_path, lambda: capsys.readouterr().out)
    assert attached.attach("--netns", pair["instance"]) == 0
    return attached


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentBench]:
    """Ready to start; its state lets WEB in."""
    with agent_in(tmp_path) as agent:
        agent.write(state_of(WEB))
        yield agent


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Whatever this process builds."""
    found: list[object] = []
    build = proven.build

    def noted(*arguments: object) -> object:
        found.append(arguments[0])
        return build(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(proven, "build", noted)
    return found

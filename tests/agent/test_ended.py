"""A container bound by name that ends: stopped on purpose it is a state of its own; whatever else is a fault."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sgdataplane.host import netns
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import WEB, Bench, living_nowhere, state_of
from tests.support.scenes.pair import join
from tests.support.servers.engine import ID, Engine, engine_at, line_of, only

pytestmark = [pytest.mark.daemon]
WEB_NAME = "web"


class Scene:
    """A peer, a fake engine with one container, and an agent."""

    def __init__(self, agent: AgentBench, engine: Engine, bench: Bench, peer: str) -> None:
        self.agent, self.engine, self.bench, self._peer = agent, engine, bench, peer
        self._stack = ExitStack()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = self._stack.enter_context(living_nowhere())
        join({"peer": self._peer, "instance": f"/proc/{self.process.pid}/ns/net"})
        self.engine.answer(self.process.pid, WEB_NAME)
        self.engine.tell(line_of(WEB_NAME))

    def end(self, **state: object) -> None:
        said = {"Running": False, "Pid": 0, "Status": "exited", **state}
        self.engine.answers[WEB_NAME] = 200, json.dumps({"Id": ID, "State": said})
        self._stack.close()

    def health(self) -> tuple[bool, str]:
        status = self.agent.status()
        return status["healthy"], ",".join(eni["outcome"] for eni in status["enis"])

    def is_so(self, healthy: bool, outcome: str) -> bool:  # as `health` has it
        return self.health() == (healthy, outcome)


@pytest.fixture
def scene(
    tmp_path: Path,
    make_lab_name: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    placement: str,
) -> Iterator[Scene]:
    peer = make_lab_name()
    only(monkeypatch, tmp_path, docker=tmp_path / "docker.sock")
    with ExitStack() as stack:
        netns.create(peer)
        stack.callback(netns.remove, peer)
        engine = stack.enter_context(engine_at(tmp_path / "docker.sock"))
        agent = stack.enter_context(agent_in(tmp_path))
        agent.configure(placement=placement)
        agent.write(state_of(WEB))
        bench = Bench({"peer": peer}, 0, tmp_path, lambda: capsys.readouterr().out)
        stack.callback(bench.sgdp, "clear")
        scene = Scene(agent, engine, bench, peer)
        scene.start()
        assert bench.attach("--container", WEB_NAME) == 0
        agent.start()
        assert scene.health() == (True, "in force")
        yield scene


# As docker and podman say it; podman alone says `StoppedByUser`.
ENDS = {
    "stopped": ({"ExitCode": 143}, True, "stopped"),
    "stopped, and killed at last": ({"ExitCode": 137}, True, "stopped"),
    "ended well": ({"ExitCode": 0}, True, "stopped"),
    "stopped, with a code of its own": ({"ExitCode": 1, "StoppedByUser": True}, True, "stopped"),
    "crashed": ({"ExitCode": 139}, False, "gone"),
    "failed": ({"ExitCode": 1}, False, "gone"),
    "out of memory": ({"ExitCode": 137, "OOMKilled": True}, False, "gone"),
    "restarting": ({"ExitCode": 137, "Status": "restarting", "Restarting": True}, False, "gone"),
}


@pytest.mark.parametrize(("state", "healthy", "outcome"), ENDS.values(), ids=ENDS)
@pytest.mark.placement("instance")
def test_the_engine_says_whether_it_was_stopped(
    scene: Scene, state: dict[str, object], *, healthy: bool, outcome: str
) -> None:
    scene.end(**state)
    wait_until(lambda: scene.is_so(healthy, outcome))
    if not healthy:
        wait_until(lambda: bool(scene.agent.status()["enis"][0]["warnings"]))
        (why,) = scene.agent.status()["enis"][0]["warnings"]
        assert "the container is not running" in why
        assert str(state["ExitCode"]) in why or "restarting" in why


def test_what_was_stopped_is_bound_again_and_what_is_removed_is_a_fault(scene: Scene) -> None:
    scene.end(ExitCode=143)
    wait_until(lambda: scene.is_so(True, "stopped"))
    scene.agent.reload()
    assert scene.health() == (True, "stopped")  # it isn't forgotten
    scene.start()
    wait_until(lambda: scene.is_so(True, "in force"))
    scene.end(ExitCode=143)
    wait_until(lambda: scene.is_so(True, "stopped"))
    del scene.engine.answers[WEB_NAME]  # its name may soon be another container's
    scene.agent.reload()
    wait_until(lambda: scene.is_so(False, "gone"))


@pytest.mark.placement("instance")
def test_apply_says_so_too(scene: Scene) -> None:
    scene.end(ExitCode=143)
    scene.agent.end()
    assert scene.bench.apply(state_of(WEB)) == {"eni-a": "stopped", "exit": "0"}
    scene.engine.answers[WEB_NAME] = 200, json.dumps({"State": {"Pid": 0, "Status": "exited", "ExitCode": 139}})
    assert scene.bench.apply(state_of(WEB)) == {"eni-a": "gone", "exit": "1"}

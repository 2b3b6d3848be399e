"""A real docker container on a bridge of docker's, with docker's own rules, started again and again under a flood that
never stops (tests/support/events/pinged.py).
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from sgdataplane.attach.registry import Registry
from sgdataplane.cli.main import main
from sgdataplane.host import netns
from tests.support.events.pinged import (
    ALLOWED,
    CONTAINER,
    HOST,
    NOTES,
    Came,
    Flood,
    came_to,
    noted_in,
    pinged_state,
    wait_for_each,
    wait_for_more,
)
from tests.support.inputs.builders import mac_of
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import ROOT, AgentBench, agent_in
from tests.support.servers.cnidriver import install
from tests.support.servers.docker import NEEDED, Docker, docker_in
from tests.support.servers.engine import only
from tests.support.servers.engines import needs

pytestmark = [pytest.mark.kernel, pytest.mark.daemon, pytest.mark.usefixtures("engines"), needs(*NEEDED)]
ANNOTATED = ("--runtime", "sgdataplane", "--annotation", "sgdataplane/bind=eni-a")
BRIDGE = "br-net"
# With the ENI's MAC from the start: else nothing that is sent to this MAC would come before ours is there.
PLACED = ("--network", "net", "--ip", CONTAINER, "--mac-address", mac_of("eni-a"))
TIMES = [2, pytest.param(50, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentBench]:
    with agent_in(tmp_path_factory.mktemp("agent"), is_forked=True) as bench:
        yield bench


@pytest.fixture(scope="module")
def daemon(agent: AgentBench, make_lab_name: Callable[[], str]) -> Iterator[Docker]:
    """It knows our runtime, and has a network `net`."""
    own = ("--hook", str(agent.folder / "sgdataplane-oci"), "--config", str(agent.config))
    settings = {
        "runtimes": {"sgdataplane": {"path": str(agent.folder / "sgdataplane-runc"), "runtimeArgs": own}},
        "userland-proxy": False,
    }
    put_programs(agent)
    with docker_in(agent.folder, make_lab_name(), settings) as docker:
        docker("network", "create", "--subnet", "10.0.0.0/24", "--gateway", HOST, *named(BRIDGE), "net")
        for command in (
            f"ip link add {BRIDGE}a up master {BRIDGE} type veth peer name {BRIDGE}b",
            f"ip link set {BRIDGE}b up",  # else the bridge has no carrier between two lives
            f"ip neigh replace {CONTAINER} lladdr {mac_of('eni-a')} dev {BRIDGE} nud permanent",
        ):
            subprocess.run(["nsenter", f"--net={netns.path_of(docker.place)}", *command.split()], check=True)
        yield docker


def need_annotations(docker: Docker) -> None:
    """Debian 12 has docker 20."""
    if int(docker("version", "--format", "{{.Server.Version}}").partition(".")[0]) < 24:
        pytest.skip("docker has annotations from version 24 on")


def named(bridge: str) -> tuple[str, str]:
    return "--opt", f"com.docker.network.bridge.name={bridge}"


def put_programs(agent: AgentBench) -> None:
    options = ("--config", str(agent.config))
    install(agent.folder, "sgdataplane-oci", sys.executable, "-m", "sgdataplane.cni.hook", *options)
    # Without the folder that the other program changes to: a runtime's bundle may be where it is started.
    script = agent.folder / "sgdataplane-runc"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m sgdataplane.cni.runtime "$@"\n', "utf-8")
    script.chmod(0o755)


@pytest.fixture
def docker(daemon: Docker, agent: AgentBench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Docker]:
    """With an agent that runs. The containers of a test are removed, and their bindings."""
    only(monkeypatch, agent.folder, docker=daemon.path)
    agent.write(pinged_state())
    agent.start()
    yield daemon
    for container in daemon("ps", "--all", "--quiet").split():
        daemon.remove(container)
    subprocess.run([sys.executable, "-m", "sgdataplane", "clear", *bindings(agent)], check=True)
    agent.end()


def bindings(agent: AgentBench) -> tuple[str, str]:
    return "--bindings", str(agent.folder / "attached")


class Web:
    """The container `web`."""

    def __init__(self, docker: Docker, agent: AgentBench, *options: str) -> None:
        self._docker, self._folder = docker, agent.folder / "out"
        self._folder.mkdir(exist_ok=True)
        self._forget()
        run = ("run", "--detach", "--name", "web", "--volume", f"{self._folder}:/out", *options)
        docker(*run, "tiny", "/bin/busybox", "sh", "-c", NOTES)

    def _forget(self) -> None:
        (self._folder / "start").unlink(missing_ok=True)

    def restart(self) -> None:
        self._forget()
        self._docker("restart", "--time", "0", "web")

    @property
    def at_start(self) -> Came:
        """What had come when its first process started."""
        return noted_in(self._folder)

    @property
    def pid(self) -> int:
        return self._docker.pid("web")


@pytest.mark.optional
def test_what_our_runtime_has_bound_is_shown_by_the_name_of_its_container(
    docker: Docker, agent: AgentBench, capsys: pytest.CaptureFixture[str]
) -> None:
    need_annotations(docker)
    web, here = Web(docker, agent, *ANNOTATED, *PLACED), ("--config", str(agent.config))
    with Flood(docker.place) as flood:
        wait_for_each(flood, web.pid)
        assert main(["sessions", *here]) == 0
    sessions = capsys.readouterr().out.splitlines()[1:-1]
    assert {re.split(" {2,}", session)[0] for session in sessions} == {"eni-a (web)"}
    assert main(["status", *here]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert re.split(" {2,}", row)[:2] == ["eni-a", "eth0 of container web"]
    docker("rename", "web", "shop")
    assert main(["status", *here]) == 0
    assert "eth0 of container shop" in capsys.readouterr().out


@pytest.mark.optional
@pytest.mark.parametrize("times", TIMES)
def test_with_our_runtime_no_denied_packet_ever_comes_to_a_process(
    docker: Docker, agent: AgentBench, times: int
) -> None:
    need_annotations(docker)
    with Flood(docker.place) as flood:
        web = Web(docker, agent, *ANNOTATED, *PLACED)
        before, since = [], []
        for life in range(times + 1):
            if life:
                web.restart()
            pid, start = web.pid, web.at_start
            wait_for_each(flood, pid)
            before.append(start.denied)
            since.append(came_to(pid).denied - start.denied)
        assert agent.outcomes() == {"eni-a": "in force"}
        docker("stop", "--time", "0", "web")
    print(f"{times} restarts, {flood.denied} denied packets sent; before its first process {sorted(before)}")
    assert since == [0] * (times + 1)
    assert flood.denied > times * ALLOWED
    wait_until(lambda: Registry(agent.folder / "attached").load() == ())  # the runtime is told after `stop` has ended


@pytest.mark.slow
@pytest.mark.parametrize("times", [50])
def test_in_a_network_that_another_container_holds_nothing_denied_comes_and_nothing_allowed_is_lost(
    docker: Docker, agent: AgentBench, times: int
) -> None:
    """Not even while the container isn't there: the namespace stays, and answers pings."""
    docker("run", "--detach", "--name", "web-net", *PLACED, "tiny", "/bin/busybox", "sleep", "600")
    attach(agent, "web-net")
    holder = docker.pid("web-net")
    with Flood(docker.place) as flood:
        wait_for_more(holder)
        with flood.held():
            sent, came = flood.allowed, came_to(holder)
        web = Web(docker, agent, "--network", "container:web-net")
        for _ in range(times):
            web.restart()
            assert web.at_start.denied == came.denied
        wait_for_more(holder)
    wait_until(lambda: came_to(holder).allowed - came.allowed == flood.allowed - sent)
    assert came_to(web.pid).denied == came.denied
    print(f"{times} restarts; {flood.allowed - sent} allowed packets sent, and none lost")


@pytest.mark.slow
@pytest.mark.parametrize("times", [50])
def test_by_events_it_is_open_for_a_while_after_each_start(docker: Docker, agent: AgentBench, times: int) -> None:
    web = Web(docker, agent, *PLACED)
    attach(agent, "web")
    opened = []
    with Flood(docker.place) as flood:
        for _ in range(times):
            web.restart()
            pid = web.pid
            wait_until(lambda pid=pid: is_closed(agent, pid))  # type: ignore[misc]
            start, all_of_it = web.at_start.denied, came_to(pid).denied
            opened.append((all_of_it, max(0, all_of_it - start)))
            wait_for_each(flood, pid)
            assert came_to(pid).denied == all_of_it  # nothing more comes
    assert flood.denied > times * ALLOWED
    print(f"open for {sorted(opened)} packets, one a ms: all, and of them since its first process")


def attach(agent: AgentBench, container: str) -> None:
    """By its name."""
    options = ("--state", str(agent.state), "--eni", "eni-a", "--container", container, "--ifname", "eth0", "--set-mac")
    subprocess.run([sys.executable, "-m", "sgdataplane", "attach", *bindings(agent), *options], check=True)
    wait_until(lambda: agent.outcomes() == {"eni-a": "in force"})


def is_closed(agent: AgentBench, pid: int) -> bool:
    """Whether the policy is in force in the namespace of this process."""
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "nft", "list", "tables"]
    is_there = "netdev sgdataplane" in subprocess.run(inside, capture_output=True, text=True, check=True).stdout
    return is_there and agent.outcomes() == {"eni-a": "in force"}


@pytest.mark.optional
def test_without_an_agent_our_runtime_lets_no_container_start_and_docker_says_why(
    docker: Docker, agent: AgentBench
) -> None:
    need_annotations(docker)
    agent.end()
    with pytest.raises(AssertionError, match="no agent is running"):
        Web(docker, agent, *ANNOTATED, *PLACED)
    assert not (agent.folder / "out" / "start").exists()
    agent.start()
    docker("start", "web")
    assert agent.outcomes() == {"eni-a": "in force"}


def test_containers_without_the_annotation_are_left_alone(docker: Docker, agent: AgentBench) -> None:
    web = Web(docker, agent, "--runtime", "sgdataplane", *PLACED)
    with Flood(docker.place):
        wait_until(lambda: came_to(web.pid).denied > ALLOWED)
    assert agent.status()["enis"] == []

"""Pods of a real containerd, as Kubernetes runs them, with our plugin at the end of the chain of docs/containers.md,
under a flood that never stops (tests/support/events/pinged.py).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest

from sgdataplane.attach.registry import Registry
from sgdataplane.cli.main import main
from sgdataplane.host import netns
from tests.support.events.pinged import (
    ALLOWED,
    CONTAINER,
    HOST,
    NOTES,
    Flood,
    came_to,
    is_still,
    noted_in,
    pinged_state,
    wait_for_each,
    wait_for_more,
)
from tests.support.inputs.builders import mac_of, make_eni, make_group, make_rule, make_state
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import ROOT, AgentBench, agent_in
from tests.support.servers.cnidriver import install
from tests.support.servers.containerd import NEEDED, Containerd, Pod, containerd_in
from tests.support.servers.engines import needs

pytestmark = [pytest.mark.kernel, pytest.mark.daemon, pytest.mark.usefixtures("engines"), needs(*NEEDED)]
EXAMPLE = json.loads((ROOT / "examples" / "podnet.conflist").read_text("utf-8"))
ANNOTATED = {"sgdataplane/eni": "eni-a"}
BRIDGE = EXAMPLE["plugins"][0]["bridge"]
TIMES = [2, pytest.param(50, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentBench]:
    with agent_in(tmp_path_factory.mktemp("agent")) as bench:
        yield bench


@pytest.fixture(scope="module")
def daemon(agent: AgentBench, make_lab_name: Callable[[], str]) -> Iterator[Containerd]:
    place = make_lab_name()
    netns.create(place)
    put_network(agent)
    for command in (
        "ip link set lo up",
        # A MAC of its own: with its lowest port's, the kernel would forget its neighbours at each change of that.
        f"ip link add {BRIDGE} up address 02:00:00:00:00:fe type bridge",
        f"ip link add {BRIDGE}a up master {BRIDGE} type veth peer name {BRIDGE}b",
        f"ip link set {BRIDGE}b up",  # else the bridge has no carrier between two pods
        f"ip address add {HOST}/24 dev {BRIDGE}",
        f"ip neigh replace {CONTAINER} lladdr {mac_of('eni-a')} dev {BRIDGE} nud permanent",
    ):
        subprocess.run(["nsenter", f"--net={netns.path_of(place)}", *command.split()], check=True)
    with containerd_in(agent.folder, place) as containerd:
        yield containerd
    netns.remove(place)


def put_network(agent: AgentBench) -> None:
    """The example of the documents, with the one address that the ENI has."""
    bridge, ours = EXAMPLE["plugins"]
    one = {"subnet": "10.0.0.0/24", "rangeStart": CONTAINER, "rangeEnd": CONTAINER, "gateway": HOST}
    ipam = {"type": "host-local", "dataDir": str(agent.folder / "leases"), "ranges": [[one]]}
    network = {**EXAMPLE, "plugins": [{**bridge, "ipam": ipam}, ours]}
    programs, files = agent.folder / "bin", agent.folder / "net.d"
    programs.mkdir()
    files.mkdir()
    (files / "podnet.conflist").write_text(json.dumps(network), "utf-8")
    install(programs, "sgdataplane", sys.executable, "-m", "sgdataplane.cni", "--config", str(agent.config))
    for name in ("bridge", "host-local", "loopback"):
        (programs / name).symlink_to(f"/usr/lib/cni/{name}")


@pytest.fixture
def containerd(daemon: Containerd, agent: AgentBench) -> Iterator[Containerd]:
    """With an agent that runs."""
    agent.write(pinged_state())
    agent.start()
    yield daemon
    agent.end()


class Web:
    """A pod with one container, which notes what had come before it."""

    def __init__(self, containerd: Containerd, agent: AgentBench, number: int = 0) -> None:
        self._containerd, self.out = containerd, agent.folder / "out"
        self.out.mkdir(exist_ok=True)
        self.pod = Pod(ANNOTATED, number)
        containerd.run_pod(self.pod)

    def start(self) -> None:
        (self.out / "start").unlink(missing_ok=True)
        command = ("/bin/busybox", "sh", "-c", NOTES)
        self._container = self._containerd.run_container(self.pod, command, self.out)

    def restart(self) -> None:
        """The container, in its pod."""
        self._containerd.stop_container(self._container)
        self.start()

    @property
    def pid(self) -> int:
        """Of the pod."""
        return self._containerd.pid(self.pod.id)


@contextmanager
def running(containerd: Containerd, agent: AgentBench, number: int = 0) -> Iterator[Web]:
    web = Web(containerd, agent, number)
    try:
        web.start()
        yield web
    finally:
        containerd.remove_pod(web.pod)


@pytest.mark.parametrize("times", TIMES)
def test_no_denied_packet_ever_comes_to_a_process_of_a_pod(
    containerd: Containerd, agent: AgentBench, times: int
) -> None:
    before, since = [], []
    with Flood(containerd.place) as flood:
        for life in range(times + 1):
            with running(containerd, agent, life) as web:
                assert agent.outcomes() == {"eni-a": "in force"}
                start = noted_in(web.out)
                wait_for_each(flood, web.pid)
                before.append(start.denied)
                since.append(came_to(web.pid).denied - start.denied)
            assert Registry(agent.folder / "attached").load() == ()
    print(f"{times + 1} pods, {flood.denied} denied packets sent; before their first process {sorted(before)}")
    assert since == [0] * (times + 1)
    assert flood.denied > times * ALLOWED


@pytest.mark.slow
@pytest.mark.parametrize("times", [50])
def test_a_container_that_starts_again_in_its_pod_loses_nothing_allowed(
    containerd: Containerd, agent: AgentBench, times: int
) -> None:
    with Flood(containerd.place) as flood, running(containerd, agent) as web:
        wait_for_more(web.pid)
        with flood.held():
            wait_until(lambda: is_still(web.pid))
            sent, came = flood.allowed, came_to(web.pid)
        for _ in range(times):
            web.restart()
            assert noted_in(web.out).denied == came.denied
        wait_for_more(web.pid)
        with flood.held():
            wait_until(lambda: came_to(web.pid).allowed - came.allowed == flood.allowed - sent)
        assert came_to(web.pid).denied == came.denied


@pytest.mark.slow
def test_what_the_policy_lets_in_later_comes(containerd: Containerd, agent: AgentBench) -> None:
    """The positive control of the others: the same datagrams, on the same way."""
    with Flood(containerd.place), running(containerd, agent) as web:
        wait_for_more(web.pid)
        before = came_to(web.pid).denied
        everything = make_group("sg-a", [make_rule("ingress all from 0.0.0.0/0", "sgr-all")])
        agent.write(make_state([everything], [make_eni("eni-a", CONTAINER, "sg-a")]))
        wait_until(lambda: came_to(web.pid).denied > before + ALLOWED)


def test_a_pod_is_shown_by_its_name(
    containerd: Containerd, agent: AgentBench, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(containerd, agent):
        assert main(["status", "--config", str(agent.config)]) == 0
    row = re.split(" {2,}", capsys.readouterr().out.splitlines()[-1])
    assert row[:2] == ["eni-a", "eth0 of pod default/web of network podnet"]


@pytest.mark.slow
def test_without_an_agent_no_pod_starts_and_the_kubelet_is_told_why(containerd: Containerd, agent: AgentBench) -> None:
    agent.end()
    with pytest.raises(grpc.RpcError, match="no agent is running"):
        containerd.run_pod(Pod(ANNOTATED, 0))
    assert Registry(agent.folder / "attached").load() == ()
    agent.start()
    with running(containerd, agent, 1):
        assert agent.outcomes() == {"eni-a": "in force"}


def test_a_pod_that_names_no_eni_does_not_start(containerd: Containerd, agent: AgentBench) -> None:
    with pytest.raises(grpc.RpcError, match="no ENI is named"):
        containerd.run_pod(Pod({}, 0))
    assert agent.status()["enis"] == []

"""A real container's interface bound to an ENI: `sgdp attach --container`, with podman where there is one.

The image is busybox and nothing else, made here; storage, network and the engine's socket are the test's own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sgdataplane.attach.containers import NetworkEnd, list_running
from sgdataplane.cli.main import main
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from tests.support.events.restarts import Arrivals, open_for, streaming, wait_for
from tests.support.inputs.builders import VPC_ID
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.probes.links import veths_in
from tests.support.run.sandbox import kept_in
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import DNS, WEB, Bench, state_of
from tests.support.scenes.pair import Session, join
from tests.support.servers.engines import needs, not_on_debian12
from tests.support.servers.podman import IN_A_PLACE, podman, stored_in

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.usefixtures("engines"),
    needs("podman", "crun"),
    *not_on_debian12("podman 4.3 lacks --interface-name, and its crun may not set limits here"),
]


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Containers and images of the test's own, and an image named `tiny` among them."""
    with stored_in(tmp_path, monkeypatch):
        yield tmp_path


@pytest.fixture
def container(storage: Path, lab_name: str) -> Iterator[str]:
    """A running container without a network."""
    options = ("--name", lab_name, "--network", "none", "--cgroups", "disabled")
    conmon = storage / "conmon.pid"
    pids = ("--conmon-pidfile", str(conmon))
    podman("run", "-d", *options, *pids, "tiny", "/bin/busybox", "sleep", "600", prefix=IN_A_PLACE)
    yield lab_name
    podman("rm", "--force", "--time", "0", "--ignore", lab_name)
    number = conmon.read_text().strip()
    wait_until(lambda: not Path(f"/proc/{number}").exists())


@pytest.fixture
def bench(
    container: str, make_lab_name: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Bench]:
    """The container with a link to a peer."""
    pid = int(podman("container", "inspect", "--format", "{{.State.Pid}}", container))
    peer = make_lab_name()
    netns.create(peer)
    pair = {"peer": peer, "instance": f"/proc/{pid}/ns/net"}
    join(pair)
    yield Bench(pair, pid, tmp_path, lambda: capsys.readouterr().out)
    netns.remove(peer)


def test_a_container_obeys_until_it_ends(bench: Bench, container: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert os.stat(bench.place).st_ino != os.stat(netns.OWN_NETNS).st_ino
    with Session(bench.pair, WEB) as web, Session(bench.pair, DNS) as dns:
        assert bench.attach("--container", container) == 0
        assert f"bound to eth0 of container {container}" in capsys.readouterr().out
        assert dns.passes(beside=web)
        assert bench.apply(state_of(WEB)) == {"eni-a": "in force", "exit": "0"}
        assert not dns.passes(beside=web)
        assert bench.apply(state_of(WEB, DNS)) == {"eni-a": "in force", "exit": "0"}
        assert dns.passes(beside=web)
    podman("stop", "--time", "0", container)
    wait_until(lambda: not veths_in(bench.pair["peer"]))  # nothing keeps the namespace, so that its link goes, too
    assert bench.attach("--container", container) == 5
    assert "InvalidContainer.Stopped" in capsys.readouterr().err
    assert bench.apply(state_of(WEB)) == {"eni-a": "stopped", "exit": "0"}
    assert bench.attach("--container", "no-such-container") == 5
    assert "InvalidContainer.NotFound" in capsys.readouterr().err


def test_podmans_list_of_containers_is_read(container: str, capsys: pytest.CaptureFixture[str]) -> None:
    """This one has no address, so there is nothing to protect; podman was asked nevertheless."""
    assert [(each.name, each.ends) for each in list_running()] == [(container, (NetworkEnd("none", "", ()),))]
    assert main(["init", "--from-containers", "-"]) == 5
    assert "there is nothing to protect" in capsys.readouterr().err


@pytest.mark.daemon
def test_a_container_that_is_started_anew_is_bound_again(bench: Bench, container: str, tmp_path: Path) -> None:
    """Under a stream of packets, by an agent that may do no more than the shipped unit. The container's link comes as
    soon as it has a process, so it is open for a while."""
    peer = bench.pair["peer"]
    assert bench.attach("--container", container) == 0
    with agent_in(tmp_path, is_forked=True) as agent, streaming(peer) as stream:
        agent.prefix = kept_in(tmp_path)
        agent.write(state_of(WEB))
        agent.start()
        pid_file = Path(podman("container", "inspect", "--format", "{{.PidFile}}", container))
        with restarting(container):
            wait_until(lambda: pid_file.read_text().strip() not in {"", str(bench.pid)})
            pair = {"peer": peer, "instance": f"/proc/{int(pid_file.read_text())}/ns/net"}
            with Arrivals(pair["instance"]) as arrivals:
                join(pair)
                wait_until(lambda: is_enforced_at(agent, pair["instance"]))
                opened = open_for(stream, arrivals)
                wait_for(len(arrivals.got[WEB]) + 100, arrivals, WEB)
                assert len(arrivals.got[DNS]) == opened
        print(f"{opened} packets to the denied port, one a ms, until it was in force")
        assert (agent.status()["healthy"], agent.outcomes()) == (True, {"eni-a": "in force"})
        podman("stop", "--time", "0", container)
        wait_until(lambda: (agent.status()["healthy"], agent.outcomes()) == (True, {"eni-a": "stopped"}))


@contextmanager
def restarting(container: str) -> Iterator[None]:
    command = [*IN_A_PLACE, "restart", "--time", "0", container]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        yield
    assert process.returncode == 0


def is_enforced_at(agent: AgentBench, place: str) -> bool:
    return agent.outcomes() == {"eni-a": "in force"} and bool(tables(place))


def tables(place: str) -> str:
    return nft(place, "list tables")


def test_a_containers_host_end_moves_to_its_router_and_back(bench: Bench, container: str) -> None:
    home = bench.pair["peer"]
    with Links(home) as links:
        index = links.index_of("eth0")
    assert bench.attach("--container", container) == 0
    assert bench.apply(state_of(WEB), "--placement", "host") == {"eni-a": "in force", "exit": "0"}
    with Links(f"sgdp-{VPC_ID}") as links:
        assert [link.is_up for link in links.links() if link.ifname == "eni-a"] == [True]
    assert bench.sgdp("clear") == 0
    with Links(home) as links:
        assert links.index_of("eth0") == index
    assert not netns.exists(f"sgdp-{VPC_ID}")

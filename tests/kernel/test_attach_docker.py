"""A real docker container's interface bound to an ENI: `sgdp attach --container`, and the agent follows its events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.host import netns
from tests.support.events.restarts import Arrivals, open_for, staying_in, streaming, wait_for
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.run.sandbox import kept_in
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import DNS, WEB, Bench, state_of
from tests.support.scenes.pair import Pair, Session, join
from tests.support.servers.docker import NEEDED, SLEEP, Docker, docker_in
from tests.support.servers.engine import only
from tests.support.servers.engines import needs

pytestmark = [pytest.mark.daemon, pytest.mark.usefixtures("engines"), needs(*NEEDED)]
TOUCHES_NOTHING = {"iptables": False, "ip6tables": False, "bridge": "none", "userland-proxy": False}
# Docker 20 switches IPv6 off where it makes no network.
IPV6 = [f"--sysctl=net.ipv6.conf.{which}.disable_ipv6=0" for which in ("all", "default")]
RUN = ("run", "--detach", "--name", "web", "--network", "none", *IPV6, *SLEEP)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, make_lab_name: Callable[[], str]) -> Iterator[Docker]:
    with docker_in(tmp_path_factory.mktemp("docker"), make_lab_name(), TOUCHES_NOTHING) as docker:
        yield docker


@pytest.fixture
def docker(daemon: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Docker]:
    """With one container, which has no network."""
    only(monkeypatch, tmp_path, docker=daemon.path)
    daemon(*RUN)
    yield daemon
    daemon.remove("web")


@pytest.fixture
def pair(docker: Docker, make_lab_name: Callable[[], str], tmp_path: Path) -> Iterator[Pair]:
    """The container with a link to a peer, attached."""
    peer = make_lab_name()
    netns.create(peer)
    pair = {"peer": peer, "instance": f"/proc/{docker.pid('web')}/ns/net"}
    join(pair)
    assert Bench(pair, docker.pid("web"), tmp_path, str).attach("--container", "web") == 0
    yield pair
    netns.remove(peer)


@pytest.fixture
def agent(pair: Pair, tmp_path: Path) -> Iterator[AgentBench]:
    """It may do no more than the shipped unit."""
    with agent_in(tmp_path, is_forked=True) as agent:
        agent.prefix = kept_in(tmp_path)
        agent.write(state_of(WEB))
        agent.start()
        assert is_enforced_at(agent, pair["instance"])
        yield agent
        agent.end()


def is_enforced_at(agent: AgentBench, place: str) -> bool:
    return agent.outcomes() == {"eni-a": "in force"} and "inet sgdataplane" in nft(place, "list tables")


def test_a_docker_container_that_is_started_anew_is_bound_again(docker: Docker, pair: Pair, agent: AgentBench) -> None:
    before = docker.pid("web")
    with streaming(pair["peer"]) as stream:
        restart = threading.Thread(target=docker, args=("restart", "--time", "0", "web"))
        restart.start()
        wait_until(lambda: docker.pid("web") not in (0, before))
        place = f"/proc/{docker.pid('web')}/ns/net"
        with Arrivals(place) as arrivals:
            join({**pair, "instance": place})
            wait_until(lambda: is_enforced_at(agent, place))
            opened = open_for(stream, arrivals)
            wait_for(len(arrivals.got[WEB]) + 100, arrivals, WEB)
            assert len(arrivals.got[DNS]) == opened
        restart.join()
    print(f"{opened} packets to the denied port, one a ms, until it was in force")
    assert agent.status()["healthy"]


def test_a_docker_container_that_is_made_anew_is_followed_though_the_one_before_lives_on(
    docker: Docker, pair: Pair, agent: AgentBench, make_lab_name: Callable[[], str]
) -> None:
    peer = make_lab_name()
    netns.create(peer)
    with staying_in(pair["instance"]) as before:
        docker.remove("web")
        docker(*RUN)
        after = {"peer": peer, "instance": f"/proc/{docker.pid('web')}/ns/net"}
        join(after)
        wait_until(lambda: is_enforced_at(agent, after["instance"]))
        for each in ({**pair, "instance": before}, after):
            with Session(each, WEB) as web, Session(each, DNS) as dns:
                assert not dns.passes(beside=web)
        assert agent.status()["healthy"]
    netns.remove(peer)

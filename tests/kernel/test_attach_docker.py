"""A real docker container's interface bound to an ENI, with docker's daemon where there is one.

Owns a daemon in namespaces of its own, which touches no rule and makes no bridge, with an image of busybox and nothing
else; it is asked as its clients do.
"""

from __future__ import annotations

import http.client
import io
import json
import shutil
import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sgdataplane.host import netns
from tests.support.agentbench import AgentBench, agent_in
from tests.support.attachbench import DNS, WEB, Bench, state_of
from tests.support.booted import cgroup2
from tests.support.engine import only
from tests.support.flood import wait_until
from tests.support.nft import nft
from tests.support.pair import Pair, Session, join
from tests.support.restarts import Arrivals, open_for, staying_in, streaming, wait_for
from tests.support.sandbox import kept_in

BUSYBOX = Path("/bin/busybox")
HAS_ALL = BUSYBOX.exists() and all(shutil.which(name) for name in ("dockerd", "containerd", "runc"))
pytestmark = [
    pytest.mark.daemon,
    pytest.mark.optional,
    pytest.mark.skipif(not HAS_ALL, reason="needs docker's daemon, and busybox-static for an image"),
]
# Its /run, its network, and control groups of the second version alone, as runc wants them.
IN_A_PLACE = """
mount -t tmpfs tmpfs /run && ip link set lo up
umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec dockerd "$@"
"""
TOUCHES_NOTHING = ("--iptables=false", "--ip6tables=false", "--bridge=none", "--userland-proxy=false")
RUNS = {"Image": "tiny", "Cmd": ["/bin/busybox", "sleep", "600"], "HostConfig": {"NetworkMode": "none"}}
CONTAINER = "web"


class Docker:
    """Its daemon, by its socket."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ask(self, method: str, path: str, body: object = None) -> bytes:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(self.path))
            octets = body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, octets, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, text
        return text

    def run(self) -> None:
        self.ask("POST", f"/containers/create?name={CONTAINER}", RUNS)
        self.ask("POST", f"/containers/{CONTAINER}/start")

    def restart(self) -> None:
        self.ask("POST", f"/containers/{CONTAINER}/restart?t=0")

    def remove(self) -> None:
        self.ask("DELETE", f"/containers/{CONTAINER}?force=1")

    @property
    def pid(self) -> int:
        """0 while it doesn't run."""
        return int(json.loads(self.ask("GET", f"/containers/{CONTAINER}/json"))["State"]["Pid"])


@pytest.fixture
def docker(tmp_path: Path, lab_name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Docker]:
    """With one container, which has no network."""
    found = Docker(tmp_path / "docker.sock")
    only(monkeypatch, tmp_path, docker=found.path)
    folders = ("--data-root", tmp_path / "data", "--exec-root", tmp_path / "exec", "--pidfile", tmp_path / "pid")
    where = ("--host", f"unix://{found.path}", "--storage-driver", "vfs", "--cgroup-parent", f"/{lab_name}")
    command = ["unshare", "--mount", "--net", "sh", "-c", IN_A_PLACE, "dockerd"]
    with open(tmp_path / "docker.log", "wb") as log:
        options = map(str, (*folders, *where, *TOUCHES_NOTHING))
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
    try:
        wait_until(found.path.exists)
        found.ask("POST", "/images/create?fromSrc=-&repo=tiny", image())
        found.run()
        yield found
        found.remove()
    finally:
        process.terminate()
        process.wait()
        wait_until(lambda: is_removed(cgroup2() / lab_name))


def image() -> bytes:
    octets = io.BytesIO()
    with tarfile.open(fileobj=octets, mode="w") as archive:
        archive.add(BUSYBOX, "bin/busybox")
    return octets.getvalue()


def is_removed(folder: Path) -> bool:
    with suppress(OSError):
        folder.rmdir()
    return not folder.exists()


@pytest.fixture
def pair(docker: Docker, make_lab_name: Callable[[], str], tmp_path: Path) -> Iterator[Pair]:
    """The container with a link to a peer, attached."""
    peer = make_lab_name()
    netns.create(peer)
    pair = {"peer": peer, "instance": f"/proc/{docker.pid}/ns/net"}
    join(pair)
    assert Bench(pair, docker.pid, tmp_path, str).attach("--container", CONTAINER) == 0
    yield pair
    netns.remove(peer)


@pytest.fixture
def agent(pair: Pair, tmp_path: Path) -> Iterator[AgentBench]:
    """It may do no more than the shipped unit."""
    with agent_in(tmp_path) as agent:
        agent.prefix = kept_in(tmp_path)
        agent.write(state_of(WEB))
        agent.start()
        assert is_enforced_at(agent, pair["instance"])
        yield agent
        agent.end()


def is_enforced_at(agent: AgentBench, place: str) -> bool:
    return agent.outcomes() == {"eni-a": "in force"} and "inet sgdataplane" in nft(place, "list tables")


def test_a_docker_container_that_is_started_anew_is_bound_again(docker: Docker, pair: Pair, agent: AgentBench) -> None:
    before = docker.pid
    with streaming(pair["peer"]) as stream:
        restart = threading.Thread(target=docker.restart)
        restart.start()
        wait_until(lambda: docker.pid not in (0, before))
        place = f"/proc/{docker.pid}/ns/net"
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
        docker.remove()
        docker.run()
        after = {"peer": peer, "instance": f"/proc/{docker.pid}/ns/net"}
        join(after)
        wait_until(lambda: is_enforced_at(agent, after["instance"]))
        for each in ({**pair, "instance": before}, after):
            with Session(each, WEB) as web, Session(each, DNS) as dns:
                assert not dns.passes(beside=web)
        assert agent.status()["healthy"]
    netns.remove(peer)

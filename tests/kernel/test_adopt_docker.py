"""The page about adoption, gone through on a host of three docker containers that have no policy: to the last step."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sgdataplane.host import netns
from tests.support.documents.samples import ENVIRONMENT, ROOT, Scene, blocks, scene
from tests.support.probes.flood import wait_until
from tests.support.run.warm import warm_program
from tests.support.servers.docker import NEEDED, Docker, OnHost, docker_in
from tests.support.servers.engines import needs

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.daemon,
    pytest.mark.slow,
    pytest.mark.usefixtures("engines"),
    needs(*NEEDED, "curl"),
]
NETWORK = ("--subnet", "10.20.0.0/16", "--gateway", "10.20.0.1")
OFFICE, CUSTOMERS = "192.0.2.10", [f"198.51.100.{number}" for number in range(1, 21)]
SERVE = "/bin/busybox httpd -h /tmp -p"
# Container -> its address, as on the page; what it publishes; what it runs.
CONTAINERS = {
    "web": ("10.20.1.11", ("--publish", "443:443"), f"{SERVE} 443"),
    "db": ("10.20.1.21", (), f"{SERVE} 5432; {SERVE} 22"),
    "batch": ("10.20.1.31", (), ":"),
}
WEB, DB, _ = (address for address, _, _ in CONTAINERS.values())
REPLICATION = 5433  # of db, for a session with web that is open all the time
WAIT_S = 20  # for an answer: what a policy drops never comes
AGENT_IS_THERE = "until [ -S /run/sgdataplane/agent.sock ]; do sleep 0.1; done"
AGENT_HAS_ENDED = "while kill -0 $(cat agent.pid); do sleep 0.1; done 2> /dev/null"
# What the page says to do otherwise on one's own host, where an engine has made the workloads.
OWN_HOST = {"adopt/state.yaml": "state.yaml", "--netns": "--container", "ip netns exec engine ": ""}
IN_FORCE = "sgdp status | grep -c 'in force'"


def start_containers(docker: Docker) -> None:
    """Start them as if nobody had ever thought of a policy."""
    subprocess.run(["ip", "-n", docker.place, "link", "set", "lo", "up"], check=True)
    for address in (OFFICE, *CUSTOMERS):
        subprocess.run(["ip", "-n", docker.place, "address", "add", f"{address}/32", "dev", "lo"], check=True)
    docker("network", "create", *NETWORK, "shop")
    for name, (address, published, command) in CONTAINERS.items():
        where = ("--name", name, "--network", "shop", "--ip", address, *published)
        what = f"echo hello > /tmp/index.html; {command}; exec /bin/busybox sleep 6000"
        docker("run", "--detach", *where, "tiny", "/bin/busybox", "sh", "-c", what)


@dataclass
class Day:
    """The traffic of a day, as adopt/day.sh makes it."""

    docker: Docker
    host: OnHost

    def lost(self) -> str:
        """Return who got no answer, a line each."""
        asks = [(source, WEB, 443) for source in CUSTOMERS] + [(OFFICE, DB, 22)]
        curl = f"curl --silent --output /dev/null --max-time {WAIT_S}"
        said = "; ".join(f"{curl} --interface {near} http://{far}:{port}/ || echo {near}" for near, far, port in asks)
        return self.host.run(said) + self.asks_db("web", 5) + self.asks_db("batch", 2)

    def asks_db(self, container: str, times: int, port: int = 5432) -> str:
        """By its name, which docker's own name server knows. Return "" if there was an answer each time."""
        wget = f"/bin/busybox wget -q -T {WAIT_S} -O /dev/null http://db:{port}/ || echo {container}"
        return self.docker("exec", container, "/bin/busybox", "sh", "-c", "; ".join([wget] * times), timeout_s=300)


@contextmanager
def replication(docker: Docker) -> Iterator[Callable[[], None]]:
    """A session of web with db; what is yielded sends something each way."""
    with ExitStack() as stack:
        with netns.inside(f"/proc/{docker.pid('db')}/ns/net"):
            server = stack.enter_context(socket.create_server((DB, REPLICATION)))
        with netns.inside(f"/proc/{docker.pid('web')}/ns/net"):
            near = stack.enter_context(socket.create_connection((DB, REPLICATION), timeout=WAIT_S))
        far = stack.enter_context(server.accept()[0])
        far.settimeout(WAIT_S)

        def exchange() -> None:
            for one, other in ((near, far), (far, near)):
                one.sendall(b"row")
                assert other.recv(3) == b"row"

        yield exchange


def commands_of_page() -> list[str]:
    run = [block for block in blocks(ROOT / "docs" / "adopt.md") if block.is_run]
    return [command for block in run for command, _ in block.commands()]


@dataclass
class Reader:
    """Somebody who does what the page says, one command after the other, and gives their users what these need."""

    host: OnHost
    day: Day
    exchange: Callable[[], None]
    left: list[str] = field(default_factory=commands_of_page)

    def does(self, begins: str) -> str:
        """Do what comes next, which begins so; return what is printed."""
        command = self.left.pop(0)
        assert command.startswith(begins)
        if command.endswith("/day.sh"):
            assert self.day.lost() == ""
            self.exchange()
            return ""
        for theirs, ours in OWN_HOST.items():
            command = command.replace(theirs, ours)
        return self.run(command)

    def run(self, command: str) -> str:
        printed = self.host.run(command)
        print(f"# {command}\n{printed}")
        return printed

    def waits(self, command: str, pattern: str) -> None:
        """Wait until a command prints such a line."""
        printed = ""

        def is_printed() -> bool:
            nonlocal printed
            printed = self.host.run(command)
            return re.search(pattern, printed, re.MULTILINE) is not None

        try:
            wait_until(is_printed)
        finally:
            print(f"# {command}\n{printed}")


@pytest.fixture
def docker(tmp_path_factory: pytest.TempPathFactory, make_lab_name: Callable[[], str]) -> Iterator[Docker]:
    with docker_in(tmp_path_factory.mktemp("docker"), make_lab_name(), {}) as docker:
        start_containers(docker)
        yield docker
        docker.remove(*CONTAINERS)


@pytest.fixture
def reader(docker: Docker, tmp_path: Path) -> Iterator[Reader]:
    (tmp_path / "warm").mkdir()
    with ExitStack() as stack:
        script = stack.enter_context(warm_program(tmp_path / "warm", {**os.environ, **ENVIRONMENT}))
        there: Scene = stack.enter_context(scene(tmp_path, script, with_root=True))
        host = OnHost(there, docker)
        day = Day(docker, host)
        wait_until(lambda: day.lost() == "")
        exchange = stack.enter_context(replication(docker))
        yield Reader(host, day, exchange)
        assert there.left == []


def test_from_three_containers_without_a_policy_to_an_enforced_one(reader: Reader) -> None:
    """Nothing that flowed before is lost at any step, also no session that began before the first one."""
    observe(reader)
    correct(reader)
    attempt(reader)
    enforce_one(reader)
    enforce_all(reader)
    assert reader.left == ["sh adopt/down.sh"]
    reader.run("rm state.yaml")


def observe(reader: Reader) -> None:
    """Steps 1 and 2."""
    assert reader.left.pop(0) == "sh adopt/up.sh", "here docker has made the workloads"
    reader.does("sh adopt/day.sh")
    assert "3 containers" in reader.run("sgdp init --from-containers state.yaml")
    assert "ok: 1 VPC, 4 security groups" in reader.does("sgdp check")
    for begins in ("mkdir ", "echo ", "sgdp agent"):
        reader.does(begins)
    reader.run(AGENT_IS_THERE)
    reader.does("cp ")
    assert "eni-batch: bound to eth0 of container batch" in reader.does("for each in web db batch")
    reader.waits("sgdp status | grep -c auditing", "^3")
    reader.does("sgdp status")
    reader.does("sh adopt/day.sh")
    reader.waits("sgdp flows --verdict audited", r"tcp/22 .*\b1 ")
    assert re.search(r"eni-db \(db\) +ingress +default +1 ", reader.does("sgdp counters --audited"))
    assert OFFICE in reader.does("sgdp flows")


def correct(reader: Reader) -> None:
    """Steps 3 and 4."""
    suggest = "sgdp suggest /etc/sgdataplane/state.yaml --history --live --allow-audited"
    reader.waits(suggest, "^37 sessions")  # those of the day at both ends, and the one that was open before
    said = reader.does(suggest)
    assert re.search(rf"sg-db +ingress +tcp/22 +{OFFICE}/32 ", said)
    reader.does("sed ")
    assert "5 hold, 0 fail" in reader.does("sgdp test")
    assert " 0 open, " in reader.does("sgdp diff")
    reader.does("cp next/state.yaml")
    reader.waits("sgdp counters", "sg-batch")


def attempt(reader: Reader) -> None:
    """Step 5: what was believed at first would lose the office, and what was seen nothing."""
    reader.does("sed ")
    assert "no verdict is changed" in reader.does("sgdp trial start believed.yaml")
    reader.does("sh adopt/day.sh")
    said = reader.does("sgdp trial stop believed")
    assert re.search(rf"closes +1 +tcp +22 +{OFFICE}", said)
    assert "new sessions seen: 1 that would close" in said
    assert "no verdict is changed" in reader.does("sgdp trial start enforced.yaml")
    reader.does("sh adopt/day.sh")
    assert "\nnothing would be lost" in reader.does("sgdp trial show enforced")


def enforce_one(reader: Reader) -> None:
    """Step 6, with the way back."""
    reader.does("sed ")
    assert reader.does("sgdp diff") == "live sessions that the change would end: 0\n"
    reader.does("cp db.yaml")
    reader.waits(IN_FORCE, "^1")
    reader.does("sgdp status")
    reader.does("sh adopt/day.sh")
    assert reader.does("ip netns exec engine curl") == "no answer\n"
    reader.waits("sgdp log --since 1m", r"10\.20\.0\.1 ")
    reader.does("sgdp log")
    assert "from now on in mode audit" in reader.does("sgdp attach --eni db")
    reader.waits("sgdp status | grep -c auditing", "^3")
    assert "passes, and is counted" in reader.does("ip netns exec engine curl")
    reader.does("sgdp attach --eni db")
    reader.waits(IN_FORCE, "^1")


def enforce_all(reader: Reader) -> None:
    """The rest of step 6, and step 7."""
    reader.does("cp enforced.yaml")
    reader.waits(IN_FORCE, "^3")
    assert "nothing was seen that would change" in reader.does("sgdp trial stop enforced")
    reader.does("sh adopt/day.sh")
    assert reader.day.asks_db("batch", 1, port=22) == "batch", "only the office may"
    assert "rules never decided about a packet" in reader.does("sgdp counters --unused")
    reader.does("sgdp policies")
    assert "policy 2 is in force" in reader.does("sgdp rollback 2")
    reader.waits("sgdp status | grep -c auditing", "^3")
    reader.does("sgdp resume")
    reader.waits(IN_FORCE, "^3")
    assert reader.day.lost() == ""
    reader.does("kill ")
    reader.run(AGENT_HAS_ENDED)
    reader.does("rm agent.pid")
    assert "detached 3 ENIs" in reader.does("sgdp clear")
    reader.does("rm -r")

"""A real virtual machine under libvirt, behind a bridge to an attached interface, in host placement (as
docs/containers.md has it). Slow: QEMU interprets the guest's code, and the packages are 60 MB more.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sgdataplane.host import netns
from sgdataplane.model.state import CloudState
from tests.support.inputs.builders import mac_of, make_eni, make_group, make_rule, make_state
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.servers.engines import needs
from tests.support.servers.guest import NEEDED, Guest, kernels

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.daemon,
    pytest.mark.slow,
    pytest.mark.usefixtures("engines"),
    needs(*NEEDED),
    pytest.mark.skipif(not kernels(), reason="needs Debian's kernel: make test-slow unpacks it"),
]
GUEST, OTHER = "10.0.0.2", "10.0.0.1"
OPEN, REFUSED = 8080, 22
REQUEST = b"GET / HTTP/1.0\r\n\r\n"
ROUTES = ("ip route add 169.254.1.1 dev eth0", "ip route add default via 169.254.1.1")


def state_of(*ports: int) -> CloudState:
    """The guest lets these in."""
    rules = [make_rule(f"ingress tcp {port}/{port} from 0.0.0.0/0", f"sgr-{port}") for port in ports]
    groups = [make_group("sg-a", rules), make_group("sg-b", [])]
    return make_state(groups, [make_eni("eni-a", GUEST, "sg-a"), make_eni("eni-b", OTHER, "sg-b")])


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentBench]:
    with agent_in(tmp_path) as bench:
        bench.configure(placement="host")
        bench.write(state_of(OPEN))
        bench.start()
        yield bench
        clear = [sys.executable, "-m", "sgdataplane", "clear", "--bindings", str(bench.folder / "attached")]
        subprocess.run(clear, check=True)
        bench.end()


@pytest.fixture
def places(agent: AgentBench, make_lab_name: Callable[[], str]) -> Iterator[dict[str, str]]:
    """A namespace for the guest, whose interface eth0 is behind a bridge there, and one that is another instance. Both
    are attached."""
    with ExitStack() as stack:
        found = {}
        for eni in ("eni-a", "eni-b"):
            place = found[eni] = make_lab_name()
            netns.create(place)
            stack.callback(netns.remove, place)
            mac = () if eni == "eni-a" else ("address", mac_of(eni))
            link = ("link", "add", f"v-{eni}", "type", "veth", "peer", "name", "eth0", *mac, "netns", place)
            subprocess.run(["ip", *link], check=True)
            attach = ["attach", "--bindings", str(agent.folder / "attached"), "--eni", eni, "--netns", place]
            subprocess.run([sys.executable, "-m", "sgdataplane", *attach, "--ifname", "eth0"], check=True)
        wait_until(lambda: agent.outcomes() == {"eni-a": "in force", "eni-b": "in force"})
        bridge = ("ip link add br0 up type bridge", "ip link set eth0 up master br0")
        other = (f"ip address add {OTHER}/32 dev eth0", "ip link set eth0 up", *ROUTES)
        for place, commands in ((found["eni-a"], bridge), (found["eni-b"], other)):
            for command in commands:
                subprocess.run(["nsenter", f"--net={netns.path_of(place)}", *command.split()], check=True)
        yield found


def answers(place: str, port: int, seconds: float = 20.0) -> bool:
    """Whether the guest's server answers a client there."""
    with netns.inside(place):
        client = socket.socket()
    client.settimeout(seconds)
    with client:
        try:
            client.connect((GUEST, port))
            client.sendall(REQUEST)
            return b"200 OK" in client.recv(4096)
        except TimeoutError:
            return False


def test_a_guest_obeys_the_policy_in_each_of_its_lives(
    agent: AgentBench, places: dict[str, str], tmp_path: Path
) -> None:
    other = places["eni-b"]

    def obeys() -> bool:
        return answers(other, OPEN) and not answers(other, REFUSED, 3.0) and answers(other, OPEN)

    guest = Guest(tmp_path, places["eni-a"], "br0", mac_of("eni-a"), GUEST, (OPEN, REFUSED))
    with guest.running():
        assert obeys()
        epoch = agent.status()["cycle"]["number"]
        agent.write(state_of(OPEN, REFUSED))  # the control: the same port on the same way
        wait_until(lambda: agent.status()["cycle"]["number"] > epoch)
        wait_until(lambda: answers(other, REFUSED, 3.0))
        agent.write(state_of(OPEN))
        wait_until(lambda: not answers(other, REFUSED, 3.0))
        assert obeys()
    with guest.running():
        assert obeys()
    assert agent.outcomes() == {"eni-a": "in force", "eni-b": "in force"}

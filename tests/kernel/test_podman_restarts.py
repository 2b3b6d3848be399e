"""A real podman container on a network of netavark, started again and again under a flood that never stops
(tests/support/events/pinged.py).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sgdataplane.attach.registry import Registry
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
    wait_for_more,
)
from tests.support.inputs.builders import mac_of
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.servers.cnidriver import install
from tests.support.servers.engines import needs, not_on_debian12
from tests.support.servers.podman import configure, naming, podman, stored_in

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.daemon,
    pytest.mark.usefixtures("engines"),
    needs("podman", "netavark", "crun"),
    *not_on_debian12("podman 4.3 lacks --interface-name, and its crun may not set limits here"),
]
ROOT = Path(__file__).resolve().parents[2]
ANNOTATED = ("--annotation", "sgdataplane/bind=eni-a")


class Web:
    """The container `web`, on a network whose bridge is here, and stays."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder, self._prefix = folder / "out", naming(folder)
        self._folder.mkdir(exist_ok=True)
        run = (
            "run",
            "--detach",
            "--name",
            "web",
            "--cgroups",
            "disabled",
            "--volume",
            f"{self._folder}:/out",
            *options,
        )
        address = f"net:ip={CONTAINER},mac={mac_of('eni-a')}"
        podman(*run, "--network", address, "tiny", "/bin/busybox", "sh", "-c", NOTES, prefix=self._prefix)

    def restart(self) -> None:
        (self._folder / "start").unlink()
        podman("restart", "--time", "0", "web", prefix=self._prefix)

    def stop(self) -> None:
        podman("stop", "--time", "0", "web", prefix=self._prefix)

    @property
    def at_start(self) -> Came:
        """What had come when its first process started."""
        return noted_in(self._folder)

    @property
    def pid(self) -> int:
        return int(podman("container", "inspect", "--format", "{{.State.Pid}}", "web"))


@pytest.fixture
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab_name: str) -> Iterator[Path]:
    """A folder for hooks. There is a network `net` and its bridge."""
    bridge = f"br{lab_name[-8:]}"
    with ExitStack() as stack:
        netns.create(lab_name)  # from now on, what podman names under /run/netns is seen here
        stack.callback(netns.remove, lab_name)
        folder = configure(tmp_path, monkeypatch)
        stack.enter_context(stored_in(tmp_path, monkeypatch))
        made = ("--subnet", "10.0.0.0/24", "--gateway", HOST, "--disable-dns", "--interface-name", bridge)
        podman("network", "create", *made, "--opt", "mode=unmanaged", "net")
        for command in (
            "ip link set lo up",
            f"ip link add {bridge} type bridge",
            f"ip address add {HOST}/24 dev {bridge}",
            f"ip link add {bridge}a up master {bridge} type veth peer name {bridge}b",
            f"ip link set {bridge}b up",  # else the bridge has no carrier between two lives
            f"ip link set {bridge} up",
            f"ip neigh replace {CONTAINER} lladdr {mac_of('eni-a')} dev {bridge} nud permanent",
        ):
            subprocess.run(command.split(), check=True)
        for made_here in (bridge, f"{bridge}a"):
            stack.callback(subprocess.run, ["ip", "link", "delete", made_here], check=True)
        stack.callback(podman, "rm", "--force", "--time", "0", "--ignore", "web", prefix=naming(tmp_path))
        yield folder


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentBench]:
    with agent_in(tmp_path, is_forked=True) as bench:
        bench.write(pinged_state())
        bench.start()
        yield bench


def put_hooks(folder: Path, agent: AgentBench) -> None:
    """Those of the package."""
    install(
        folder.parent, "sgdataplane-oci", sys.executable, "-m", "sgdataplane.cni.hook", "--config", str(agent.config)
    )
    for file in (ROOT / "containers").glob("*.json"):
        text = file.read_text("utf-8")
        assert "/usr/bin/sgdataplane-oci" in text
        text = text.replace("/usr/bin/sgdataplane-oci", str(folder.parent / "sgdataplane-oci"))
        (folder / file.name).write_text(text, "utf-8")


def life_of(web: Web) -> tuple[int, int]:
    """How many denied packets had come before its first process started, and how many since; it has lived long enough
    once enough has come that is allowed."""
    pid, start = web.pid, web.at_start
    wait_for_more(pid)
    return start.denied, came_to(pid).denied - start.denied


@contextmanager
def bound_by_name(agent: AgentBench) -> Iterator[None]:
    ours = [sys.executable, "-m", "sgdataplane"]
    options = ("--bindings", str(agent.folder / "attached"), "--eni", "eni-a")
    subprocess.run([*ours, "attach", *options, "--container", "web", "--ifname", "eth0"], check=True)
    wait_until(lambda: agent.outcomes() == {"eni-a": "in force"})
    yield
    subprocess.run([*ours, "detach", *options], check=True)


@pytest.mark.parametrize("times", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_with_the_hook_no_denied_packet_ever_comes_in(hooks: Path, agent: AgentBench, times: int) -> None:
    put_hooks(hooks, agent)
    with Flood() as flood:
        web = Web(agent.folder, *ANNOTATED)
        lives = [life_of(web)]
        for _ in range(times):
            web.restart()
            lives.append(life_of(web))
        assert agent.outcomes() == {"eni-a": "in force"}
        web.stop()
    before = [life[0] for life in lives]
    print(
        f"{times} restarts, {flood.denied} denied packets sent; before its first process {sorted(before)}, since then 0"
    )
    assert [life[1] for life in lives] == [0] * len(lives)
    assert flood.denied > times * ALLOWED
    wait_until(lambda: Registry(agent.folder / "attached").load() == ())  # podman may clean up after `stop` has ended


@pytest.mark.slow
@pytest.mark.parametrize("times", [50])
def test_by_events_it_is_open_for_a_while_after_each_start(hooks: Path, agent: AgentBench, times: int) -> None:
    assert hooks.exists()
    web = Web(agent.folder)
    with bound_by_name(agent), Flood() as flood:
        assert life_of(web)[1] == 0
        opened = []
        for _ in range(times):
            web.restart()
            pid = web.pid
            wait_until(lambda pid=pid: is_closed(agent, pid))  # type: ignore[misc]
            before, since = life_of(web)
            opened.append((before + since, since))
            wait_for_more(pid)
            assert came_to(pid).denied == before + since  # nothing more comes
    assert flood.denied > times * ALLOWED
    print(f"open for {sorted(opened)} packets, one a ms: all, and of them since its first process")


def is_closed(agent: AgentBench, pid: int) -> bool:
    """Whether the policy is in force in the namespace of this process."""
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "nft", "list", "tables"]
    is_there = "netdev sgdataplane" in subprocess.run(inside, capture_output=True, text=True, check=True).stdout
    return is_there and agent.outcomes() == {"eni-a": "in force"}


@pytest.mark.slow
def test_without_an_agent_the_hook_lets_no_container_start(hooks: Path, agent: AgentBench) -> None:
    put_hooks(hooks, agent)
    agent.end()
    with pytest.raises(AssertionError, match="error executing hook"):
        Web(agent.folder, *ANNOTATED)
    assert not (agent.folder / "out" / "start").exists()
    agent.start()
    podman("rm", "--force", "--time", "0", "web", prefix=naming(agent.folder))
    Web(agent.folder, *ANNOTATED)
    assert agent.outcomes() == {"eni-a": "in force"}


def test_containers_without_the_annotation_are_left_alone(hooks: Path, agent: AgentBench) -> None:
    put_hooks(hooks, agent)
    web = Web(agent.folder)
    with Flood():
        wait_until(lambda: came_to(web.pid).denied > ALLOWED)
    assert agent.status()["enis"] == []

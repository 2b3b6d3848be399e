"""The OCI hook, run as an engine runs it: what a start that fails leaves, and that what we do ourselves is no drift."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from sgdataplane.attach.registry import Registry
from sgdataplane.cni.plugin import collect, delete
from sgdataplane.cni.request import CniCommand, CniRequest
from sgdataplane.daemon.config import load_config
from sgdataplane.host import netns
from tests.support.kernel.nft import nft
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.run.forked import forked_sgdp
from tests.support.scenes.agentbench import ROOT, AgentBench
from tests.support.scenes.attachbench import DNS, WEB
from tests.support.scenes.ocihook import bind, container, said_to, unbind
from tests.support.scenes.pair import HERE

pytestmark = [pytest.mark.kernel, pytest.mark.daemon]


@pytest.fixture
def workload(make_lab_name: Callable[[], str]) -> Iterator[subprocess.Popen[bytes]]:
    peer = make_lab_name()
    netns.create(peer)
    try:
        with container(peer) as process:
            yield process
    finally:
        netns.remove(peer)


def registry_of(agent: AgentBench) -> Registry:
    return Registry(agent.folder / "attached")


def sgdp(agent: AgentBench, *arguments: object) -> int:
    """As a process of its own, as users run it."""
    options = ("--bindings", str(agent.folder / "attached"))
    return forked_sgdp(*map(str, arguments), *options, cwd=ROOT, stdout=subprocess.DEVNULL).wait(DEADLINE)


def place_of(workload: subprocess.Popen[bytes]) -> str:
    return f"/proc/{workload.pid}/ns/net"


def is_healthy_without_enis(agent: AgentBench) -> bool:
    status = agent.status()
    return bool(status["healthy"]) and status["enis"] == []


def test_a_start_that_fails_leaves_nothing_bound(agent: AgentBench, workload: subprocess.Popen[bytes]) -> None:
    assert bind(agent.config, workload.pid, eni="unknown").wait(DEADLINE) == 1
    assert "the state has no such ENI" in said_to(agent.config).read_text("utf-8")
    assert registry_of(agent).load() == ()
    wait_until(lambda: is_healthy_without_enis(agent))
    assert bind(agent.config, workload.pid).wait(DEADLINE) == 0  # the control
    assert agent.outcomes() == {"eni-a": "in force"}


def test_a_start_that_fails_does_not_touch_what_was_bound_before(
    agent: AgentBench, workload: subprocess.Popen[bytes]
) -> None:
    """As when a container joins another one's network."""
    assert bind(agent.config, workload.pid).wait(DEADLINE) == 0
    before = registry_of(agent).load()
    assert bind(agent.config, workload.pid, "c2", "unknown").wait(DEADLINE) == 1
    assert registry_of(agent).load() == before
    assert agent.outcomes() == {"eni-a": "in force"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_hook_that_is_killed_while_it_waits_leaves_nothing_for_long(
    agent: AgentBench, workload: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    """Then the engine ends the container, and says no more of it."""
    hook = bind(agent.config, workload.pid, eni="unknown")
    wait_until(lambda: agent.outcomes() == {"unknown": "closed"})  # bound, and not for good
    hook.send_signal(number)
    assert hook.wait(DEADLINE) != 0
    workload.kill()
    workload.wait()
    wait_until(lambda: is_healthy_without_enis(agent))
    assert registry_of(agent).load() == ()


def test_an_engine_that_fails_after_the_hook_leaves_nothing_for_long(
    agent: AgentBench, workload: subprocess.Popen[bytes], placement: str
) -> None:
    """The container's program isn't there, or another hook refuses: our part succeeded, and nobody calls `unbind`."""
    agent.configure(placement=placement)
    agent.reload()
    assert bind(agent.config, workload.pid).wait(DEADLINE) == 0
    assert agent.outcomes() == {"eni-a": "in force"}
    workload.kill()
    workload.wait()
    wait_until(lambda: is_healthy_without_enis(agent))
    assert len(agent.events("unbound")) == 1
    assert not [name for name in netns.list_names() if name.startswith("sgdp-")]


def test_without_an_agent_the_next_apply_forgets_what_has_ended(
    agent: AgentBench, workload: subprocess.Popen[bytes]
) -> None:
    assert bind(agent.config, workload.pid).wait(DEADLINE) == 0
    agent.end()
    workload.kill()
    workload.wait()
    assert sgdp(agent, "apply", agent.state) == 0
    assert registry_of(agent).load() == ()


def test_a_network_named_oci_has_nothing_to_do_with_the_hook(
    agent: AgentBench, workload: subprocess.Popen[bytes]
) -> None:
    assert bind(agent.config, workload.pid).wait(DEADLINE) == 0
    config = load_config(agent.config, must_exist=True)
    collect(CniRequest(CniCommand.GC, "1.1.0", "oci"), config)  # the runtime knows no container of it
    delete(CniRequest(CniCommand.DEL, "1.1.0", "oci", "oci/c1", "eth0"), config)
    assert [binding.eni_id for binding in registry_of(agent).load()] == ["eni-a"]
    assert unbind(agent.config) == 0  # the control
    assert registry_of(agent).load() == ()


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_what_we_do_ourselves_is_no_drift(agent: AgentBench, workload: subprocess.Popen[bytes], times: int) -> None:
    """The hook ends and begins in one namespace; `apply` puts the same state in force, and another one."""
    place = place_of(workload)
    for _ in range(times):
        assert bind(agent.config, workload.pid).wait(DEADLINE) == 0
        agent.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
        os.waitid(os.P_PID, agent.process.pid, os.WSTOPPED)  # type: ignore[union-attr]
        assert unbind(agent.config) == 0
        begun = bind(agent.config, workload.pid)
        wait_until(lambda: "inet sgdataplane" in nft(place, "list tables"))
        agent.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
        assert begun.wait(DEADLINE) == 0
    other = agent.folder / "other.yaml"
    other.write_text(agent.state.read_text("utf-8").replace(str(WEB), str(DNS)), "utf-8")
    assert sgdp(agent, "apply", other) == 0
    wait_until(lambda: f"udp . {WEB}" in nft(place, "list ruleset") or str(WEB) in nft(place, "list ruleset"))
    assert sgdp(agent, "detach", "--eni", "eni-a") == 0
    wait_until(lambda: is_healthy_without_enis(agent))
    assert (agent.status()["drift"]["count"], agent.events("drift")) == (0, [])
    assert not agent.events("disturbed")


FORGERY = """
import ctypes, sys
libc = ctypes.CDLL(None)
libc.prctl(15, b"sgdataplane-oci", 0, 0, 0)  # PR_SET_NAME
sys.path.insert(0, sys.argv[2])
from sgdataplane.host import netns
from sgdataplane.enforce import remove
netns.enter(sys.argv[1])
libc.prctl(15, b"sgdataplane-oci", 0, 0, 0)
remove(netns.OWN_NETNS)
"""


def test_who_takes_our_name_and_our_way_is_an_intruder_all_the_same(
    agent: AgentBench, workload: subprocess.Popen[bytes]
) -> None:
    """Root in a namespace runs a program of our name, which makes the same commits as ours; it can't note them."""
    assert bind(agent.config, workload.pid).wait(DEADLINE) == 0
    subprocess.run([sys.executable, "-c", FORGERY, place_of(workload), str(ROOT)], check=True)
    agent.wait_for_event("drift", 1)
    wait_until(lambda: agent.status()["drift"]["count"] > 0)
    assert "by=sgdataplane-oci[" in agent.events("drift")[0]
    wait_until(lambda: "inet sgdataplane" in nft(place_of(workload), "list tables"))


def is_answered(place: str) -> bool:
    """Whether the kernel of the instance answers a SYN to a port where nobody listens."""
    with netns.inside(place):
        sender = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with sender:
        sender.settimeout(0.1)
        try:
            sender.connect((HERE["instance"][0], DNS))
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False
    return True


def test_until_the_hook_has_closed_the_namespace_its_kernel_answers_and_then_no_more(
    agent: AgentBench, lab_name: str
) -> None:
    """What docs/containers.md says of the time between the engine's network and the hook."""
    netns.create(lab_name)
    try:
        with container(lab_name) as process:
            assert is_answered(lab_name)
            started, last = time.monotonic(), 0.0
            hook = bind(agent.config, process.pid)
            while hook.poll() is None:
                if is_answered(lab_name):
                    last = time.monotonic() - started
            assert hook.returncode == 0
            assert not any(is_answered(lab_name) for _ in range(5))
            print(f"the last answer came {last * 1000:.0f} ms after the hook's start")
            assert unbind(agent.config) == 0
    finally:
        netns.remove(lab_name)

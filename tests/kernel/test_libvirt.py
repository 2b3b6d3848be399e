"""Domains of a real libvirt (its containers), protected in the two ways of docs/containers.md, under a flood that never
stops (tests/support/events/pinged.py).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from sgdataplane.host import netns
from tests.support.events.pinged import (
    ALLOWED,
    CONTAINER,
    HOST,
    NOTES,
    Flood,
    came_to,
    counted_in,
    is_still,
    noted_in,
    pinged_state,
    wait_for_each,
    wait_for_more,
)
from tests.support.inputs.builders import mac_of
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.pair import join, plug, switch_on
from tests.support.servers.engines import needs, not_on_debian12
from tests.support.servers.libvirt import BRIDGED, NEEDED, SHARED, Libvirt, can_limit_memory, libvirt_in

pytestmark = [pytest.mark.kernel, pytest.mark.daemon, pytest.mark.usefixtures("engines"), needs(*NEEDED)]
pytestmark += not_on_debian12("its libvirtd ends at once in the tests' namespaces")
if not can_limit_memory():
    pytestmark += [pytest.mark.optional, pytest.mark.skip(reason="needs control groups that limit memory")]
TIMES = [2, pytest.param(50, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentBench]:
    with agent_in(tmp_path_factory.mktemp("agent"), is_forked=True) as bench:
        yield bench


@pytest.fixture(scope="module")
def place(make_lab_name: Callable[[], str]) -> Iterator[str]:
    """What is libvirt's host."""
    name = make_lab_name()
    netns.create(name)
    yield name
    netns.remove(name)


@pytest.fixture(scope="module")
def daemon(agent: AgentBench, place: str) -> Iterator[Libvirt]:
    with libvirt_in(agent.folder, place) as libvirt:
        yield libvirt


@pytest.fixture
def libvirt(daemon: Libvirt, agent: AgentBench) -> Iterator[Libvirt]:
    """With an agent that runs. The domains of a test are removed, and its bindings."""
    agent.write(pinged_state())
    agent.start()
    yield daemon
    daemon.destroy_all()
    sgdp(agent, "clear")
    agent.end()


def sgdp(agent: AgentBench, verb: str, *options: str) -> None:
    command = [sys.executable, "-m", "sgdataplane", verb, "--bindings", str(agent.folder / "attached"), *options]
    subprocess.run(command, check=True)


def run_at(place: str, *commands: str) -> None:
    for command in commands:
        subprocess.run(["nsenter", f"--net={netns.path_of(place)}", *command.split()], check=True)


@pytest.mark.parametrize("times", TIMES)
def test_a_domain_in_a_namespace_that_is_attached_gets_nothing_denied_and_loses_nothing_allowed(
    libvirt: Libvirt, agent: AgentBench, place: str, namespace: str, times: int
) -> None:
    """The namespace is there before the domain, and stays when that is started again."""
    pair = {"peer": place, "instance": namespace}
    plug(pair)
    try:
        sgdp(agent, "attach", "--eni", "eni-a", "--netns", str(netns.path_of(namespace)), "--ifname", "eth0")
        wait_until(lambda: agent.outcomes() == {"eni-a": "in force"})
        libvirt.define("web", NOTES, more=SHARED.format(namespace))
        with Flood(place) as flood:
            switch_on(pair)
            pid = libvirt.start("web")
            wait_for_more(pid)
            with flood.held():
                wait_until(lambda: is_still(pid))
                sent, came = flood.allowed, came_to(pid).allowed
            for _ in range(times):
                libvirt("destroy", "web")
                pid = libvirt.start("web")
                assert noted_in(libvirt.out).denied == 0
            wait_for_more(pid)
            with flood.held():
                wait_until(lambda: came_to(pid).allowed - came == flood.allowed - sent)
            assert came_to(pid).denied == 0
            assert flood.denied > times * ALLOWED
    finally:
        run_at(place, "ip link delete eth0")


def test_without_the_policy_the_same_packets_come(libvirt: Libvirt, place: str, namespace: str) -> None:
    """The positive control of the test before."""
    try:
        join({"peer": place, "instance": namespace})
        libvirt.define("web", NOTES, more=SHARED.format(namespace))
        with Flood(place):
            pid = libvirt.start("web")
            wait_until(lambda: came_to(pid).denied > ALLOWED)
    finally:
        run_at(place, "ip link delete eth0")


def test_a_domain_with_an_interface_of_libvirts_is_bound_by_its_process_until_it_ends(
    libvirt: Libvirt, agent: AgentBench, place: str
) -> None:
    """Open before that, and again if it is started anew: then its ENI is gone, and `sgdp status` isn't healthy."""
    run_at(
        place,
        "ip link add br-l up address 02:00:00:00:00:fe type bridge",
        f"ip address add {HOST}/24 dev br-l",
        f"ip neigh replace {CONTAINER} lladdr {mac_of('eni-a')} dev br-l nud permanent",
    )
    try:
        interface = BRIDGED.format(bridge="br-l", mac=mac_of("eni-a"), address=CONTAINER)
        libvirt.define("web", NOTES, devices=interface)
        with Flood(place) as flood:
            pid = libvirt.start("web")
            wait_until(lambda: came_to(pid).denied > ALLOWED)
            sgdp(agent, "attach", "--eni", "eni-a", "--pid", str(pid), "--ifname", "eth0")
            wait_until(lambda: agent.outcomes() == {"eni-a": "in force"})
            opened = came_to(pid).denied
            wait_for_each(flood, pid)
            assert came_to(pid).denied == opened
            libvirt("destroy", "web")
            wait_until(lambda: (agent.outcomes(), agent.status()["healthy"]) == ({"eni-a": "gone"}, False))
    finally:
        run_at(place, "ip link delete br-l")
    assert counted_in(libvirt.out / "start").denied <= opened

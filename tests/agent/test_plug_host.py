"""The real agent in host placement while ENIs appear and vanish in random order and the policy changes, with counters
at both ends of each. Here an ENI is closed from the moment its link exists: nobody forwards to it until its policy is
in force."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.attach.manage import AttachRequest, attach, clear
from sgdataplane.attach.workload import Naming, Workload
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import agent_in
from tests.support.scenes.plugging import DENIED, Plugged
from tests.support.scenes.plugginghost import SENDER, HostPeer, host_peer_in, state_of
from tests.support.scenes.plugscene import PACKETS, Scene

pytestmark = pytest.mark.daemon


@pytest.fixture
def peer(make_lab_name: Callable[[], str]) -> Iterator[HostPeer]:
    with host_peer_in(make_lab_name(), make_lab_name()) as peer:
        yield peer


@pytest.fixture
def scene(peer: HostPeer, tmp_path: Path) -> Iterator[Scene[HostPeer]]:
    """The agent runs; only the sender is attached."""
    number = random.randrange(1 << 32)
    print(f"seed {number}")
    with agent_in(tmp_path) as agent:
        scene = Scene(agent, peer, random.Random(number), state_of)
        attach(scene.registry, AttachRequest(SENDER.network_interface_id, Workload(Naming.NETNS, peer.name), "eth0"))
        agent.configure(placement="host")
        scene.change_policy(0)
        agent.start()
        assert set(agent.outcomes().values()) == {"in force"}
        try:
            yield scene
        finally:
            agent.end()
            for plugged in scene.everything():
                peer.unplug(plugged)
            clear(scene.registry)


def come(scene: Scene[HostPeer], make_lab_name: Callable[[], str], numbers: list[int]) -> None:
    """Plug these in and attach them. Until they are in force, allowed and denied packets are sent to them and to all
    that already are."""
    new: list[Plugged] = []

    def send_to_all() -> None:
        for plugged in (*scene.there, *new):
            scene.send_both(plugged)

    for number in numbers:
        plugged = scene.peer.plug(make_lab_name(), number)
        for _ in range(PACKETS):
            scene.send_both(plugged)
        new.append(plugged)
    scene.check_all()  # the control: others get theirs
    assert [plugged.drain() for plugged in new] == [0] * len(new)
    for plugged in new:
        scene.attach(plugged)
    scene.wait_until_enforced(send_to_all)
    for plugged in new:
        wait_until(lambda: passes(scene, plugged))  # noqa: B023  (called here only)
        assert plugged.received[DENIED] == 0
        plugged.forget()  # of what was accepted before it was in force nothing is said
    scene.check_all()


def passes(scene: Scene[HostPeer], plugged: Plugged) -> bool:
    """Whether anything arrives that was sent after it was in force; then its neighbours know it, too."""
    before = plugged.drain()
    scene.send_both(plugged)
    return plugged.drain() > before


@pytest.mark.parametrize("count", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_enis_that_come_and_go_are_closed_until_they_are_in_force_and_lose_nothing_after(
    scene: Scene[HostPeer], make_lab_name: Callable[[], str], count: int
) -> None:
    away = set(range(count))
    scene.change_policy(count)
    for _ in range(count // 2):
        some = scene.chooser.sample(sorted(away), min(len(away), scene.chooser.randint(1, 4)))
        come(scene, make_lab_name, some)
        if scene.chooser.random() < 0.4:
            scene.change_policy(count)
        scene.unplug_some(scene.chooser.randint(0, 2))
        scene.check_all()
        away = set(range(count)) - {plugged.number for plugged in scene.there}
    left = {plugged.eni_id for plugged in scene.there} | {SENDER.network_interface_id}
    wait_until(lambda: {eni for eni, outcome in scene.agent.outcomes().items() if outcome != "gone"} == left)
    assert sum(plugged.received[DENIED] for plugged in scene.there) == 0
    scene.report()

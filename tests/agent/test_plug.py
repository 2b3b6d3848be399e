"""The real agent while ENIs appear and vanish in random order and the policy changes, with counters at both ends of
each. What "closed until enforced" means (docs/design/agent.md): a new interface in a namespace that is enforced already
passes nothing until it is attached and enforced. A namespace in which nothing was attached is open until then, as
`attach` alone affects no packet."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import agent_in
from tests.support.scenes.plugging import ALLOWED, DENIED, Peer, peer_in, state_of
from tests.support.scenes.plugscene import PACKETS, Scene, shuffled

pytestmark = pytest.mark.daemon
MANY = pytest.param(100, marks=pytest.mark.slow)


@pytest.fixture
def scene(make_lab_name: Callable[[], str], tmp_path: Path) -> Iterator[Scene[Peer]]:
    """The agent runs; nothing is attached."""
    number = random.randrange(1 << 32)
    print(f"seed {number}")
    with peer_in(make_lab_name()) as peer, agent_in(tmp_path) as agent:
        scene = Scene(agent, peer, random.Random(number), state_of)
        try:
            yield scene
        finally:
            for plugged in scene.everything():
                peer.unplug(plugged)


@pytest.mark.parametrize("count", [10, MANY])
def test_namespaces_that_come_and_go_lose_nothing_and_leak_nothing_once_enforced(
    scene: Scene[Peer], make_lab_name: Callable[[], str], count: int
) -> None:
    """Before that nothing is attached there, so everything sent to them arrives."""
    scene.change_policy(count)
    scene.agent.start()
    for some in shuffled(scene, count):
        for number in some:
            plugged = scene.peer.plug(make_lab_name(), number)
            scene.peer.send(plugged, DENIED)
            wait_until(plugged.has_all)
            scene.attach(plugged)
        if scene.chooser.random() < 0.4:
            scene.change_policy(count)
        scene.wait_until_enforced()
        scene.check_all()
        scene.unplug_some(scene.chooser.randint(0, 3))
    while scene.there:
        scene.unplug_some(4)
        scene.change_policy(count)
        scene.check_all()
    wait_until(lambda: set(scene.agent.outcomes().values()) <= {"gone"})
    scene.report()


@pytest.mark.parametrize("count", [10, MANY])
def test_interfaces_that_come_to_an_enforced_namespace_are_closed_until_they_are_enforced(
    scene: Scene[Peer], make_lab_name: Callable[[], str], count: int
) -> None:
    each = 25
    scene.change_policy(2 * count)
    homes = [scene.peer.plug(make_lab_name(), count + n) for n in range(1 + count // each)]
    for home in homes:
        scene.attach(home)
    scene.agent.start()
    scene.wait_until_enforced()
    scene.took_ms.clear()
    for some in shuffled(scene, count):
        for number in some:
            plugged = scene.peer.plug_into(homes[number // each], number)
            for port in (DENIED, ALLOWED) * PACKETS:
                scene.peer.send(plugged, port)
            scene.check_all()
            assert plugged.drain() == 0
            plugged.forget()
            scene.attach(plugged)
        if scene.chooser.random() < 0.4:
            scene.change_policy(2 * count)
        scene.wait_until_enforced()
        scene.check_all()
        assert sum(plugged.received[DENIED] for plugged in scene.there) == 0
        scene.unplug_some(0)
    scene.report()

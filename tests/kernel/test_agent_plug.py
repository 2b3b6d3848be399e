"""The real agent while ENIs appear and vanish in random order and the policy changes: counters at both ends of each.

What "closed until enforced" can mean (DESIGN.md section 9): an interface that comes into a namespace which is enforced
already passes nothing before it is attached and enforced. A namespace that nobody has attached anything of is open
until then, as `attach` changes no packet's fate.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from sgdataplane.attach.manage import Request, attach
from sgdataplane.attach.registry import Registry
from sgdataplane.attach.workload import Naming, Workload
from sgdataplane.daemon.status import now
from tests.support.agentbench import AgentBench, agent_in
from tests.support.flood import wait_until
from tests.support.plugging import ALLOWED, DENIED, Peer, Plugged, peer_in, state_of

pytestmark = pytest.mark.daemon
MANY = pytest.param(100, marks=pytest.mark.slow)
PACKETS = 20


class Scene:
    """Workloads that were plugged in: those that are enforced are `there`."""

    def __init__(self, agent: AgentBench, peer: Peer, chooser: random.Random) -> None:
        self.agent, self.peer, self.chooser = agent, peer, chooser
        self.registry = Registry(agent.folder / "attached")
        self.there: list[Plugged] = []
        self.took_ms: list[float] = []
        self._attached: list[tuple[Plugged, str]] = []
        self._step = 0

    def change_policy(self, count: int) -> None:
        self._step += 1
        self.agent.write(state_of(count, self._step))

    def attach(self, plugged: Plugged) -> None:
        self._attached.append((plugged, now()))
        attach(self.registry, Request(plugged.eni_id, Workload(Naming.NETNS, plugged.name), plugged.ifname))

    def wait_until_enforced(self) -> None:
        wanted = {plugged.eni_id for plugged, _ in self._attached}
        wait_until(lambda: {eni for eni, outcome in self.agent.outcomes().items() if outcome == "in force"} >= wanted)
        since = {eni["eni"]: eni["since"] for eni in self.agent.status()["enis"]}
        for plugged, began in self._attached:
            begun, done = (datetime.fromisoformat(text) for text in (began, since[plugged.eni_id]))
            self.took_ms.append(1000 * (done - begun).total_seconds())
            self.there.append(plugged)
        self._attached.clear()

    def check_all(self) -> None:
        """What is enforced loses nothing and leaks nothing. That what was sent after a denied packet arrives shows that
        the way is open."""
        for plugged in self.there:
            before = plugged.received[DENIED]
            for _ in range(PACKETS):
                self.peer.send(plugged, DENIED)
                self.peer.send(plugged, ALLOWED)
            wait_until(plugged.has_all_allowed)
            assert plugged.received[DENIED] == before

    def unplug_some(self, most: int) -> None:
        for plugged in self.chooser.sample(self.there, min(most, len(self.there))):
            self.there.remove(plugged)
            self.peer.unplug(plugged)

    def everything(self) -> list[Plugged]:
        return [*self.there, *(plugged for plugged, _ in self._attached)]

    def report(self) -> None:
        print(f"enforced after {statistics.median(self.took_ms):.0f} ms (median), most {max(self.took_ms):.0f} ms")


@pytest.fixture
def scene(make_lab_name: Callable[[], str], tmp_path: Path) -> Iterator[Scene]:
    """Its agent runs; nothing is attached."""
    number = random.randrange(1 << 32)
    print(f"seed {number}")
    with peer_in(make_lab_name()) as peer, agent_in(tmp_path) as agent:
        scene = Scene(agent, peer, random.Random(number))
        try:
            yield scene
        finally:
            for plugged in scene.everything():
                peer.unplug(plugged)


def shuffled(scene: Scene, count: int) -> Iterator[list[int]]:
    """All numbers once, a few at a time."""
    order = scene.chooser.sample(range(count), count)
    while order:
        size = scene.chooser.randint(1, 4)
        yield order[:size]
        del order[:size]


@pytest.mark.parametrize("count", [10, MANY])
def test_namespaces_that_come_and_go_lose_nothing_and_leak_nothing_once_enforced(
    scene: Scene, make_lab_name: Callable[[], str], count: int
) -> None:
    """Before that they are as nobody had attached them: all that is sent to them arrives."""
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
    wait_until(lambda: scene.agent.outcomes() == {})
    scene.report()


@pytest.mark.parametrize("count", [10, MANY])
def test_interfaces_that_come_to_an_enforced_namespace_are_closed_until_they_are_enforced(
    scene: Scene, make_lab_name: Callable[[], str], count: int
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

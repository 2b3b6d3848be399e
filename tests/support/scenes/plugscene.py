"""The real agent, and workloads that are plugged in and out while its policy changes.

Owns who is there, who was attached and isn't enforced yet, and how long that took. Must not know how workloads are
made.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from sgdataplane.attach.manage import AttachRequest, attach
from sgdataplane.attach.registry import Registry
from sgdataplane.attach.workload import Naming, Workload
from sgdataplane.daemon.status import now
from sgdataplane.model.state import CloudState
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench
from tests.support.scenes.plugging import ALLOWED, DENIED, Plugged

PACKETS = 20


class Sender(Protocol):
    """The other end of all."""

    def send(self, to: Plugged, port: int) -> None: ...

    def unplug(self, plugged: Plugged) -> None: ...


AnySender = TypeVar("AnySender", bound=Sender)


class Scene(Generic[AnySender]):
    """Workloads that were plugged in: those that are enforced are `there`. `state_of`: the state of so many ENIs at a
    step."""

    def __init__(
        self, agent: AgentBench, peer: AnySender, chooser: random.Random, state_of: Callable[[int, int], CloudState]
    ) -> None:
        self.agent, self.peer, self.chooser, self.state_of = agent, peer, chooser, state_of
        self.registry = Registry(agent.folder / "attached")
        self.there: list[Plugged] = []
        self.took_ms: list[float] = []
        self._attached: list[tuple[Plugged, str]] = []
        self._step = 0

    def change_policy(self, count: int) -> None:
        self._step += 1
        self.agent.write(self.state_of(count, self._step))

    def attach(self, plugged: Plugged) -> None:
        self._attached.append((plugged, now()))
        attach(self.registry, AttachRequest(plugged.eni_id, Workload(Naming.NETNS, plugged.name), plugged.ifname))

    def wait_until_enforced(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        wanted = {plugged.eni_id for plugged, _ in self._attached}

        def is_enforced() -> bool:
            meanwhile()
            return {eni for eni, outcome in self.agent.outcomes().items() if outcome == "in force"} >= wanted

        wait_until(is_enforced)
        since = {eni["eni"]: eni["since"] for eni in self.agent.status()["enis"]}
        for plugged, began in self._attached:
            begun, done = (datetime.fromisoformat(text) for text in (began, since[plugged.eni_id]))
            self.took_ms.append(1000 * (done - begun).total_seconds())
            self.there.append(plugged)
        self._attached.clear()

    def send_both(self, to: Plugged) -> None:
        self.peer.send(to, DENIED)
        self.peer.send(to, ALLOWED)

    def check_all(self) -> None:
        """What is enforced loses nothing and leaks nothing. That what was sent after a denied packet arrives shows that
        the way is open."""
        for plugged in self.there:
            before = plugged.received[DENIED]
            for _ in range(PACKETS):
                self.send_both(plugged)
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


def shuffled(scene: Scene[AnySender], count: int) -> Iterator[list[int]]:
    """All numbers once, a few at a time."""
    order = scene.chooser.sample(range(count), count)
    while order:
        size = scene.chooser.randint(1, 4)
        yield order[:size]
        del order[:size]

"""A workload whose agent keeps history, and what is in it.

Owns that scene. Must not know what is expected of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sgdataplane.history import file
from sgdataplane.history.read import HistoryQuery, opened
from sgdataplane.history.rows import Fate, HistoryRow, TotalRow
from tests.support.agentscene import Scene, scene_at
from tests.support.attachbench import DNS, WEB
from tests.support.flood import wait_until
from tests.support.pair import Session


class HistoryScene:
    """A scene whose agent keeps history."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.path = scene, scene.agent.var / file.NAME

    def flows(self, query: HistoryQuery = HistoryQuery()) -> list[HistoryRow]:  # noqa: B008
        with opened(self.path) as history:
            return list(history.flows(query))

    def totals(self) -> list[TotalRow]:
        with opened(self.path) as history:
            return list(history.totals())

    def number(self, fate: Fate, port: int) -> int:
        """Packets or sessions that were recorded one by one."""
        return sum(row.count.packets for row in self.flows(HistoryQuery(fates=(fate,), port=port, eni_id="eni-a")))

    def total(self, rule: str) -> int:
        """What that rule, or cause, has decided."""
        rows = self.totals()
        return sum(r.packets for r in rows if rule in (r.decision.security_group_rule_id, r.decision.cause))

    def wait_for(self, fate: Fate, port: int, number: int) -> None:
        wait_until(lambda: self.number(fate, port) >= number)
        assert self.number(fate, port) == number

    def wait_until_listening(self) -> None:
        wait_until(lambda: self.scene.agent.status()["history"].get("places") is not None)
        wait_until(lambda: self.scene.agent.status()["history"]["places"] > 0)

    def deny(self, times: int) -> None:
        """That many packets to DNS are dropped, and one to WEB beside each passes."""
        with Session(self.scene.bench.pair, WEB) as web, Session(self.scene.bench.pair, DNS) as dns:
            for _ in range(times):
                assert not dns.passes(beside=web)


@contextmanager
def history_at(
    placement: str, make_name: Callable[[], str], folder: Path, read_output: Callable[[], str]
) -> Iterator[HistoryScene]:
    """The agent runs and records."""
    with scene_at(placement, make_name, folder, read_output) as scene:
        more = {"placement": "host"} if placement == "host" else {}
        scene.agent.configure(history={"keep": "30d", "max_mb": 16}, **more)
        scene.write(WEB)
        scene.agent.start()
        kept = HistoryScene(scene)
        kept.wait_until_listening()
        yield kept

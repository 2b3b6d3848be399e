"""A workload whose agent keeps history, and what is in it.

Owns that scene. Must not know what is expected of it.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.history import file
from sgdataplane.history.read import HistoryQuery, open_history
from sgdataplane.history.rows import Fate, HistoryRow, TotalRow
from sgdataplane.net.values import Direction
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentscene import Scene, scene_at
from tests.support.scenes.attachbench import DNS, WEB
from tests.support.scenes.pair import Session

PRODUCT, PROMPT = "sgdataplane", "tests.support.variants.promptagent"


class HistoryScene:
    """A scene whose agent keeps history."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.path = scene, scene.agent.var / file.NAME

    def flows(self, query: HistoryQuery = HistoryQuery()) -> list[HistoryRow]:  # noqa: B008
        with open_history(self.path) as history:
            return list(history.flows(query))

    def totals(self) -> list[TotalRow]:
        with open_history(self.path) as history:
            return list(history.totals())

    def number(self, fate: Fate, port: int) -> int:
        """Packets or sessions that were recorded one by one."""
        return sum(row.count.packets for row in self.flows(HistoryQuery(fates=(fate,), port=port, eni_id="eni-a")))

    def total(self, rule: str, fate: Fate) -> int:
        """What that rule, or cause, has decided at eni-a, as the kernel counts: towards it."""
        return sum(
            row.packets
            for row in self.totals()
            if rule in (row.decision.security_group_rule_id, row.decision.cause)
            and row.fate is fate
            and row.decision.direction is Direction.INGRESS
        )

    def cpu_s(self) -> float:
        """Processor time that the recorder has taken."""
        with open(f"/proc/{self.recorder}/stat", encoding="ascii") as file:
            ticks = file.read().rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

    @property
    def recorder(self) -> int:
        """The number of the process that records. The agent has one such child."""
        children = self.scene.agent.children
        (found,) = [pid for pid in children if bytes(self.path) in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return found

    def kill_recorder(self) -> None:
        """Return when another one runs."""
        before = self.recorder
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: self._has_another_than(before))

    def _has_another_than(self, before: int) -> bool:
        with suppress(ValueError, FileNotFoundError):
            return self.recorder != before
        return False

    def wait_for(self, fate: Fate, port: int, number: int) -> None:
        wait_until(lambda: self.number(fate, port) >= number)
        assert self.number(fate, port) == number

    def wait_until_listening(self) -> None:
        wait_until(lambda: (self.scene.agent.status()["history"].get("places") or 0) > 0)

    def deny(self, times: int) -> None:
        """That many packets to DNS are dropped, and one to WEB beside each passes."""
        with Session(self.scene.bench.pair, WEB) as web, Session(self.scene.bench.pair, DNS) as dns:
            for _ in range(times):
                assert not dns.passes(beside=web)


@contextmanager
def history_at(
    placement: str,
    make_name: Callable[[], str],
    folder: Path,
    read_output: Callable[[], str],
    module: str = PROMPT,
    **configured: object,
) -> Iterator[HistoryScene]:
    """The agent runs and records, without the product's intervals unless `module` is the product. `configured`: more
    keys of its configuration."""
    with scene_at(placement, make_name, folder, read_output) as scene:
        scene.agent.module = module
        more = configured | ({"placement": "host"} if placement == "host" else {})
        scene.agent.configure(history={"keep": "30d", "max_mb": 16}, **more)
        scene.write(WEB)
        scene.agent.start()
        kept = HistoryScene(scene)
        kept.wait_until_listening()
        yield kept


@contextmanager
def seen_at(placement: str, make_name: Callable[[], str], folder: Path) -> Iterator[HistoryScene]:
    """Six sessions to WEB and three packets to DNS are in the file."""
    with history_at(placement, make_name, folder, str) as kept:
        kept.scene.visit(WEB, 5)
        kept.deny(3)
        kept.wait_for(Fate.DROP, DNS, 3)
        kept.wait_for(Fate.ACCEPT, WEB, 6)
        yield kept


def run_verb(capsys: pytest.CaptureFixture[str], config: Path, verb: str, *arguments: object, code: int = 0) -> str:
    """Run it with that configuration; return what it printed, times as T."""
    capsys.readouterr()
    assert main([*verb.split(), *map(str, arguments), "--config", str(config)]) == code
    said = capsys.readouterr()
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "T", said.out + said.err)

"""A workload with an agent, in either placement, to whose ports packets of known number come.

Owns that scene. Must not know what is expected of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgdataplane.cli.main import main
from sgdataplane.host import netns
from sgdataplane.model.state import CloudState
from tests.support.documents.schemas import assert_conforms
from tests.support.probes.flood import wait_until
from tests.support.scenes import attachbench, attachhost
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import Bench
from tests.support.scenes.attachhost import attached_pair
from tests.support.scenes.pair import Session, join


@dataclass
class Scene:
    """The agent enforces at `policy`. At first, WEB of eni-a is open."""

    bench: Bench
    agent: AgentBench
    policy: str
    placement: str

    def write(self, *ports: int) -> None:
        """Open these ports from now on; returns when that is in force."""
        self.agent.write(self.state_of(*ports))
        if self.agent.cycles:
            self.agent.reload()

    def state_of(self, *ports: int) -> CloudState:
        """The state in which these ports are open."""
        return attachbench.state_of(*ports) if self.placement == "instance" else attachhost.state_of(*ports)

    def visit(self, port: int, times: int) -> None:
        """Open that many sessions with one packet each, all of which arrive."""
        for _ in range(times):
            with Session(self.bench.pair, port) as session:
                session.must_pass()

    def read(self, *more: str) -> dict[str, Any]:
        self.bench.read_output()
        assert main(["counters", "--config", str(self.agent.config), "--json", *more]) == 0
        document: dict[str, Any] = json.loads(self.bench.read_output())
        assert_conforms("counters", document)
        return document

    def row(self, counter: str) -> dict[str, Any]:
        rows = [row for scope in self.read()["scopes"] for row in scope["counters"]]
        (found,) = [row for row in rows if row["counter"] == counter]
        assert isinstance(found, dict)
        return found

    def wait_until_kept(self, counter: str, packets: int) -> None:
        """Wait until the counts are on disk."""

        def is_kept() -> bool:
            kept = json.loads((self.agent.var / "counters.json").read_bytes())
            return any(sums[counter][0] >= packets for sums in kept["scopes"].values() if counter in sums)

        wait_until(is_kept)

    def rule(self, port: int) -> dict[str, Any]:
        return self.row(f"rule.sg-a.sgr-{port}" + ("" if self.placement == "instance" else "-9"))


@contextmanager
def scene_at(
    placement: str, make_name: Callable[[], str], folder: Path, read_output: Callable[[], str]
) -> Iterator[Scene]:
    home = make_name()
    netns.create(home)
    with agent_in(folder) as agent:
        if placement == "host":
            agent.configure(placement="host")
            with netns.inside(home), attached_pair(home, folder, read_output) as bench:
                yield Scene(bench, agent, attachhost.ROUTER, placement)
                agent.end()
        else:
            with attachbench.living_nowhere() as process:
                pair = {"peer": home, "instance": f"/proc/{process.pid}/ns/net"}
                join(pair)
                bench = Bench(pair, process.pid, folder, read_output)
                bench.attach()
                yield Scene(bench, agent, pair["instance"], placement)
    netns.remove(home)

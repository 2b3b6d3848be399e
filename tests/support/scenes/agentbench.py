"""A real agent process with a configuration, a state and bindings of its own.

Owns starting, asking and ending it. Must not know what is expected of it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from sgdataplane.attach.names import NO_NAMES
from sgdataplane.daemon.control import Request, ask
from sgdataplane.errors import HostError
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import dump_native
from tests.support.documents.schemas import assert_conforms
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.run.forked import forked_sgdp
from tests.support.run.processes import is_running, list_children
from tests.support.run.warminterpreter import AGENT, WarmInterpreter, WarmProcess, warm_interpreter

ROOT = Path(__file__).resolve().parents[3]


class AgentBench:
    """`state` is the path of the state's file; the bindings in that folder are those of scenes.attachbench.
    `module` is what is run as `sgdp`: the product, or that with faults in it; `prefix` is what runs it, if not we. With
    `is_forked`, it forks from this process, in which all that it imports is there (tests/support/run/forked.py). With
    `is_fresh`, it starts from nothing; else from an interpreter that has imported it, if there is one."""

    warm: ClassVar[WarmInterpreter | None] = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state, self.config = folder / "state.yaml", folder / "agent.toml"
        self.var, self.socket, self.log = folder / "var", folder / "agent.sock", folder / "agent.log"
        self.module, self.prefix = "sgdataplane", tuple[str, ...]()
        self.is_forked, self.is_fresh = False, False
        self.process: subprocess.Popen[bytes] | WarmProcess | None = None
        self.configure()

    def configure(self, **more: object) -> None:
        keys = {
            "state": str(self.state),
            "bindings": str(self.folder / "attached"),
            "state_directory": str(self.var),
            "socket": str(self.socket),
            **more,
        }
        self.config.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in keys.items()), "utf-8")

    def write(self, state: CloudState) -> None:
        """In one step, as editors and other tools do."""
        beside = self.state.with_suffix(".beside")
        beside.write_text(dump_native(state), "utf-8")
        beside.replace(self.state)

    def launch(self, **environment: str) -> None:
        """Returns at once."""
        arguments = ["agent", "--config", str(self.config)]
        if self.warm is not None and not (self.is_forked or self.is_fresh or self.prefix):
            self.process = self.warm.start(self.module, arguments, self.log, **environment)
            return
        with open(self.log, "ab") as log:
            around: dict[str, Any] = {"cwd": ROOT, "stdout": log, "stderr": log, "env": {**os.environ, **environment}}
            if self.is_forked:
                self.process = forked_sgdp(*arguments, **around)
            else:
                command = [*self.prefix, sys.executable, "-m", self.module, *arguments]
                self.process = subprocess.Popen(command, **around)

    def start(self) -> None:
        """Returns when its first cycle is done."""
        self.launch()
        wait_until(lambda: self.process_has_ended or self.cycles > 0)
        assert not self.process_has_ended, self.log.read_text("utf-8")

    @property
    def process_has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    @property
    def children(self) -> list[int]:
        """The numbers of its processes."""
        assert self.process is not None
        return list_children(self.process.pid)

    def status(self) -> dict[str, Any]:
        found = ask(self.socket, Request.STATUS)["status"]
        assert isinstance(found, dict)
        printed = {**found, "enis": [NO_NAMES.add_to(eni) for eni in found["enis"]]}  # by `sgdp status --json`
        assert_conforms("status", printed)
        return found

    @property
    def cycles(self) -> int:
        """0 while it doesn't answer."""
        try:
            return int(self.status()["cycle"]["number"])
        except HostError:
            return 0

    def reload(self) -> None:
        """Returns when the cycle for it is done, which looks at everything."""
        number = ask(self.socket, Request.RELOAD)["cycle"]
        assert isinstance(number, int)
        wait_until(lambda: self.cycles >= number)

    def epoch(self) -> int:
        (eni,) = self.status()["enis"]
        return int(eni["epoch"])

    def outcomes(self) -> dict[str, str]:
        return {eni["eni"]: eni["outcome"] for eni in self.status()["enis"]}

    def events(self, word: str) -> list[str]:
        """Lines of its log with that word, which stands behind time and level."""
        return [line for line in self.log.read_text("utf-8").splitlines() if line.split()[2:3] == [word]]

    def causes(self) -> list[frozenset[str]]:
        """Why each cycle ran that has ended so far. A busy machine may make two cycles of what comes at once."""
        found = (re.search(r"causes=(\S+)", line) for line in self.events("cycle"))
        return [frozenset(match[1].split(",")) for match in found if match]

    def wait_for_event(self, word: str, times: int) -> None:
        wait_until(lambda: len(self.events(word)) >= times)

    def wakeups(self) -> int:
        """How often it has waited for something that then came."""
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        return int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(entry)}" for key, entry in value.items()) + "}"
    return json.dumps(value)


@contextmanager
def agent_in(folder: Path, *, is_forked: bool = False) -> Iterator[AgentBench]:
    """Not started yet; whatever the test does, it doesn't outlive the block."""
    bench = AgentBench(folder)
    bench.is_forked = is_forked
    try:
        yield bench
    finally:
        if bench.process is not None:
            children = [] if bench.process_has_ended else bench.children
            bench.process.kill()
            bench.process.wait()
            wait_until(lambda: not any(map(is_running, children)))  # they end when it does


@contextmanager
def warm_agents() -> Iterator[None]:
    """Agents start from an interpreter that has imported the product."""
    with warm_interpreter(ROOT, *AGENT) as found:
        AgentBench.warm = found
        try:
            yield
        finally:
            AgentBench.warm = None

"""A workload that was there before anybody thought of ENIs, its peer, and `sgdp` with bindings and states of its own.

Owns the way to start one. Must not know what is expected of it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sgdataplane.attach.registry import Registry
from sgdataplane.cli.main import main
from sgdataplane.host import netns
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import dump_native
from tests.support.documents.schemas import assert_conforms
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.scenes.pair import HERE, Pair

WEB, DNS = 8080, 5353


def state_of(*ports: int, eni: str = "eni-a") -> CloudState:
    """The workload's ENI lets these UDP ports in."""
    rules = [make_rule(f"ingress udp {port}/{port} from 0.0.0.0/0", f"sgr-{port}") for port in ports]
    return make_state([make_group("sg-a", rules)], [make_eni(eni, " ".join(HERE["instance"]), "sg-a")])


class Bench:
    """`pid` is a process of the workload; `read_output` hands over what was printed since it was asked last."""

    def __init__(self, pair: Pair, pid: int, folder: Path, read_output: Callable[[], str]) -> None:
        self.pair, self.pid, self.folder, self.read_output = pair, pid, folder, read_output
        self.registry = Registry(folder / "attached")

    @property
    def place(self) -> str:
        return self.pair["instance"]

    def sgdp(self, verb: str, *arguments: object) -> int:
        return self.run(verb, *arguments, "--bindings", self.folder / "attached")

    def run(self, verb: str, *arguments: object) -> int:
        """One that knows by its configuration where the bindings are."""
        return main([verb, *map(str, arguments)])

    def attach(self, *where: object, eni: str = "eni-a", ifname: str = "eth0") -> int:
        return self.sgdp("attach", "--eni", eni, "--ifname", ifname, *(where or ("--pid", self.pid)))

    def apply(self, state: CloudState, *more: object) -> dict[str, str]:
        """ENI -> outcome, and the exit code as `exit`."""
        self.read_output()
        code = self.sgdp("apply", self.write(state), "--json", *more)
        said = json.loads(self.read_output())
        assert_conforms("apply", said)
        outcomes = {entry["eni"]: entry["outcome"] for entry in said["enis"]}
        return outcomes | {"exit": str(code)}

    def sessions(self, placement: str, *more: str) -> list[dict[str, object]]:
        """What `sgdp sessions` says of UDP, by a configuration of the agent's with the state that was applied."""
        config = self.folder / "agent.toml"
        keys = {"state": self.folder / "state.yaml", "bindings": self.folder / "attached", "placement": placement}
        config.write_text("".join(f"{key} = {json.dumps(str(value))}\n" for key, value in keys.items()), "utf-8")
        self.read_output()
        assert self.run("sessions", "--config", config, "--json", "--protocol", "udp", *more) == 0
        found: list[dict[str, object]] = json.loads(self.read_output())
        return found

    def write(self, state: CloudState) -> Path:
        path = self.folder / "state.yaml"
        path.write_text(dump_native(state), encoding="utf-8")
        return path


@contextmanager
def living_nowhere() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a new namespace that has no name."""
    with netns.nowhere():
        process = subprocess.Popen(["sleep", "600"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()

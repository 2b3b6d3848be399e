"""A whole host among simulated ones: from a commit until it enforces the revision, and until that is known.

Owns the host (a real agent, a real sync, an interface in a namespace of the run) and the times of a change. Must not
know how the agent, the sync or relays work: it reads the folder, the agent's status and what `SgdpWait` answers.

    written_ms         from the commit's return until the sync has turned the folder's link to the revision, up to a
                       tick of the kernel's clock
    enforced_ms        from there until the agent's cycle that enforced the revision was over, by the agent's status
    acknowledged_ms    until a wait such as SgdpWait's says that the host enforces it, with a wait's own pauses
    agent_ms           from the link to the end of that cycle: the agent's own share
    beside_agent_ms    acknowledged_ms without agent_ms
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.agentscale import Agent, binding_of, make_namespace
from bench.deadlines import no_longer_than
from bench.errors import BenchError
from bench.fleet import Fleet, host_name
from bench.scalecases import Case
from bench.scalemeasures import Measuring, Scene, start_scene, told
from bench.scaleplant import until
from sgdataplane.attach.registry import Registry
from sgdataplane.control.hosts.status import HostBoard, HostStanding
from sgdataplane.control.hosts.waits import HostWait
from sgdataplane.daemon.control import Request, ask
from sgdataplane.errors import HostError
from sgdataplane.handover.publishing import name_of_generation, version_of_generation
from sgdataplane.model.state import Eni
from sgdataplane.net.values import Address
from sgdataplane.store.history import Version
from sgdataplane.store.interface import Write

NUMBER, VPC = 0, 0  # of the host, and of its VPC
SETTLE_S, CHANGE_S, ASK_S = 60.0, 30.0, 15.0
NEVER = threading.Event()  # nobody stops a wait
LONGEST_PAUSE_S = 1.0  # before a change, so that it comes at any time of a relay's and a wait's rests


class WholeHost:
    """Host 0 of the fleet, with the first of its ENIs attached."""

    def __init__(self, scene: Scene, folder: Path, stack: ExitStack) -> None:
        self._folder, self.name = folder, host_name(NUMBER)
        eni = _eni_of(scene.fleet)
        make_namespace(NUMBER, eni)
        registry = Registry(folder / "attached")
        with registry.lock():
            registry.store([binding_of(NUMBER, eni)])
        self.current, self.socket = scene.plant.synced / "current", folder / "agent.sock"
        keys = {
            "state": self.current,
            "bindings": folder / "attached",
            "state_directory": folder / "var",
            "socket": self.socket,
        }
        text = "".join(f"{key} = {json.dumps(str(path))}\n" for key, path in keys.items())
        (folder / "agent.toml").write_text(text, encoding="utf-8")
        self.sync = scene.plant.start_sync(self.name, self.socket)
        self.agent = Agent(folder, stack)
        until(self._enforces, "the agent to enforce the ENI", SETTLE_S)

    def _enforces(self) -> bool:
        with suppress(HostError):
            enis: Any = self.agent.status()["enis"]
            return [eni["outcome"] for eni in enis] == ["in force"]
        return False


def _eni_of(fleet: Fleet) -> Eni:
    """The first ENI of the host, as the interface has to be."""
    state: Any = next(body for _, body in fleet.eni(NUMBER, 0))["state"]
    addresses = tuple(map(Address.parse, state["private_ip_addresses"]))
    groups = tuple(state["security_group_ids"])
    return Eni(state["network_interface_id"], state["vpc_id"], state["mac_address"], addresses, groups)


class CycleEar:
    """Hears when the agent's cycles end, by the agent's own clock, while a block runs.

    `ends`: generation -> when the first cycle that enforced it was over, in seconds since 1970.
    """

    def __init__(self, socket: Path) -> None:
        self._socket, self._is_over = socket, threading.Event()
        self.ends: dict[str, float] = {}

    @contextmanager
    def listen(self) -> Iterator[None]:
        thread = threading.Thread(target=self._hear, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def _hear(self) -> None:
        number = 0
        while not self._is_over.is_set():
            try:
                status: Any = ask(self._socket, Request.STATUS, ASK_S, after=number)["status"]
            except HostError:
                return
            cycle = status["cycle"]
            number = cycle["number"]
            if status["state"]["generation"] and not cycle["error"]:
                self.ends.setdefault(status["state"]["generation"], datetime.fromisoformat(cycle["at"]).timestamp())


class Timing:
    """Changes of a rule that the host's ENI has, one after the other."""

    def __init__(self, scene: Scene, host: WholeHost, ear: CycleEar) -> None:
        self._scene, self._host, self._ear = scene, host, ear
        self._board = HostBoard(scene.store)
        self._pauses = random.Random(0)
        known = version_of_generation(host.current.readlink().name)
        assert known is not None
        self._epoch = known.epoch

    def change(self, step: int) -> dict[str, float]:
        """Commit one, and wait until it is known that the host enforces it."""
        time.sleep(self._pauses.uniform(0, LONGEST_PAUSE_S))
        puts = dict([self._scene.fleet.group(VPC, 0, more=1000 + step)])
        begin = time.time()
        revision = self._scene.store.commit(Write({}, puts))
        done = time.time()
        version = Version(self._epoch, revision)
        acknowledged = self._wait(version)
        generation = name_of_generation(version)
        until(lambda: self._host.current.readlink().name == generation, "the sync's link", CHANGE_S)
        until(lambda: generation in self._ear.ends, "the agent's word", CHANGE_S)
        written, enforced = self._host.current.lstat().st_ctime, self._ear.ends[generation]
        agent = enforced - written
        return {
            "commit_ms": (done - begin) * 1e3,
            "written_ms": (written - done) * 1e3,
            "enforced_ms": (enforced - done) * 1e3,
            "acknowledged_ms": (acknowledged - done) * 1e3,
            "agent_ms": agent * 1e3,
            "beside_agent_ms": (acknowledged - done - agent) * 1e3,
        }

    def _wait(self, version: Version) -> float:
        """Wait as `SgdpWait` does, for this host. Return when it said that the host enforces the version."""
        wait, deadline = HostWait(self._board, [self._host.name], version), time.monotonic() + CHANGE_S
        while wait.look():
            if time.monotonic() > deadline:
                raise BenchError(f"it isn't known in time that {self._host.name} enforces {version}")
            self._board.await_news(CHANGE_S, NEVER)
        at = time.time()
        if wait.standings != {self._host.name: HostStanding.ENFORCED}:
            raise BenchError(f"{version} isn't enforced: {wait.answer()}")
        return at


def measure_whole(case: Case, folder: Path, seconds: float, result: dict[str, Any]) -> None:
    """Measure the case, and add to the result on the way. BenchError, also if that takes longer."""
    with ExitStack() as stack, no_longer_than(seconds), start_scene(case, folder, result) as scene:
        told("the whole host starts")
        host = WholeHost(scene, folder, stack)
        told("hosts connect")
        result["settle"] = Measuring(case, scene.fleet, scene.store, scene.plant).settle()
        told("changes")
        ear = CycleEar(host.socket)
        with ear.listen():
            timing = Timing(scene, host, ear)
            timing.change(0)  # it fills what later ones find
            found = [timing.change(step) for step in range(1, case.changes + 1)]
        result["whole"] = {name: [one[name] for one in found] for name in found[0]}
        result["whole_mb"] = {"agent": host.agent.memory_mb(), "sync": host.sync.memory_mb()}

"""What is measured of a plant: how soon hosts hear, what relays and a real host's `sgdp sync` cost, how all come back.

Owns the steps of one case, and the time that it may take. Must not know which cases there are, or how a relay works.

    settle        until each host has all that it gets, from when the first one connects
    change        from the commit's return until the last host that it concerns has it: a rule, or a member's address
    heard         messages to hosts that a change doesn't concern; there must be none
    relay         its memory, and processor time for each change and each second without one
    host          memory and processor time of a real `sgdp sync`, for each change that concerns it or doesn't
    drop          all streams end at once: until each host is there again
"""

from __future__ import annotations

import json
import queue
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit
from typing import Any

from bench.deadlines import no_longer_than
from bench.errors import BenchError
from bench.fleet import GROUPS_A_VPC, Fleet, host_name
from bench.scalecases import HOSTS_A_RELAY, Case
from bench.scaleplant import Etcd, Plant, fill
from sgdataplane.store.interface import Body, Store, Write
from sgdataplane.store.interface import Path as StorePath

SNAPSHOTS = 200
PATIENCE_S, QUIET_S = 600.0, 0.3
OWN_CHANGES = 10  # whose cost to a real sync is measured, at most


class Measuring:
    """One case, with everything running."""

    def __init__(self, case: Case, fleet: Fleet, store: Store, plant: Plant) -> None:
        self.case, self.fleet, self.store, self.plant = case, fleet, store, plant
        self.numbers = sorted(range(fleet.hosts), key=lambda host: (host % fleet.vpcs, host))[: case.connected]
        self._changes = 0

    def settle(self) -> dict[str, Any]:
        """The real host is the first one. It may be there already."""
        names = [host_name(number) for number in self.numbers[1:]]
        if self.plant.sync is None:
            self.plant.start_sync(host_name(self.numbers[0]))
        if not names:
            return {}
        begin = time.monotonic()
        self.plant.start_crowds(names, min(4, -(-len(names) // 200)))
        signed = time.monotonic()
        ready = self._wait_ready()
        return {
            "seconds": max(one["at"] for one in ready) - begin,
            "certificates_s": signed - begin,
            "objects": max(one["objects"] for one in ready),
            "failures": sum(one["failures"] for one in ready),
        }

    def _wait_ready(self) -> list[dict[str, Any]]:
        found = [crowd.wait_for(r'"event": "ready".*', PATIENCE_S) for crowd in self.plant.crowds]
        return [json.loads("{" + one[0]) for one in found]

    def change(self, puts: dict[StorePath, Body], vpc: int) -> dict[str, Any]:
        """One commit; who has heard of it, and how long after."""
        concerned = {host_name(host) for host in self.numbers[1:] if host % self.fleet.vpcs == vpc}
        begin = time.monotonic()
        revision = self.store.commit(Write({}, puts))
        done = time.monotonic()
        heard = self._heard(revision, concerned)
        times = [heard[name] - done for name in concerned if name in heard]
        return {
            "commit_ms": (done - begin) * 1e3,
            "last_ms": max(times) * 1e3 if times else None,
            "first_ms": min(times) * 1e3 if times else None,
            "concerned": len(concerned),
            "missing": len(concerned - heard.keys()),
            "others": len(heard.keys() - concerned),
        }

    def _heard(self, revision: int, concerned: set[str]) -> dict[str, float]:
        """Host -> when it had that revision. Waits a little longer, for those whom it doesn't concern."""
        heard: dict[str, float] = {}
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for crowd in self.plant.crowds:
                for line in _available(crowd.lines):
                    said = json.loads(line)
                    if said["event"] == "change" and said["revision"] == revision:
                        heard[said["host"]] = said["at"]
            if concerned <= heard.keys():
                deadline = min(deadline, max(heard.values(), default=time.monotonic()) + QUIET_S)
            time.sleep(0.005)
        return heard

    def changes(self, what: str, vpcs: Iterable[int]) -> list[dict[str, Any]]:
        """One after the other, in these VPCs."""
        found = []
        for vpc in vpcs:
            self._changes += 1
            if what == "rule":
                puts = dict([self.fleet.group(vpc, self._changes % GROUPS_A_VPC, more=1000 + self._changes)])
            else:
                puts = dict([next(self.fleet.eni(vpc, 1, move=self._changes))])
            found.append(self.change(puts, vpc))
        return found

    def vpcs(self, count: int) -> list[int]:
        """Different ones with hosts that are there, the first one last."""
        there = sorted({number % self.fleet.vpcs for number in self.numbers})
        return [there[(index * 7 + 1) % len(there)] for index in range(count)]

    def own_cost(self) -> dict[str, Any]:
        """Of the real host, for changes of its own VPC and for others."""
        sync = self.plant.sync
        assert sync is not None
        costs, count = {}, min(OWN_CHANGES, self.case.changes)
        for name, vpc in (("own", self.numbers[0] % self.fleet.vpcs), ("others", 1)):
            if name == "own" or self.fleet.vpcs > 1:
                time.sleep(1.0)
                before = sync.cpu_s
                self.changes("rule", [vpc] * count)
                time.sleep(1.0)
                costs[f"{name}_ms"] = (sync.cpu_s - before) / count * 1e3
        return {**costs, "memory_mb": sync.memory_mb(), "peak_mb": sync.memory_mb("VmHWM")}

    def relay_cost(self) -> dict[str, Any]:
        """Of the relay that costs most."""
        relays = self.plant.relays
        before, begin = [relay.cpu_s for relay in relays], time.monotonic()
        time.sleep(8.0)
        idle = [(relay.cpu_s - then) / (time.monotonic() - begin) for relay, then in zip(relays, before, strict=True)]
        return {
            "memory_mb": max(relay.memory_mb() for relay in relays),
            "least_memory_mb": min(relay.memory_mb() for relay in relays),
            "peak_mb": max(relay.memory_mb("VmHWM") for relay in relays),
            "idle_share": max(idle),
        }

    def drop(self) -> dict[str, Any]:
        """Of the simulated hosts."""
        if not self.plant.crowds:
            return {}
        before = [relay.cpu_s for relay in self.plant.relays]
        begin = time.monotonic()
        for crowd in self.plant.crowds:
            crowd.write("drop")
        ready = self._wait_ready()
        cpu = max(relay.cpu_s - then for relay, then in zip(self.plant.relays, before, strict=True))
        return {
            "seconds": max(one["at"] for one in ready) - begin,
            "failures": sum(one["failures"] for one in ready),
            "relay_cpu_s": cpu,
        }


def _available(lines: queue.Queue[str]) -> Iterable[str]:
    while True:
        try:
            yield lines.get_nowait()
        except queue.Empty:
            return


@dataclass(frozen=True)
class Scene:
    """A filled store, with relays on it."""

    fleet: Fleet
    store: Store
    plant: Plant
    etcd: Etcd | None
    watches: int
    """How many watches etcd had without relays."""


@contextmanager
def start_scene(case: Case, folder: Path, result: dict[str, Any]) -> Iterator[Scene]:
    """Fill a store and start relays. What that took goes into the result."""
    with ExitStack() as stack:
        require_descriptors(case)
        fleet = Fleet(case.hosts, case.enis_a_host)
        etcd = Etcd(folder / "etcd") if case.store == "etcd" else None
        if etcd:
            stack.callback(etcd.started.end)
        spec = etcd.store if etcd else f"sqlite:{folder / 'store'}"
        told(f"{case.name}: filling")
        begin = time.monotonic()
        store = fill(spec, fleet)
        stack.callback(store.close)
        result["fill_s"] = time.monotonic() - begin
        plant = stack.enter_context(Plant(folder, spec))
        before = etcd.watches if etcd else 0
        told("relays start")
        begin = time.monotonic()
        plant.start_relays(case.relays, SNAPSHOTS)
        result["relays_start_s"] = time.monotonic() - begin
        result["relay_alone_mb"] = max(relay.memory_mb() for relay in plant.relays)
        yield Scene(fleet, store, plant, etcd, before)


def measure(case: Case, folder: Path, seconds: float, result: dict[str, Any]) -> None:
    """Adds to the result as it goes, so that what was measured is there if a later step fails. BenchError, also if it
    takes longer."""
    with no_longer_than(seconds), start_scene(case, folder, result) as scene:
        plant, etcd = scene.plant, scene.etcd
        measuring = Measuring(case, scene.fleet, scene.store, plant)
        told("hosts connect")
        result["settle"] = measuring.settle()
        result["relay"] = measuring.relay_cost()
        result["etcd_watches"] = etcd.watches - scene.watches if etcd else None
        told("changes")
        for what in ("rule", "member"):
            result[what] = summed(measuring.changes(what, measuring.vpcs(case.changes)))
        result["host"] = measuring.own_cost()
        told("drop")
        result["drop"] = measuring.drop()
        result["crowd_mb_a_host"] = sum(crowd.memory_mb() for crowd in plant.crowds) / max(1, case.connected - 1)
        result["relay"]["after_drop_mb"] = max(relay.memory_mb() for relay in plant.relays)


def require_descriptors(case: Case) -> None:
    """BenchError if a process may not have a descriptor for each of its streams."""
    most, hard = max(min(case.connected, HOSTS_A_RELAY), case.connected // 4) + 500, getrlimit(RLIMIT_NOFILE)[1]
    if hard < most:
        raise BenchError(f"a process may have {hard} descriptors, and needs {most}: raise `ulimit -Hn`")


def told(what: str) -> None:
    """Progress, for people."""
    print(what, file=sys.stderr, flush=True)


def summed(changes: list[dict[str, Any]]) -> dict[str, Any]:
    """The distribution."""
    last = sorted(one["last_ms"] for one in changes if one["last_ms"] is not None)
    quantiles = {"p50": 0.5, "p90": 0.9, "max": 1.0}
    return {
        "last_ms": {name: last[min(len(last) - 1, int(part * len(last)))] for name, part in quantiles.items() if last},
        "commit_ms": statistics.median(one["commit_ms"] for one in changes),
        "concerned": max(one["concerned"] for one in changes),
        "missing": sum(one["missing"] for one in changes),
        "others": sum(one["others"] for one in changes),
        "count": len(changes),
    }

"""`python -m bench.scale`: what many hosts cost, and how soon each of them hears what concerns it.

Owns the cases and what is measured. Relays are real, and each simulated host holds a TLS stream of its own to one
(bench/scalehosts.py). All of it is in namespaces that belong to the run. Must not know how a relay works.

    settle        until each host has all that it gets, from when the first one connects
    change        from the commit's return until the last host that it concerns has it: a rule, or a member's address
    heard         messages to hosts that a change doesn't concern; there must be none
    relay         its memory, and processor time for each change and each second without one
    host          memory and processor time of a real `sgdp sync`, for each change that concerns it or doesn't
    drop          all streams end at once: until each host is there again
"""

from __future__ import annotations

import argparse
import json
import queue
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from bench.errors import BenchError
from bench.facts import facts
from bench.fleet import GROUPS_A_VPC, Fleet, host_name
from bench.isolation import isolate
from bench.scaleplant import Etcd, Plant, fill
from sgdataplane.store.interface import Body, Store, Write
from sgdataplane.store.interface import Path as StorePath

HOSTS_A_RELAY, SNAPSHOTS = 1250, 200
PATIENCE_S, QUIET_S = 600.0, 0.3
STORES = ("sqlite", "etcd")
TOTAL_S = 870.0  # of all cases: with what begins and ends them, less than 15 minutes
CLOSING_S = 20.0  # that ending a case may take


@dataclass(frozen=True, slots=True)
class Case:
    """`hosts`: of the store; `connected`: how many of them are there. `most_s`: after which it is given up."""

    hosts: int
    connected: int
    store: str
    changes: int
    most_s: float = 120.0

    @property
    def relays(self) -> int:
        return -(-self.connected // HOSTS_A_RELAY)


QUICK = (
    Case(10, 10, "sqlite", 20),
    Case(100, 100, "sqlite", 20),
    Case(1000, 1000, "sqlite", 20),
    Case(1000, 1000, "etcd", 20),
    Case(10_000, 1250, "sqlite", 20, 240.0),
)
FULL = (
    *(Case(hosts, hosts, store, 20, 60.0) for hosts in (10, 100) for store in STORES),
    *(Case(1000, 1000, store, 20, 120.0) for store in STORES),
    *(Case(10_000, 10_000, store, 20, 420.0) for store in STORES),
)


class Measuring:
    """One case, with everything running."""

    def __init__(self, case: Case, fleet: Fleet, store: Store, plant: Plant) -> None:
        self.case, self.fleet, self.store, self.plant = case, fleet, store, plant
        self.numbers = sorted(range(fleet.hosts), key=lambda host: (host % fleet.vpcs, host))[: case.connected]
        self._changes = 0

    def settle(self) -> dict[str, Any]:
        """The real host is the first one."""
        names = [host_name(number) for number in self.numbers[1:]]
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
        costs = {}
        for name, vpc in (("own", self.numbers[0] % self.fleet.vpcs), ("others", 1)):
            if name == "own" or self.fleet.vpcs > 1:
                time.sleep(1.0)
                before = sync.cpu_s
                self.changes("rule", [vpc] * self.case.changes)
                time.sleep(1.0)
                costs[f"{name}_ms"] = (sync.cpu_s - before) / self.case.changes * 1e3
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


def measure(case: Case, folder: Path, seconds: float, result: dict[str, Any]) -> None:
    """Adds to the result as it goes, so that what was measured is there if a later step fails. BenchError, also if it
    takes longer."""
    with ExitStack() as stack, at_most(seconds):
        require_descriptors(case)
        fleet = Fleet(case.hosts)
        etcd = Etcd(folder / "etcd") if case.store == "etcd" else None
        if etcd:
            stack.callback(etcd.started.end)
        spec = etcd.store if etcd else f"sqlite:{folder / 'store'}"
        told(f"{case}: filling")
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
        measuring = Measuring(case, fleet, store, plant)
        told("hosts connect")
        result["settle"] = measuring.settle()
        result["relay"] = measuring.relay_cost()
        result["etcd_watches"] = etcd.watches - before if etcd else None
        told("changes")
        for what in ("rule", "member"):
            result[what] = summed(measuring.changes(what, measuring.vpcs(case.changes)))
        result["host"] = measuring.own_cost()
        told("drop")
        result["drop"] = measuring.drop()
        result["crowd_mb_a_host"] = sum(crowd.memory_mb() for crowd in plant.crowds) / max(1, case.connected - 1)
        result["relay"]["after_drop_mb"] = max(relay.memory_mb() for relay in plant.relays)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """BenchError once so much time has passed, wherever the run is then."""

    def give_up(*_: object) -> NoReturn:
        raise BenchError(f"given up after {seconds:.0f} s")

    if seconds <= 0:
        raise BenchError("no time is left")
    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.scale", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where results and pictures go")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases")
    parser.add_argument("--only", type=int, metavar="N", help="the Nth case alone, from 0 on; results of others stay")
    parser.add_argument("--changes", type=int, metavar="N", help="of each kind, in each case")
    parser.add_argument("--minutes", type=float, metavar="N", default=TOTAL_S / 60, help="of all cases together")
    parser.add_argument("--redraw", action="store_true", help="page and pictures anew, from the results that are there")
    options = parser.parse_args()
    file = options.out / "scale.json"
    if not options.redraw:
        isolate("bench.scale")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        cases = QUICK if options.quick else FULL
        chosen = cases if options.only is None else cases[options.only : options.only + 1]
        chosen = tuple(replace(case, changes=options.changes or case.changes) for case in chosen)
        run(chosen, file, options.minutes * 60, former(file) if options.only is not None else [])
    from bench.scalereport import page  # noqa: PLC0415  # it draws, and needs matplotlib

    print(page(json.loads(file.read_text(encoding="utf-8")), options.out))
    return 0


def former(file: Path) -> list[dict[str, Any]]:
    """The results that are there."""
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["cases"] if file.exists() else []
    return found


def run(cases: Sequence[Case], file: Path, seconds: float, results: list[dict[str, Any]]) -> None:
    """Results are written after each case: what is there stays, if a later one fails."""
    deadline = time.monotonic() + seconds
    for case in cases:
        begin = time.monotonic()
        found: dict[str, Any] = {"case": asdict(case) | {"relays": case.relays}}
        with TemporaryDirectory(prefix="sgdp-scale-", ignore_cleanup_errors=True) as folder:
            try:
                measure(case, Path(folder), min(case.most_s, deadline - begin - CLOSING_S), found)
            except Exception as error:  # noqa: BLE001  # the other cases are measured
                found["error"] = f"{type(error).__name__}: {error}"[:500]
        found["seconds"] = time.monotonic() - begin
        told(f"{case}: {found['seconds']:.0f} s{', ' + found['error'] if 'error' in found else ''}")
        results = [one for one in results if not is_same(one["case"], found["case"])] + [found]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"facts": facts(), "cases": results}, indent=1) + "\n", encoding="utf-8")


def is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[name] == other[name] for name in ("hosts", "connected", "store"))


if __name__ == "__main__":
    sys.exit(main())

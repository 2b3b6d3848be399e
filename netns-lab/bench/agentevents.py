"""`python -m bench.agentevents`: how soon the real agent repairs drift, and enforces ENIs that come.

Owns the events and what is measured, in namespaces that belong to the run. Prints medians and maxima. The scene and the
agent are those of agentscale.py, and the same must not be known.

    noticed     from the kernel's report of another's commit to one of our tables until the agent's cycle begins
    repaired    from there until the agent's last commit of the repair
    enforced    from an interface's arrival in its namespace, with an ENI's id as alias, until the agent says: in force
"""

from __future__ import annotations

import argparse
import itertools
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from bench.agentscale import DEADLINE_S, Agent, Scene, eni_id, eni_of, shown, started, state_of, told
from bench.errors import BenchError
from bench.isolation import isolate
from sgdataplane.contract.tables import TABLE
from sgdataplane.host import netns
from sgdataplane.host.events import LINK_GROUP, ROUTE, Message, Subscription, link_of, number_of
from sgdataplane.host.links import Links
from sgdataplane.host.nfsocket import NETLINK_NETFILTER
from sgdataplane.model.state import CloudState
from sgdataplane.nft.commits import EVENT_GROUP, CommitReader

PER_GROUP = 10
T = f"inet {TABLE}"
DRIFTS = {
    "flushed table": f"flush table {T}",
    "deleted table": f"delete table {T}",
    "added rule": f"insert rule {T} egress accept",
    "added element": f'add element {T} ingress-enis {{ "nobody0" : drop }}',
    "deleted fence": f"delete table netdev {TABLE}",
}


class Ear:
    """When something happened in one namespace, by the wall clock, like the agent's own times. A thread hears it at
    once. `count`: how often a message says that it happened."""

    def __init__(self, name: str, subscription: Subscription, count: Callable[[Message], int]) -> None:
        self._subscription, self._count = subscription, count
        self._number = number_of(name)
        self.times: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._hear)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._subscription.close()

    def _hear(self) -> None:
        while not self._is_over.is_set():
            is_told = select.select([self._subscription], [], [], 0.1)[0]
            now = time.time()
            for message in self._subscription.read()[0] if is_told else ():
                if message.number == self._number:
                    self.times.extend([now] * self._count(message))


def commits_in(name: str) -> Ear:
    """Hears commits to our tables."""
    commits, number = CommitReader(TABLE), number_of(name)
    rules = Subscription(NETLINK_NETFILTER, (EVENT_GROUP,))
    return Ear(name, rules, lambda message: len(list(commits.read(number, message.kind, message.payload))))


def link_in(name: str, ifname: str) -> Ear:
    """Hears that a link of this name has come or changed."""
    links = Subscription(ROUTE, (LINK_GROUP,))
    return Ear(name, links, lambda message: (link_of(message) or (0, ""))[1] == ifname)


def drift_times(agent: Agent, name: str, change: str) -> tuple[float, float] | None:
    """Milliseconds until drift was noticed, and until it was repaired. None if the cycle was about more than that."""
    agent.settle()
    count = drifts(agent)
    with commits_in(name) as ear:
        subprocess.run(["ip", "netns", "exec", name, "nft", change], check=True)
        deadline = time.monotonic() + DEADLINE_S
        while drifts(agent) == count:
            time.sleep(0.01)
            if time.monotonic() > deadline:
                raise BenchError("the agent doesn't notice")
        cycle: dict[str, Any] = agent.cycle()
    if cycle["causes"] != ["drift"]:
        return None
    theirs, last = ear.times[0], ear.times[-1]
    return 1000 * (datetime.fromisoformat(cycle["at"]).timestamp() - cycle["seconds"] - theirs), 1000 * (last - theirs)


def drifts(agent: Agent) -> int:
    found: Any = agent.status()["drift"]
    return int(found["count"])


def measure_drift(folder: Path, enis: int, times: int, say: Callable[..., None]) -> None:
    scene = Scene(folder, state_of(enis, PER_GROUP), is_folder=True)
    scene.configure()
    with ExitStack() as stack:
        agent, _ = started(scene, stack)
        for what, change in DRIFTS.items():
            found = [drift_times(agent, f"w{step % enis}", change) for step in range(times)]
            noticed, repaired = zip(*(pair for pair in found if pair is not None), strict=True)
            say(what.replace(" ", "_"), ms_until_noticed=list(noticed), ms_until_repaired=list(repaired))


def measure_plug(folder: Path, enis: int, times: int, placement: str, say: Callable[..., None]) -> None:
    few = state_of(enis, PER_GROUP)
    scene = Scene(folder, few, is_folder=True)
    scene.write(with_more(few, enis, times))
    scene.configure(placement=placement, bind=["alias"])
    with ExitStack() as stack:
        agent, _ = started(scene, stack)
        say(f"plug_{placement}", ms=[plug(agent, number) for number in range(enis, enis + times)])


def with_more(state: CloudState, first: int, count: int) -> CloudState:
    groups = len(state.security_groups)
    more = (eni_of(number, number % groups) for number in range(first, first + count))
    return replace(state, network_interfaces=(*state.network_interfaces, *more))


def plug(agent: Agent, number: int) -> float:
    """How many milliseconds it takes. To move an interface, the kernel also waits, before it arrives."""
    name, near, far = f"p{number}", f"t{number}", f"v{number}"
    netns.create(name)
    with Links(str(netns.OWN_NETNS)) as links:
        links.add_veth(far, str(netns.OWN_NETNS), near, eni_of(number, 0).mac_address)
        links.set_alias(near, eni_id(number))
        links.set_up(far)
        agent.settle()
        with link_in(name, "eth0") as ear:
            links.move(near, name, "eth0")
            began = arrival(ear)
    for _ in itertools.count():
        since = next(in_force_since(agent, eni_id(number)), None)
        if since is not None:
            return 1000 * (since - began)
        if time.time() > began + DEADLINE_S:
            raise BenchError("the agent doesn't enforce")
        time.sleep(0.002)
    raise AssertionError


def arrival(ear: Ear) -> float:
    deadline = time.monotonic() + DEADLINE_S
    while not ear.times:
        if time.monotonic() > deadline:
            raise BenchError("no interface has come")
        time.sleep(0.002)
    return ear.times[0]


def in_force_since(agent: Agent, wanted: str) -> Iterator[float]:
    enis: Any = agent.status()["enis"]
    for eni in enis:
        if eni["eni"] == wanted and eni["outcome"] == "in force":
            yield datetime.fromisoformat(eni["since"]).timestamp()


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.agentevents", description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["drift", "instance", "host"], help="drift, or ENIs that come, by placement")
    parser.add_argument("--enis", type=int, default=20, help="that are there already, 20 or more (default 20)")
    parser.add_argument("--times", type=int, default=20, help="each event (default 20)")
    parser.add_argument("--json", action="store_true", help="all samples, for `bench`")
    options = parser.parse_args()
    isolate("bench.agentevents")
    say = told if options.json else shown
    with TemporaryDirectory() as folder:
        if options.what == "drift":
            measure_drift(Path(folder), options.enis, options.times, say)
        else:
            measure_plug(Path(folder), options.enis, options.times, options.what, say)
    return 0


if __name__ == "__main__":
    sys.exit(main())

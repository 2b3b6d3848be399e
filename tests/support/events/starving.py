"""The real agent with good namespaces, and hostile ones that are to starve them: how long a change takes.

Owns the scene, and how a change is timed. Must not know what is expected.

`python -m tests.support.events.starving [--good 20] [--hostile 1,10,100] [--attacks commits,...]` prints, for each
attack and number of hostile namespaces, the medians of both in turn, and their ratio.

A change is a rule for the good ENIs' one group in place of another. It is in force in an ENI when the kernel has taken
away what counted for the rule before, which is the last thing that is done.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sgdataplane.attach.registry import Binding, Registry
from sgdataplane.contract.tables import TABLE
from sgdataplane.host import netns
from sgdataplane.host.identity import hold_namespace, identity_of
from sgdataplane.host.links import Links
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.lab.waiting import scale_timeout
from sgdataplane.model.state import CloudState
from sgdataplane.nft.counters import read_some
from tests.support.inputs.builders import mac_of, make_eni, make_group, make_rule, make_state
from tests.support.kernel import assault
from tests.support.scenes.agentbench import ROOT, AgentBench, agent_in

DEADLINE_S, POLL_S = scale_timeout(120.0), 0.001
FIRST_PORT = 1000


def state_of(good: int, hostile: int, number: int) -> CloudState:
    """The good ENIs' rule is that of this number."""
    port = FIRST_PORT + number % 60_000
    rule = make_rule(f"ingress tcp {port}/{port} from 0.0.0.0/0", f"sgr-{number}")
    texts = {"sgr-dns": "ingress udp 53/53 from 10.0.0.0/8", "sgr-ssh": "ingress tcp 22/22 from sg-far"}
    common = [make_rule(text, rule_id) for rule_id, text in texts.items()]
    groups = [make_group("sg-far"), make_group("sg-good", [*common, rule]), make_group("sg-odd", common)]
    enis = [make_eni(f"eni-good-{n}", f"10.1.{n}.1", "sg-good") for n in range(good)]
    enis += [make_eni(f"eni-odd-{n}", f"10.2.{n}.1", "sg-odd") for n in range(hostile)]
    return make_state(groups, enis)


@dataclass
class Starving:
    """`good`, `hostile`: names of namespaces."""

    agent: AgentBench
    good: list[str]
    hostile: list[str]
    doors: list[Nfnetlink]
    number: int = 0

    def change(self) -> tuple[float, float]:
        """Seconds until the rule is in force in the first ENI, and in all."""
        self.number += 1
        gone = f"rule.sg-good.sgr-{self.number - 1}"
        self.agent.write(state_of(len(self.good), len(self.hostile), self.number))
        began, left = time.monotonic(), list(self.doors)
        took: list[float] = []
        while left:
            time.sleep(POLL_S)
            left = [door for door in left if any(True for _ in read_some(door, TABLE, [gone]))]
            seconds = time.monotonic() - began
            took += [seconds] * (len(self.doors) - len(left) - len(took))
            assert seconds < DEADLINE_S, self.agent.log.read_text("utf-8")[-3000:]
        return took[0], took[-1]

    @contextmanager
    def attacked(self, attack: str, seconds: float, hostile: int) -> Iterator[None]:
        """By so many of the hostile ones, for at most that time."""
        arguments = [attack, str(seconds), *self.hostile[:hostile]]
        command = [sys.executable, "-m", "tests.support.kernel.assault", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == assault.BEGUN.encode()
            yield
        finally:
            process.kill()
            process.communicate()


def wait_long(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextmanager
def starving(make_name: Callable[[], str], folder: Path, good: int, hostile: int) -> Iterator[Starving]:
    """All of them attached and enforced."""
    with ExitStack() as stack:
        names = [stack.enter_context(_namespace(make_name())) for _ in range(1 + good + hostile)]
        home, places = names[0], {"good": names[1 : 1 + good], "odd": names[1 + good :]}
        enis = [(f"eni-{kind}-{n}", name) for kind, found in places.items() for n, name in enumerate(found)]
        bindings = [_bound(home, eni_id, name) for eni_id, name in enis]
        for name in places["odd"]:
            with Links(name) as links:
                links.add_veth(assault.SPARE, name, f"{assault.SPARE}-end", mac_of(name))
        registry = Registry(folder / "attached")
        with registry.lock():
            registry.store(bindings)
        agent = stack.enter_context(agent_in(folder))
        agent.configure(adoption_window=0)
        agent.write(state_of(good, hostile, 0))
        agent.launch()
        wait_long(lambda: agent.cycles > 0)
        assert agent.status()["healthy"], agent.log.read_text("utf-8")
        yield Starving(agent, places["good"], places["odd"], [_door(stack, name) for name in places["good"]])


@contextmanager
def _namespace(name: str) -> Iterator[str]:
    netns.create(name)
    try:
        yield name
    finally:
        netns.remove(name)


def _bound(home: str, eni_id: str, name: str) -> Binding:
    with Links(home) as links:
        links.add_veth(eni_id.removeprefix("eni-"), name, "eth0", mac_of(eni_id))
    path = str(netns.path_of(name))
    with hold_namespace(path) as place:
        return Binding(eni_id, "eth0", f"netns {name}", path, identity_of(place))


def _door(stack: ExitStack, name: str) -> Nfnetlink:
    with netns.inside(name):
        return stack.enter_context(Nfnetlink())


def _measured(scene: Starving, attack: str, hostile: int, rounds: int, each: int) -> str:
    alone: list[tuple[float, float]] = []
    beside: list[tuple[float, float]] = []
    for _ in range(rounds):
        alone += [scene.change() for _ in range(each)]
        with scene.attacked(attack, DEADLINE_S, hostile):
            beside += [scene.change() for _ in range(each)]
        time.sleep(1)
    words = [f"{attack:9} x {hostile:3}"]
    for at, what in enumerate(("first", "all")):
        one, two = (statistics.median(entry[at] for entry in found) * 1000 for found in (alone, beside))
        most = max(entry[at] for entry in beside) * 1000
        words.append(f"{what} {one:6.0f} {two:6.0f} ms (most {most:6.0f}), ratio {two / one:5.2f}")
    return ", ".join(words)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--good", type=int, default=20)
    parser.add_argument("--hostile", default="1,10,100")
    parser.add_argument("--attacks", default=",".join(assault.ATTACKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--each", type=int, default=6)
    asked = parser.parse_args(arguments)
    counts = [int(word) for word in asked.hostile.split(",")]
    numbers = iter(range(10_000))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with TemporaryDirectory() as folder:
        make_name = lambda: f"starve{os.getpid()}-{next(numbers)}"  # noqa: E731
        with starving(make_name, Path(folder), asked.good, max(counts)) as scene:
            for attack in asked.attacks.split(","):
                for count in counts:
                    print(_measured(scene, attack, count, asked.rounds, asked.each), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

"""What others change in our tables is reported and repaired, and opens nothing, under streams of allowed and denied
packets. Until the repair, root's change holds: without the policy's table nothing judges what comes in in instance
placement. The fence still stops what goes out, and in host placement what comes in, as only the policy marks it."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sgdataplane.contract.tables import TABLE
from sgdataplane.model.state import CloudState
from tests.support.events.numbered import Numbered
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.kernel.nft import listing, nft
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import Bench
from tests.support.scenes.attachhost import ROUTER, hosted_pair
from tests.support.scenes.pair import HERE, Session, made_pair

pytestmark = pytest.mark.daemon
IN, IN_REFUSED, OUT, OUT_REFUSED = 8001, 8002, 9001, 9002
FOREIGN = "inet other", f"ip {TABLE}"


@dataclass(frozen=True)
class Drift:
    """`change`: a line of nft. `told`: what the log says about it. `opens`: the directions in which denied packets may
    pass until the repair. `closes`: those in which allowed packets may be lost."""

    change: str
    told: str
    opens: tuple[str, ...] = ()
    closes: tuple[str, ...] = ()


BOTH = ("ingress", "egress")
# Where rules are asked one by one, what one of them refuses is left to the next when it is gone.
STEPS = ("address-", "profile-", "steps-")
T = f"inet {TABLE}"
DRIFTS = {
    "flushed": Drift(f"flush table {T}", "rule deleted", closes=BOTH),
    "element added": Drift(f'add element {T} ingress-enis {{ "nobody0" : drop }}', "element added: ingress-enis"),
    "elements deleted": Drift(f"flush map {T} ingress-enis", "element deleted: ingress-enis", closes=BOTH),
    "chain added": Drift(f"add chain {T} mine", "chain added: mine"),
    "policy of a chain": Drift(f"add chain {T} ingress {{ policy accept; }}", "chain added: ingress"),
    "fence deleted": Drift(f"delete table netdev {TABLE}", "table deleted"),
    "rule added": Drift(f"insert rule {T} ingress accept", "rule added: ingress", opens=("ingress",)),
    "table deleted": Drift(f"delete table {T}", "table deleted", opens=("ingress",), closes=("egress",)),
}
# Here the fence stops all that the policy hasn't marked, on its way in and out.
IN_ROUTER = {
    **DRIFTS,
    "rule added": Drift(DRIFTS["rule added"].change, DRIFTS["rule added"].told, closes=BOTH),
    "table deleted": Drift(f"delete table {T}", "table deleted", closes=BOTH),
}


def state() -> CloudState:
    """The state of both ends; the peer may do anything."""
    near = [f"ingress udp {IN}/{IN} from 0.0.0.0/0", f"egress udp {OUT_REFUSED}/{OUT_REFUSED} to 0.0.0.0/0 drop"]
    groups = {"sg-a": near, "sg-b": ["ingress all from 0.0.0.0/0"]}
    rules = {name: [make_rule(text, f"sgr-{n}") for n, text in enumerate(texts)] for name, texts in groups.items()}
    enis = [make_eni(f"eni-{n}", " ".join(HERE[role]), f"sg-{n}") for n, role in (("a", "instance"), ("b", "peer"))]
    return make_state([make_group(*group) for group in rules.items()], enis)


class Scene:
    """`place`: the namespace of the tables."""

    def __init__(self, agent: AgentBench, place: str, streams: dict[str, Numbered]) -> None:
        self.agent, self.place, self.streams = agent, place, streams
        self._tables = self.tables()
        self._drifts = 0

    def tables(self) -> list[str]:
        """Our tables without marks, since each repair moves the epoch; those of others with all handles."""
        foreign = [nft(self.place, f"-s -a list table {table}") for table in FOREIGN]
        ours = (listing(self.place, TABLE, family) for family in ("inet", "netdev"))
        return [*(re.sub(r"0x[0-9a-f]{8}", "mark", text) for text in ours), *foreign]

    def deletions(self) -> list[Drift]:
        """The deletion of each rule."""
        found, chain = [], ""
        for line in nft(self.place, f"-a list table {T}").splitlines():
            chain = line.split()[1] if line.startswith("\tchain ") else chain if line.startswith("\t\t") else ""
            if chain and " # handle " in line and not line.startswith("\tchain "):
                change = f"delete rule {T} {chain} handle {line.rpartition(' ')[2]}"
                opens = BOTH if chain.startswith(STEPS) else ()
                found.append(Drift(change, f"rule deleted: {chain}", opens, closes=BOTH))
        return found

    def suffer(self, drift: Drift) -> None:
        self.agent.reload()  # else its repair would wait for its turn, each a longer time
        before = {way: stream.arrive() for way, stream in self.streams.items()}
        nft(self.place, drift.change)
        self._drifts += 1
        wait_until(lambda: self.agent.status()["drift"]["count"] == self._drifts)
        self.agent.wait_for_event("drift", self._drifts)
        told = self.agent.events("drift")[-1]
        assert drift.told in told
        assert "by=nft[" in told
        assert "repaired=True" in told
        assert self.tables() == self._tables
        for way, stream in self.streams.items():
            after = stream.arrive()
            leaked = {number for number in stream.leaked if number >= before[way]}
            lost = stream.lost(before[way], after)
            print(f"{drift.change}: {way}: {len(leaked)} leaked, {lost} lost of {after - before[way]}")
            assert not leaked or (way in drift.opens and max(leaked) < after), (drift.change, way)
            assert not lost or way in drift.closes, (drift.change, way)


@contextmanager
def attached(placement: str, make_name: Callable[[], str], folder: Path, read: Callable[[], str]) -> Iterator[Bench]:
    if placement == "instance":
        with made_pair(make_name) as pair:
            bench = Bench(pair, os.getpid(), folder, read)
            assert bench.attach("--netns", pair["instance"]) == 0
            yield bench
        return
    with hosted_pair(make_name(), folder, read) as bench:
        yield bench


@pytest.fixture
def scene(
    placement: str, make_lab_name: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Scene]:
    """The agent enforces, and other programs have tables there."""
    with ExitStack() as stack:
        bench = stack.enter_context(attached(placement, make_lab_name, tmp_path, lambda: capsys.readouterr().out))
        agent = stack.enter_context(agent_in(tmp_path))
        agent.configure(adoption_window=0, placement=placement)  # else what is left of the window differs
        agent.write(state())
        agent.start()
        assert agent.status()["healthy"], agent.log.read_text("utf-8")
        place = bench.place if placement == "instance" else ROUTER
        nft(place, *(line for table in FOREIGN for line in foreign(table)))
        agent.reload()  # others have committed something: our rules are written anew, with other handles
        with Session(bench.pair, IN) as session:
            session.must_pass()  # each end knows the other
        streams = {
            "ingress": stack.enter_context(Numbered(bench.pair, "peer", IN, IN_REFUSED)),
            "egress": stack.enter_context(Numbered(bench.pair, "instance", OUT, OUT_REFUSED)),
        }
        yield Scene(agent, place, streams)


def foreign(table: str) -> Iterator[str]:
    yield f"add table {table}"
    yield f"add chain {table} c {{ type filter hook input priority 300; }}"
    yield f"add rule {table} c udp dport 1 drop"


def test_whatever_others_change_is_put_right_and_opens_nothing(scene: Scene, placement: str) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    drifts = list((DRIFTS if placement == "instance" else IN_ROUTER).values())
    random.Random(seed).shuffle(drifts)
    for drift in drifts:
        scene.suffer(drift)
    scene.suffer(random.Random(seed).choice(scene.deletions()))


@pytest.mark.slow
def test_whichever_rule_is_deleted_it_comes_back_and_opens_no_more_than_it_refused(scene: Scene) -> None:
    """A packet that reaches the end of a chain is dropped by the policy of the base chain."""
    count = len(scene.deletions())
    assert count > 20
    for number in range(count):
        scene.suffer(scene.deletions()[number])

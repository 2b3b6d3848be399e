"""Floods through changes, full resyncs, restarts and kills: nothing denied is received, and nothing allowed is lost.

UDP and TCP, from a neighbour (IPv6) and from a host outside (IPv4), to allowed and denied ports in turn. Nearly every
packet opens a session. They are counted by the processes at both ends; and by rules at the senders' wire, and just
before and just behind our hooks. Beside them run checked streams, both ways.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from sgdataplane.contract.tables import TABLE
from sgdataplane.net.values import Family
from sgdataplane.nft.transaction import PART
from tests.support.events.applier import QUICK, Outcome
from tests.support.events.steps import ALLOWED, DENIED, FIRST, state_at
from tests.support.kernel.nft import listing
from tests.support.probes.flood import ROOT, Flood, Target, wait_for_packets, wait_until
from tests.support.probes.streams import Route, Streams
from tests.support.probes.synflood import SynFlood, UdpFlood
from tests.support.probes.witness import OUTSIDE, Counts, Watch, Witness, grown
from tests.support.scenes.sessionlab import Place, SessionLab, session_lab

pytestmark = pytest.mark.traffic

SEED = 20240
PACKETS = 20  # of each kind and flood, after each change
FLOODED, STREAMS = ALLOWED[:-2], ALLOWED[-2:]
SYN = "tcp flags & (syn | ack) == syn"
WATCHES = tuple(
    Watch(f"{protocol}-{name}", (f"{protocol} dport {ports[0]}-{ports[-1]} {flags}",))
    for protocol, flags in (("udp", ""), ("tcp", SYN))
    for name, ports in (("allowed", FLOODED), ("denied", DENIED))
)


@dataclass(frozen=True, slots=True)
class Scene:
    """`fresh` makes another lab, where nothing was disturbed."""

    lab: SessionLab
    near: Witness
    others: tuple[Witness, Witness]
    fresh: Callable[[], AbstractContextManager[SessionLab]]

    def counts(self) -> Counts:
        """Those of the protected instance, and as "out" what both others sent."""
        sent = [witness.counts() for witness in self.others]
        return {**self.near.counts(), **{("out", w.name): sum(s["out", w.name] for s in sent) for w in WATCHES}}


@pytest.fixture
def scene(make_lab_name: Callable[[], str], placement: str) -> Iterator[Scene]:
    with session_lab(make_lab_name(), placement) as lab:
        near = lab.site.witness(WATCHES)
        others = (Witness(lab.far.netns, OUTSIDE, WATCHES), Witness(lab.outside.netns, OUTSIDE, WATCHES))
        for witness in (near, *others):
            witness.load()
        yield Scene(lab, near, others, lambda: session_lab(make_lab_name(), placement))


def floods(lab: SessionLab, folder: Path) -> list[Flood]:
    """From both other hosts to the protected instance."""
    near = lab.near
    return [
        kind(folder, source.netns, near.netns, targets(near, family, FLOODED), targets(near, family, DENIED))
        for source, family in ((lab.far, Family.IPV6), (lab.outside, Family.IPV4))
        for kind in (UdpFlood, SynFlood)
    ]


def routes(lab: SessionLab) -> list[Route]:
    """Checked streams on ports that no flood is for: one comes in, one goes out."""
    return [
        Route(lab.outside.netns, lab.near.netns, lab.near.address(Family.IPV4), STREAMS[0]),
        Route(lab.near.netns, lab.far.netns, lab.far.address(Family.IPV6), STREAMS[1]),
    ]


def targets(place: Place, family: Family, ports: Sequence[int]) -> list[Target]:
    return [(place.address(family), port) for port in ports]


def change(lab: SessionLab, running: Sequence[Flood], count: int) -> Outcome:
    return _apply(lab, running, count, resync=False)


def resync_fully(lab: SessionLab, running: Sequence[Flood], count: int) -> Outcome:
    return _apply(lab, running, count, resync=True)


def _apply(lab: SessionLab, running: Sequence[Flood], count: int, *, resync: bool) -> Outcome:
    for step in range(FIRST + 1, FIRST + 1 + count):
        report = lab.apply(state_at(step), replace(QUICK, resync=resync))
        assert (report.changed, report.is_full_resync) == (True, resync)
        wait_for_packets(running, PACKETS)
    return Outcome(FIRST + count)


def restart(lab: SessionLab, _: Sequence[Flood], count: int) -> Outcome:
    return _by_others(lab, "restarts", FIRST + 1, count)


def kill(lab: SessionLab, _: Sequence[Flood], count: int, part: int = PART) -> Outcome:
    outcome = _by_others(lab, "kills", FIRST + 1, count, SEED, part)
    assert outcome.in_the_middle >= 1, "no process was killed in the middle of an apply"
    return outcome


def kill_in_parts(lab: SessionLab, running: Sequence[Flood], count: int) -> Outcome:
    """Each stage is made in many commits."""
    return kill(lab, running, count, part=30)


def _by_others(lab: SessionLab, *words: object) -> Outcome:
    role, *numbers = map(str, words)
    command = [sys.executable, "-m", "tests.support.events.applier", role, json.dumps(asdict(lab.site)), *numbers]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Outcome(**json.loads(done.stdout))


CASES = [
    pytest.param(disturb, count, id=f"{count} {name}", marks=marks)
    for name, disturb, few, many in (
        ("changes", change, 3, 1000),
        ("full resyncs", resync_fully, 2, 300),
        ("restarts", restart, 2, 300),
        ("kills", kill, 3, 300),
        ("kills in parts", kill_in_parts, 3, 300),
    )
    for count, marks in ((few, ()), (many, (pytest.mark.slow,)))
    if disturb is not kill_in_parts or count == many  # of few kills, those above are enough
]


@pytest.mark.parametrize(("disturb", "count"), CASES)
def test_nothing_leaks_and_nothing_is_lost(
    scene: Scene, tmp_path: Path, disturb: Callable[[SessionLab, Sequence[Flood], int], Outcome], count: int
) -> None:
    scene.lab.apply(state_at(FIRST), QUICK)
    before = scene.counts()
    with ExitStack() as stack:
        streams = stack.enter_context(Streams(tmp_path, routes(scene.lab)))
        running = [stack.enter_context(flood) for flood in floods(scene.lab, tmp_path)]
        outcome, so_far = disturb(scene.lab, running, count), streams.received()
    print(outcome, [(type(flood).__name__, flood.allowed, flood.denied) for flood in running])
    streams.check()
    assert all(report.received > then for report, then in zip(streams.reports, so_far, strict=True))
    for flood in running:
        assert flood.allowed.received == flood.allowed.sent > PACKETS * count
        assert flood.denied.received == 0
        assert flood.denied.sent > PACKETS * count
    wait_until(lambda: not gaps(scene, before), must=False)
    assert gaps(scene, before) == []
    with scene.fresh() as fresh:
        fresh.apply(state_at(outcome.step), QUICK)
        assert in_effect(scene.lab) == in_effect(fresh)


def gaps(scene: Scene, before: Counts) -> list[str]:
    """Where packets are missing, or came through, a line each."""
    new = grown(before, scene.counts())
    found = []
    for watch in WATCHES:
        sent, reached, passed = (new[place, watch.name] for place in ("out", "in_before", "in_after"))
        expected = reached if watch.name.endswith("allowed") else 0
        if not sent or sent != reached or passed != expected:
            found.append(f"{watch.name}: {sent} sent, {reached} came to our hooks, {passed} passed")
    return found


def in_effect(lab: SessionLab) -> str:
    """What nft lists of our table, but for what depends on how often something was applied: the stamp, and the numbers
    in marks. (A mask that lets all bits be is not listed.)"""
    unstamped = re.sub(r"0x[0-9a-f]+ : 0x[0-9a-f]+,?\s*", "", listing(lab.site.netns, TABLE))
    return re.sub(r"0x[0-9a-f]+", "0x", unstamped).replace("ct mark & 0x |", "ct mark |")


@pytest.fixture(scope="module")
def opened_lab(make_lab_name: Callable[[], str], placement: str) -> Iterator[SessionLab]:
    with session_lab(make_lab_name(), placement) as lab:
        yield lab


def test_denied_ports_receive_once_they_are_allowed(opened_lab: SessionLab, tmp_path: Path) -> None:
    """The control: nothing but the rules keeps the floods' denied packets from their receivers."""
    opened_lab.apply(state_at(FIRST, allowed="5000/6999"), QUICK)
    for flood in floods(opened_lab, tmp_path):
        with flood:
            wait_until(lambda: flood.denied.received > 100)  # noqa: B023  (called here only)

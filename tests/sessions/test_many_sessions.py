"""Revocation costs the same with ten sessions in the table and with a hundred thousand.

The sessions are real: UDP from a neighbour, from many ports to many ports. The same transactions are run for either
number, none of them looks at the sessions, and a sample of these is refused at the next packet of either end.
"""

from __future__ import annotations

import re
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

import pytest

from sgdataplane.enforce import ApplyReport, Desired, Settings, apply, remove
from sgdataplane.host import netns, sysctl
from sgdataplane.model.state import CloudState, ConnectionTracking
from sgdataplane.nft.kernel import LibnftKernel
from sgdataplane.nft.transaction import Transaction
from tests.sessions.causes import CAUSES, Way
from tests.support.flood import wait_until
from tests.support.sessionlab import SessionLab, desired_of, session_lab
from tests.support.witness import OUTSIDE, PROTECTED, Counts, Watch, Witness, grown

pytestmark = pytest.mark.traffic

FEW, ROUNDS = 10, 7
FIRST_SOURCE, FIRST_TARGET, SOURCES = 20000, 10000, 100
SAMPLE = 5  # of the ports that sessions go to
LONG = ConnectionTracking(udp_timeout=100)
DELETED = CAUSES[0]
"""The rule that lets all of the neighbour's packets in is deleted, and put back."""


@dataclass(frozen=True, slots=True)
class Scene:
    lab: SessionLab
    near: Witness
    far: Witness

    def counts(self) -> Counts:
        return {**self.near.counts(), **self.far.counts()}


@pytest.fixture(scope="module")
def scene(make_lab_name: Callable[[], str]) -> Iterator[Scene]:
    last = FIRST_TARGET + SAMPLE - 1
    watch = Watch("sample", tuple(f"udp {end} {FIRST_TARGET}-{last}" for end in ("dport", "sport")))
    with session_lab(make_lab_name()) as lab:
        scene = Scene(lab, Witness(lab.near.netns, PROTECTED, (watch,)), Witness(lab.far.netns, OUTSIDE, (watch,)))
        scene.near.load()
        scene.far.load()
        yield scene


class RecordingKernel(LibnftKernel):
    """Notes what it is asked to do."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self.log: list[str] = []

    def run(self, transaction: Transaction) -> None:
        super().run(transaction)
        self.log += [*(without_generation(line) for line, _ in transaction.lines()), "commit"]

    def settle(self) -> None:
        super().settle()
        self.log.append("settle")


def without_generation(line: str) -> str:
    """The line without the number of the commit: in the stamp, and in the names of a copy."""
    return re.sub(r"0x00000005 : 0x[0-9a-f]+|(?<=[\w-])\.\d+\b", "", line)


@dataclass
class Untouched:
    """The door to the sessions, that nobody may use."""

    asked: list[range] = field(default_factory=list)

    def forget_epochs(self, epochs: range) -> int:
        self.asked.append(epochs)
        return 0


class Crowd:
    """Sessions from the neighbour to the instance, and sockets at both ends of the first SAMPLE target ports."""

    def __init__(self, lab: SessionLab, stack: ExitStack, count: int) -> None:
        self._address, self._far = lab.near.addresses[0], lab.far.addresses[0]
        self._sources = [opened(stack, lab.far.netns, self._far, FIRST_SOURCE + n) for n in range(min(count, SOURCES))]
        targets = max(1, count // SOURCES)
        self._samples = range(FIRST_TARGET, FIRST_TARGET + min(SAMPLE, targets))
        self._targets = [opened(stack, lab.near.netns, self._address, port) for port in self._samples]
        self.size = len(self._sources) * len(self._samples)
        for port in range(FIRST_TARGET, FIRST_TARGET + targets):
            self._all_to(port)

    def _all_to(self, port: int) -> None:
        for source in self._sources:
            source.sendto(b"client", (self._address, port))

    def clients_speak(self) -> None:
        """One packet in each session of the sample."""
        for port in self._samples:
            self._all_to(port)

    def servers_speak(self) -> None:
        for target in self._targets:
            for number in range(len(self._sources)):
                with suppress(PermissionError):  # dropped on its way out
                    target.sendto(b"server", (self._far, FIRST_SOURCE + number))


def opened(stack: ExitStack, namespace: str, address: str, port: int) -> socket.socket:
    with netns.inside(namespace):
        made = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    made.bind((address, port))
    return made


def tracked(lab: SessionLab) -> int:
    with netns.inside(lab.near.netns):
        return int(sysctl.read("netfilter/nf_conntrack_count"))


@dataclass(frozen=True, slots=True)
class Result:
    log: tuple[str, ...]
    reports: tuple[ApplyReport, ...]
    seconds: tuple[float, ...]


def desired(state: CloudState) -> Desired:
    """With sessions that live longer than the test."""
    enis = tuple(replace(eni, connection_tracking=LONG) for eni in state.network_interfaces)
    return desired_of(replace(state, network_interfaces=enis))


def run(scene: Scene, count: int) -> Result:
    """From a new table: fill the table of sessions, revoke them and allow them again, several times."""
    allowing, refusing = desired(DELETED.allowing(Way.INGRESS)), desired(DELETED.refusing(Way.INGRESS))
    remove(scene.lab.near.netns)
    sessions, reports, seconds = Untouched(), [], []
    with ExitStack() as stack:
        kernel = stack.enter_context(RecordingKernel(scene.lab.near.netns))
        apply(kernel, Untouched(), allowing, None, Settings())
        crowd = Crowd(scene.lab, stack, count)
        assert tracked(scene.lab) >= count
        kernel.log.clear()
        for _ in range(ROUNDS):
            for wanted, previous in ((refusing, allowing), (allowing, refusing)):
                started = time.perf_counter()
                reports.append(apply(kernel, sessions, wanted, previous, Settings()))
                seconds.append(time.perf_counter() - started)
                check_sample(scene, crowd, passes=wanted is allowing)
        assert tracked(scene.lab) >= count
        assert sessions.asked == []
    return Result(tuple(kernel.log), tuple(reports), tuple(seconds))


def check_sample(scene: Scene, crowd: Crowd, *, passes: bool) -> None:
    """Every packet of the sample comes to our hooks, and all of them pass or none, at either end."""
    for speak, way, arrival in ((crowd.clients_speak, "in", None), (crowd.servers_speak, "out", "in")):
        before = scene.counts()
        speak()
        wait_until(lambda: came(scene, before, f"{way}_before") == crowd.size)  # noqa: B023  (called here only)
        expected = crowd.size if passes else 0
        assert came(scene, before, f"{way}_after") == expected
        if arrival:
            assert came(scene, before, arrival) == expected


def came(scene: Scene, before: Counts, place: str) -> int:
    return grown(before, scene.counts())[place, "sample"]


def numbers(result: Result) -> list[Mapping[str, object]]:
    """What the reports say, but for the time it took."""
    return [{"epoch": r.epoch, "steps": (r.staged, r.switched, r.swept), "refill": r.is_refill} for r in result.reports]


@pytest.mark.parametrize("many", [5000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_revocation_costs_the_same_with_many_sessions(scene: Scene, many: int) -> None:
    few, crowded = run(scene, FEW), run(scene, many)
    assert few.log == crowded.log
    assert numbers(few) == numbers(crowded)
    assert few.log.count("commit") >= 2 * ROUNDS
    assert not any(report.is_refill for report in few.reports)
    medians = [f"{1000 * statistics.median(result.seconds):.1f} ms" for result in (few, crowded)]
    print(f"{FEW} sessions: {medians[0]}; {many}: {medians[1]}; {numbers(few)[0]}")

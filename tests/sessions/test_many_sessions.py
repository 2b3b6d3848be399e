"""Revocation costs the same with ten sessions in the table and with a hundred thousand.

The sessions are real: UDP from a neighbour, from many ports to many ports. The same transactions are run for either
number, none of them looks at the sessions, and a sample of these is refused at the next packet of either end.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from sgdataplane.contract.sites import INSTANCE
from sgdataplane.enforce import ApplyReport, KernelSessions, Settings, remove
from sgdataplane.host.conntrack import Bound
from sgdataplane.net.values import Prefix
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.transaction import Transaction
from tests.sessions.causes import CAUSES, Way
from tests.support.events.crowd import Crowd, CrowdScene, crowd_scene, tracked, with_long_sessions
from tests.support.inputs.building import apply

pytestmark = pytest.mark.traffic

FEW = 10
DELETED = CAUSES[0]  # the rule that lets all of the neighbour's packets in


@pytest.fixture(scope="module")
def scene(make_lab_name: Callable[[], str], placement: str) -> Iterator[CrowdScene]:
    with crowd_scene(make_lab_name(), placement) as scene:
        yield scene


class RecordingKernel(NetlinkKernel):
    """Notes what it is asked to do."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self.log: list[str] = []

    def run(self, *transactions: Transaction) -> None:
        super().run(*transactions)
        self.log += [*(without_own_numbers(line) for entry in transactions for line, _ in entry.lines()), "commit"]

    def settle(self) -> None:
        super().settle()
        self.log.append("settle")


def without_own_numbers(line: str) -> str:
    """The line without what is each table's own: the number of the commit, in the stamp and in the names of a copy, and
    the secret of the fence."""
    return re.sub(r"0x0000000[56] : 0x[0-9a-f]+|meta mark set 0x[0-9a-f]+|(?<=[\w-])\.\d+\b", "", line)


@dataclass
class Untouched:
    """The door to the sessions, that nobody may use."""

    asked: list[object] = field(default_factory=list)

    def forget_epochs(self, epochs: Collection[int], stamp: object) -> bool:  # noqa: ARG002
        self.asked.append(epochs)
        return True

    def seed(self, own: Collection[Prefix]) -> int:
        self.asked.append(own)
        return 0

    def shorten(self, longest: Bound) -> int:
        self.asked.append(longest)
        return 0

    def count(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Result:
    log: tuple[str, ...]
    reports: tuple[ApplyReport, ...]
    seconds: tuple[float, ...]


def run(scene: CrowdScene, count: int, rounds: int) -> Result:
    """From a new table: fill the table of sessions, revoke them and allow them again, several times."""
    states = (DELETED.allowing(Way.INGRESS), DELETED.refusing(Way.INGRESS))
    allowing, refusing = (scene.lab.site.desired(with_long_sessions(state)) for state in states)
    remove(scene.lab.site.netns)
    sessions, reports, seconds = Untouched(), [], []
    with ExitStack() as stack:
        kernel = stack.enter_context(RecordingKernel(scene.lab.site.netns))
        apply(kernel, KernelSessions(kernel.namespace, INSTANCE.marks), allowing, None, Settings())
        crowd = Crowd(scene.lab, stack, count)
        assert tracked(scene.lab) >= count
        kernel.log.clear()
        for _ in range(rounds):
            for wanted, previous in ((refusing, allowing), (allowing, refusing)):
                started = time.perf_counter()
                reports.append(apply(kernel, sessions, wanted, previous, Settings()))
                seconds.append(time.perf_counter() - started)
                scene.check_sample(crowd, passes=wanted is allowing)
        assert tracked(scene.lab) >= count
        assert sessions.asked == []
    return Result(tuple(kernel.log), tuple(reports), tuple(seconds))


def numbers(result: Result) -> list[Mapping[str, object]]:
    """What the reports say, but for the time it took."""
    return [
        {"epoch": r.epoch, "steps": (r.staged, r.switched, r.swept), "full-resync": r.is_full_resync}
        for r in result.reports
    ]


@pytest.mark.parametrize(("many", "rounds"), [(2000, 3), pytest.param(100_000, 7, marks=pytest.mark.slow)])
def test_revocation_costs_the_same_with_many_sessions(scene: CrowdScene, many: int, rounds: int) -> None:
    few, crowded = run(scene, FEW, rounds), run(scene, many, rounds)
    assert few.log == crowded.log
    assert numbers(few) == numbers(crowded)
    assert few.log.count("commit") >= 2 * rounds
    assert not any(report.is_full_resync for report in few.reports)
    medians = [f"{1000 * statistics.median(result.seconds):.1f} ms" for result in (few, crowded)]
    print(f"{FEW} sessions: {medians[0]}; {many}: {medians[1]}; {numbers(few)[0]}")

"""Checked TCP streams through many changes of the policy around them, all of which move the epoch.

They run both ways, towards the instance and from it, from and to a neighbour and a host outside, in both families.
"Lost nothing" is said twice: every byte arrived, with no reset; and every packet that was counted before our hooks, or
sent by the other host, was counted behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from sgdataplane.enforce import Settings
from sgdataplane.net.values import Family
from tests.support.events.steps import FIRST, state_at
from tests.support.probes.flood import wait_until
from tests.support.probes.streams import Route, Streams
from tests.support.probes.witness import OUTSIDE, Counts, Watch, Witness
from tests.support.scenes.sessionlab import SessionLab, session_lab

pytestmark = pytest.mark.traffic

IN_FAR, IN_OUTSIDE, OUT_FAR, OUT_OUTSIDE = range(5000, 5004)  # the ports, all among those that stay allowed


@dataclass(frozen=True, slots=True)
class Scene:
    lab: SessionLab
    near: Witness
    others: tuple[Witness, Witness]

    def counts(self) -> dict[str, Counts]:
        return {
            "near": self.near.counts(),
            **{where: witness.counts() for where, witness in zip(("far", "outside"), self.others, strict=True)},
        }


@pytest.fixture(scope="module")
def scene(make_lab_name: Callable[[], str], placement: str) -> Iterator[Scene]:
    ports = (IN_FAR, IN_OUTSIDE, OUT_FAR, OUT_OUTSIDE)
    watches = tuple(Watch(f"p{port}", (f"tcp sport {port}", f"tcp dport {port}")) for port in ports)
    with session_lab(make_lab_name(), placement) as lab:
        near = lab.site.witness(watches)
        others = (Witness(lab.far.netns, OUTSIDE, watches), Witness(lab.outside.netns, OUTSIDE, watches))
        for witness in (near, *others):
            witness.load()
        yield Scene(lab, near, others)


def routes(lab: SessionLab) -> list[Route]:
    near, far, outside = lab.near, lab.far, lab.outside
    return [
        Route(far.netns, near.netns, near.address(Family.IPV6), IN_FAR),
        Route(outside.netns, near.netns, near.address(Family.IPV4), IN_OUTSIDE),
        Route(near.netns, far.netns, far.address(Family.IPV4), OUT_FAR),
        Route(near.netns, outside.netns, outside.address(Family.IPV6), OUT_OUTSIDE),
    ]


def losses(counts: dict[str, Counts]) -> list[str]:
    """Where fewer packets came than were sent, a line each."""
    found = []
    for port, other in ((IN_FAR, "far"), (IN_OUTSIDE, "outside"), (OUT_FAR, "far"), (OUT_OUTSIDE, "outside")):
        name, near, there = f"p{port}", counts["near"], counts[other]
        inwards = (there["out", name], near["in_before", name], near["in_after", name])
        outwards = (near["out_before", name], near["out_after", name], there["in", name])
        found += [f"{name}: {way}" for way in (inwards, outwards) if len(set(way)) > 1 or not way[0]]
    return found


AMOUNTS = [
    pytest.param(False, 25, id="25 changes"),
    pytest.param(True, 12, id="12 full resyncs"),
    pytest.param(False, 1000, id="1000 changes", marks=pytest.mark.slow),
    pytest.param(True, 400, id="400 full resyncs", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("resync", "changes"), AMOUNTS)
def test_streams_lose_nothing_through_changes(scene: Scene, tmp_path: Path, resync: bool, changes: int) -> None:
    settings = Settings(resync=resync)
    scene.lab.apply(state_at(FIRST))
    streams = Streams(tmp_path, routes(scene.lab))
    with streams:
        for step in range(FIRST + 1, FIRST + 1 + changes):
            report = scene.lab.apply(state_at(step), settings)
            assert (report.changed, report.is_full_resync) == (True, resync)
        epochs = [report.epoch for report in scene.lab.reports[-changes - 1 :]]
        assert all(new == old % scene.lab.site.last_epoch + 1 for old, new in pairwise(epochs)), epochs
        streams.wait_for_more()
    streams.check()
    wait_until(lambda: not losses(scene.counts()), must=False)
    assert losses(scene.counts()) == []
    print(scene.near.counts())

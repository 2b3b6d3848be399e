"""What follows from the times of the lattice's commits, whatever machine they were taken on; and the lattice itself."""

from __future__ import annotations

import pytest

from sgdataplane.nft.pace import LEVELS, REMEMBERING, Pace, Times, judge, lattice_of, measure
from sgdataplane.nft.visits import Visits
from tests.support.oldkernel import OldKernel

VISITS = 100_000
MS = 1e-3


def times(*rows: tuple[float, float, float]) -> list[Times]:
    """Milliseconds, deep, beside and flat."""
    return [Times(deep * MS, beside * MS, flat * MS) for deep, beside, flat in rows]


@pytest.mark.parametrize(
    ("rows", "pace"),
    [
        ([(0.2, 0.2, 0.2)] * 5, REMEMBERING),
        ([(0.4, 0.2, 0.2), (0.3, 0.2, 0.2), (0.25, 0.2, 0.2)], REMEMBERING),
        ([(4.7, 4.6, 0.2)] * 5, Pace(remembers=False, ns_per_visit=45, is_wide=True)),
        ([(4.7, 0.3, 0.2)] * 5, Pace(remembers=False, ns_per_visit=45, is_wide=False)),
        ([(47, 46, 2)] * 5, Pace(remembers=False, ns_per_visit=450, is_wide=True)),
        ([(0.2, 0.2, 0.2), (0.2, 0.2, 0.2), (90, 90, 0.2)], REMEMBERING),
        ([(4.7, 4.7, 0.2), (4.7, 4.7, 0.2), (90, 90, 80)], Pace(remembers=False, ns_per_visit=45, is_wide=True)),
    ],
    ids=["remembers", "noisy", "walks", "of its own table", "ten times slower", "one long", "one long, all places"],
)
def test_ratios_decide(rows: list[tuple[float, float, float]], pace: Pace) -> None:
    found = judge(times(*rows), VISITS)
    assert (found.remembers, found.is_wide) == (pace.remembers, pace.is_wide)
    assert found.ns_per_visit == pytest.approx(pace.ns_per_visit)


def test_seconds_are_those_of_visits_unless_it_remembers() -> None:
    assert Pace(remembers=False, ns_per_visit=40).seconds(50_000_000) == 2
    assert REMEMBERING.seconds(10**15) == 0


def test_lattice_has_many_paths_and_few_chains() -> None:
    visits = Visits.of(lattice_of(LEVELS))
    assert visits.every_path == (3 ** (LEVELS + 1) - 1) // 2 > 80_000
    assert visits.remembered < 50


def test_measuring_walks_the_lattice_once_a_commit_and_when_it_is_made() -> None:
    """And hardly at all as its rules come; so what a bad kernel takes is bounded."""
    deep, flat = OldKernel(REMEMBERING), OldKernel(REMEMBERING)
    measure(deep, flat)
    paths = Visits.of(lattice_of(LEVELS)).every_path
    assert 0 <= deep.walked - 12 * paths < 200, "made, made beside, and five times at each of two places"
    assert flat.walked < 50

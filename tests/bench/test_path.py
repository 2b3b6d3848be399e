"""The path and the probes themselves: with our own filter, without one, and with one that lets everybody in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench.errors import BenchError
from bench.measures import Measure
from bench.ours import Ours
from bench.path import Ends, Path
from bench.policy import policy
from bench.probes import PROBES, denied
from bench.run import Stand, change
from bench.variants import OURS, Variant

pytestmark = pytest.mark.kernel


@pytest.fixture
def ends(lab_name: str) -> Iterator[Ends]:
    with Path(lab_name) as path:
        yield Ends(path)


def test_a_path_without_filter_lets_everybody_through(ends: Ends) -> None:
    ends.check(is_denying=False)
    with pytest.raises(BenchError, match="the stranger's packets are let through"):
        ends.check(is_denying=True)


def test_every_measure_has_a_figure_behind_our_filter_and_changes_take_effect(ends: Ends) -> None:
    ours = Ours(ends.path.receiver, ends.path.mac, policy(10))
    ours.load()
    ends.check(is_denying=True)
    figures = dict(change(Stand(Variant(OURS, 10), ends, ours)))
    for probe in (*PROBES, denied):
        figures.update(probe(ends, 0))
    assert set(figures) == set(Measure) - {Measure.LOAD}
    assert min(figures.values()) > 0


def test_a_change_that_does_nothing_is_noticed(ends: Ends) -> None:
    ours = Ours(ends.path.receiver, ends.path.mac, policy(10))
    ours.load()
    ours.add = lambda: None  # type: ignore[method-assign]
    with pytest.raises(BenchError, match="was not in force"):
        change(Stand(Variant(OURS, 10), ends, ours))

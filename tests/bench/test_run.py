"""A run: all variants take turns, and one that fails or takes too long doesn't hold up the others."""

from __future__ import annotations

import time
from pathlib import Path as FilePath

import pytest
from bench import run
from bench.costs import Figures
from bench.deadlines import no_longer_than
from bench.errors import BenchError
from bench.measures import Measure
from bench.path import Path
from bench.run import LEAST_ROUNDS, Plan, Run
from bench.variants import AUDITED, FLOOR, NO_FILTER, ON_TRIAL, OURS, Variant

MISSING = Variant("ufw", 1)
PLAN = Plan(
    (NO_FILTER, FLOOR, Variant(OURS, 1), Variant(AUDITED, 1), Variant(ON_TRIAL, 1), MISSING),
    loads=2,
    build_s=60,
    change_rounds=3,
    packet_rounds=LEAST_ROUNDS + 5,
    slice_s=0,
    packets_until=0,
    seconds=0,
    is_quick=True,
)


@pytest.mark.kernel
def test_each_round_has_a_sample_of_each_variant(
    lab_name: str, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time for packets is over from the beginning, so there are as many rounds as there must be."""
    monkeypatch.setattr(run, "make_path", lambda _, name: Path(f"{lab_name}{name}"))
    monkeypatch.setattr(run, "measure_costs", lambda *_, **__: Figures())
    results = Run(PLAN, tmp_path / "no-tree", seed=1).everything()
    assert results.not_run.keys() == {MISSING}
    counts = {
        measure: {variant.name: len(of) for variant, of in results.samples[measure].items()} for measure in Measure
    }
    assert counts[Measure.LOAD] == dict.fromkeys((OURS, AUDITED, ON_TRIAL), 2)
    assert counts[Measure.ADD] == counts[Measure.REMOVE] == {OURS: 3}
    assert counts[Measure.DENIED] == dict.fromkeys((OURS, ON_TRIAL), LEAST_ROUNDS)
    assert counts[Measure.AUDITED] == {AUDITED: LEAST_ROUNDS}
    every = (NO_FILTER.name, FLOOR.name, OURS, AUDITED, ON_TRIAL)
    assert counts[Measure.CONNECT] == dict.fromkeys(every, LEAST_ROUNDS)


def test_what_takes_longer_is_stopped() -> None:
    with no_longer_than(60):
        pass
    with pytest.raises(BenchError, match="stopped after 0 s"), no_longer_than(0.05):
        time.sleep(60)

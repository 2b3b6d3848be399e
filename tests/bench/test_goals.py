"""A goal is met, or is missed by so much, or says why it couldn't be measured. None is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.goals import Goal, goals
from bench.measures import Measure, Spread, differences, ratios, spread
from bench.report import report
from bench.results import Results, read
from bench.variants import FLOOR, MANY_ENIS, NO_FILTER, OURS, Variant, ours, peers

SIZES = (1, 100)
PEER = Variant("ufw", 100)


def made_results(cost: float = 1.0) -> Results:
    """A run of two rounds: the floor costs 100, ours `cost` times that, everything else 200."""
    results = Results((NO_FILTER, FLOOR, *ours(SIZES), *peers(SIZES)))
    for variant in results.variants:
        figure = 100.0 if variant == FLOOR else 100 * cost if variant.name in (OURS, MANY_ENIS) else 200.0
        for _ in range(2):
            results.note(variant, dict.fromkeys(Measure, figure))
    return results


def row(results: Results, beginning: str) -> Goal:
    (found,) = (goal for goal in goals(results) if goal.title.startswith(beginning))
    return found


@pytest.mark.parametrize(
    ("cost", "verdict"),
    [
        pytest.param(1.05, "met", id="at the limit"),
        pytest.param(1.26, "short by 20.0 %", id="a bit over"),
        pytest.param(10.5, "short by a factor of 10", id="far over"),
    ],
)
def test_cost_beside_the_floor(cost: float, verdict: str) -> None:
    assert row(made_results(cost), "established TCP, in: cost of ours, 1 to 100").verdict == verdict


@pytest.mark.parametrize(
    ("cost", "verdict"),
    [
        pytest.param(1.0, "met", id="twice as fast"),
        pytest.param(2.0, "met", id="equal"),
        pytest.param(2.5, "short by 25.0 %", id="slower"),
        pytest.param(8.0, "short by a factor of 4", id="much slower"),
    ],
)
@pytest.mark.parametrize(
    "title", ["new connections a second: speed of ours : ufw", "change of one rule: speed of ours : ufw"]
)
def test_speed_beside_a_peer(cost: float, verdict: str, title: str) -> None:
    assert row(made_results(cost), title).verdict == verdict


def test_many_rules_beside_one() -> None:
    results = made_results()
    results.samples[Measure.DENIED][Variant(OURS, 100)] = [125.0, 125.0]
    goal = row(results, "denied packets a second: ours with 100")
    assert goal.measured == Spread(0.8, 0.8, 0.8)
    assert goal.verdict == "short by 12.5 %"


def test_the_worst_number_of_rules_counts() -> None:
    results = made_results()
    results.samples[Measure.UDP_OUT][Variant(OURS, 1)] = [130.0, 130.0]
    assert row(results, "established UDP, out: cost of ours, 1 to 100").measured == Spread(1.3, 1.3, 1.3)


def test_a_peer_that_did_not_run_has_its_rows_all_the_same() -> None:
    results = made_results()
    everything = [goal.title for goal in goals(results)]
    results.give_up(PEER, "no such package")
    found = goals(results)
    assert [goal.title for goal in found] == everything
    unmet = [goal for goal in found if not goal.is_met]
    assert [goal.verdict for goal in unmet] == ["not measured: no such package"] * 2
    assert f"- {PEER}: no such package" in report(results, [])


def test_there_is_a_row_for_each_peer_from_100_rules_up() -> None:
    titles = [goal.title for goal in goals(made_results())]
    assert len(titles) == len(set(titles)) == 8 + 2 + 2 * 6


def test_ratios_and_differences_pair_the_samples_of_a_round() -> None:
    assert ratios([2.0, 30.0], [1.0, 10.0]) == [2.0, 3.0]
    assert differences([2.0, 30.0], [1.0, 10.0]) == [1.0, 20.0]
    assert spread([1.0, 2.0, 3.0, 4.0, 100.0]) == Spread(2.0, 3.0, 4.0)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = made_results(1.5)
    results.facts["kernel"] = "6.1"
    results.give_up(PEER, "no such package")
    results.write(tmp_path / "results.json")
    assert report(read(tmp_path / "results.json"), []) == report(results, [])

"""A goal is met, or is missed by so much, or says why it couldn't be measured. None is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.costs import FULL_ONLY
from bench.goals import Goal, goals, sections
from bench.measures import Measure, Spread, differences, ratios, spread
from bench.report import RECORDS, report
from bench.results import Results, read
from bench.variants import ALL_PEERS, AUDITED, HOST, INSTANCE, ON_TRIAL, OURS, Variant, variants

PEER = Variant("ufw", 100)
FULL = variants((1, 100, 1000), (32,), (1000,), (256,), tuple(ALL_PEERS))
QUICK = variants((1, 1000), (32,), (1000,), (), ())


def made_results(cost: float = 1.0, asked: tuple[Variant, ...] = FULL) -> Results:
    """A run of two rounds: the floors cost 100, ours `cost` times that, everything else 200."""
    results = Results(asked)
    for variant in results.variants:
        is_ours = variant.name in (OURS, INSTANCE, HOST)
        figure = 100.0 if variant == variant.floor else 100 * cost if is_ours else 200.0
        for _ in range(2):
            results.note(variant, dict.fromkeys(Measure, figure))
    return results


def row(results: Results, beginning: str) -> Goal:
    (found,) = (goal for goal in goals(results) if goal.title.startswith(beginning))
    return found


@pytest.mark.parametrize(
    ("cost", "verdict"),
    [
        pytest.param(1.07, "met", id="at the limit"),
        pytest.param(1.284, "short by 20.0 %", id="a bit over"),
        pytest.param(10.7, "short by a factor of 10.0", id="far over"),
    ],
)
def test_cost_beside_the_floor(cost: float, verdict: str) -> None:
    assert row(made_results(cost), "established TCP, out: cost of ours, 1 ENI").verdict == verdict


@pytest.mark.parametrize(
    ("direction", "enis", "limit"),
    [
        ("in", "1 ENI", 1.03),
        ("out", "1 ENI", 1.07),
        ("in", "32 ENIs", 1.05),
        ("out", "32 ENIs", 1.10),
        ("in", "1,000 ENIs, host placement", 1.10),
        ("out", "1,000 ENIs, host placement", 1.10),
    ],
)
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_each_direction_and_number_of_enis_has_its_limit(
    protocol: str, direction: str, enis: str, limit: float
) -> None:
    assert row(made_results(), f"established {protocol}, {direction}: cost of ours, {enis}").limit == limit


def test_host_placement_is_measured_beside_its_own_floor() -> None:
    results = made_results()
    results.samples[Measure.UDP_IN][Variant(HOST, 1000).floor] = [50.0, 50.0]
    assert row(results, "established UDP, in: cost of ours, 1,000 ENIs").measured == Spread(2.0, 2.0, 2.0)
    assert row(results, "established UDP, in: cost of ours, 32 ENIs").measured == Spread(1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("cost", "verdict"),
    [
        pytest.param(1.0, "met", id="twice as fast"),
        pytest.param(2.0, "met", id="equal"),
        pytest.param(2.5, "short by 25.0 %", id="slower"),
        pytest.param(8.0, "short by a factor of 4.0", id="much slower"),
    ],
)
@pytest.mark.parametrize(
    "title", ["new connections a second: ours : ufw, 100 ", "change of one rule: ours : ufw, 100 "]
)
def test_speed_beside_a_peer(cost: float, verdict: str, title: str) -> None:
    assert row(made_results(cost), title).verdict == verdict


def test_many_rules_beside_one() -> None:
    results = made_results()
    results.samples[Measure.DENIED][Variant(OURS, 1000)] = [200.0, 200.0]
    goal = row(results, "denied packets a second: ours with 1,000")
    assert goal.measured == Spread(0.5, 0.5, 0.5)
    assert goal.verdict == "short by 90.0 %"


@pytest.mark.parametrize(("name", "what"), [(AUDITED, "audit mode"), (ON_TRIAL, "a trial")])
def test_what_observes_is_measured_beside_the_same_policy_without(name: str, what: str) -> None:
    results = made_results()
    results.samples[Measure.UDP_IN][Variant(name, 1000)] = [103.0, 103.0]
    results.samples[Measure.CONNECT][Variant(name, 1000)] = [102.0, 102.0]
    goal = row(results, f"established UDP, in: cost with {what}")
    assert (goal.wanted, goal.verdict) == ("at most 1.01", "short by 2.0 %")
    assert row(results, f"new connections a second: with {what}").verdict == "met"


def test_the_worst_number_of_rules_counts() -> None:
    results = made_results()
    results.samples[Measure.UDP_OUT][Variant(OURS, 1)] = [130.0, 130.0]
    assert row(results, "established UDP, out: cost of ours, 1 ENI").measured == Spread(1.3, 1.3, 1.3)


def test_additions_and_removals_of_one_rule_are_one_pool() -> None:
    results = made_results()
    results.samples[Measure.ADD][Variant(OURS, 1000)] = [4.0, 6.0]
    results.samples[Measure.REMOVE][Variant(OURS, 1000)] = [8.0, 10.0]
    goal = row(results, "one rule of 1,000 comes or goes")
    assert (goal.measured, goal.wanted, goal.verdict) == (Spread(5.5, 7.0, 8.5), "at most 10 ms", "met")


def test_a_peer_that_did_not_run_has_its_rows_all_the_same() -> None:
    results = made_results()
    everything = [goal.title for goal in goals(results)]
    results.give_up(PEER, "no such package")
    found = goals(results)
    assert [goal.title for goal in found] == everything
    unmet = [goal for goal in found if goal.title.endswith(str(PEER))]
    assert [goal.verdict for goal in unmet] == ["not measured: no such package"] * 2
    assert f"- {PEER}: no such package" in report(results, [])


def test_a_quick_run_has_the_same_rows_and_says_which_are_not_its_own() -> None:
    quick = made_results(asked=QUICK)
    assert [goal.title for goal in goals(quick)[-23:]] == [goal.title for goal in goals(made_results())[-23:]]
    assert row(quick, "new connections a second: ours : ufw, 100 ").verdict == FULL_ONLY
    assert row(quick, "established TCP, in: cost of ours, 32 ENIs").verdict == "met"


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


def test_each_section_names_the_records_of_what_was_tried() -> None:
    text = report(made_results(), ())
    for section in sections(made_results()):
        assert section.records
        for record in section.records:
            (path,) = RECORDS.glob(f"{record}-*.md")
            assert f"[{record}](../../../docs/decisions/{path.name})" in text

"""What the plots show: a line for each filter that was measured at several sizes, and for the agent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench.costs import Figures, commands
from bench.growth import AGENT, FULL_HOST, PICTURES, Panel, floors, lines, ticks
from bench.measures import Measure
from bench.results import Results
from bench.variants import ALL_PEERS, FLOOR, HOST, INSTANCE, MEMBERS, OURS, UNFENCED, Axis, variants

SIZES = ((1, 10, 100), (1, 2, 8, 32), (1, 1000), (256, 4096))


def made_results() -> Results:
    """Each path without filter costs 100, the floors 120, and what has a policy 100 and its size."""
    results = Results(variants(*SIZES, tuple(ALL_PEERS)))
    for variant in results.variants:
        figure = 120.0 if variant == variant.floor else 100.0 + variant.size
        results.note(variant, dict.fromkeys(Measure, figure))
    results.figures = Figures({"agent-20.change_rule_ms": [5.0], "agent.change_rule_ms": [7.0], "host.rule": [0.3]})
    return results


def panels() -> Iterator[Panel]:
    for _, _, found in PICTURES:
        yield from found


def panel(picture: str, axis: Axis) -> Panel:
    """The first of that picture on that axis."""
    return next(panel for _, name, panels in PICTURES for panel in panels if (name, panel.axis) == (picture, axis))


@pytest.mark.parametrize(
    ("axis", "names"),
    [
        (Axis.RULES, {OURS}),
        (Axis.ENIS, {INSTANCE, HOST}),
        (Axis.MEMBERS, {MEMBERS}),
    ],
)
def test_each_axis_has_a_line_for_ours_and_for_each_peer_on_it(axis: Axis, names: set[str]) -> None:
    results = made_results()
    peers = {variant.name for variant in results.variants if variant.axis is axis and variant.name in ALL_PEERS}
    assert peers
    found = dict(lines(results, panel("connections", axis)))
    assert found.keys() == names | peers
    assert UNFENCED not in found  # it has one size


def test_a_packet_is_shown_as_what_the_filter_adds_to_its_own_path() -> None:
    points = dict(lines(made_results(), panel("enis", Axis.ENIS)))
    assert [(size, found.median) for size, found in points[HOST]] == [(1, 1.0), (1000, 1000.0)]


def test_figures_of_commands_are_lines_if_there_are_two_of_them() -> None:
    found = dict(lines(made_results(), panel("changes", Axis.ENIS)))
    assert [(size, spread.median) for size, spread in found[AGENT]] == [(20, 5.0), (1000, 7.0)]
    assert FULL_HOST not in found


def test_figures_are_of_commands_that_there_are() -> None:
    names = {command.name for command in commands()}
    figures = [name for panel in panels() for found in (panel.figures or {}).values() for name, _ in found.values()]
    assert figures
    assert {name.rpartition(".")[0] for name in figures} <= names


def test_each_path_has_its_floor() -> None:
    results = made_results()
    assert floors(results, panel("cost", Axis.RULES)) == [("the floor", 20.0)]
    assert len(floors(results, panel("connections", Axis.ENIS))) == 2
    results.give_up(FLOOR, "no")
    assert floors(results, panel("connections", Axis.RULES)) == []


def test_ticks_are_the_sizes_or_of_many_the_powers_of_ten() -> None:
    assert ticks(made_results(), panel("connections", Axis.MEMBERS)) == [256, 4096]
    assert ticks(made_results(), panel("changes", Axis.ENIS)) == [1, 1000]

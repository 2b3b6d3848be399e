"""A run as Markdown: the goals, the figures, what wasn't run, and the machine it ran on.

Owns wording and rounding. It is given results. Must not know how they were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from bench.compiler import Cost
from bench.goals import Goal, goals
from bench.measures import ESTABLISHED, Measure, Spread, differences, ratios, spread
from bench.results import Results
from bench.variants import FLOOR, NO_FILTER, Variant

NONE = "-"
PACKETS = (*ESTABLISHED, Measure.ONE_WAY)
Cell = Callable[[Variant], str]


def report(results: Results, plots: Sequence[tuple[str, str]]) -> str:
    """The whole report. `plots`: the title and file of each plot."""
    found = goals(results)
    parts = (
        "# Benchmark\n",
        table(("", ""), results.facts.items()),
        f"\n## Goals: {sum(goal.is_met for goal in found)} of {len(found)} met\n",
        "Ratios are taken round by round; the median of them, and their quartiles.\n",
        table(("goal", "wanted", "measured", "quartiles", "verdict"), map(_goal_row, found)),
        *_costs(results.costs),
        *_figures(results),
        *(f"\n## {title}\n\n![{title}]({file})" for title, file in plots),
        "\n## Peers\n",
        table(("peer", "Debian packages"), results.versions.items()),
        "\nNot run:\n" if results.not_run else "\nAll of them ran.",
        *(f"- {variant}: {why}" for variant, why in results.not_run.items()),
    )
    return "\n".join(parts) + "\n"


def _goal_row(goal: Goal) -> tuple[str, ...]:
    if goal.measured is None:
        return (goal.title, goal.wanted, NONE, NONE, goal.verdict)
    measured, digits = goal.measured, 3 if goal.measured.median < 10 else 0
    quartiles = f"{measured.low:,.{digits}f} to {measured.high:,.{digits}f}"
    return (goal.title, goal.wanted, f"{measured.median:,.{digits}f}", quartiles, goal.verdict)


def _costs(found: Sequence[Cost]) -> Iterator[str]:
    if not found:
        yield "\n## Compiling and changing: in full runs only"
        return
    yield f"\n## Compiling and changing: {sum(cost.is_met for cost in found)} of {len(found)} goals met\n"
    yield "Ours alone; the median, where there are several samples.\n"
    yield table(("goal", "at most", "measured", "verdict"), map(_cost_row, found))


def _cost_row(cost: Cost) -> tuple[str, ...]:
    measured = f"{cost.median:,.1f} {cost.unit}" if cost.samples else NONE
    return cost.title, f"{cost.limit:,.0f} {cost.unit}", measured, cost.verdict


def _figures(results: Results) -> Iterator[str]:
    yield "\n## What a filter adds to a packet, ns\n"
    yield (
        "Beside a path without filter, whose own cost, sender and receiver included, is the first row. Median, and "
        "half the distance of the quartiles.\n"
    )
    yield _by_variant(results, PACKETS, lambda measure: lambda variant: _added(results, measure, variant))
    yield "\n## Cost of an established packet's whole path : the same with the floor\n"
    yield _by_variant(results, ESTABLISHED, lambda measure: lambda variant: _beside_floor(results, measure, variant))
    yield "\n## Rates on one processor, a second\n"
    rated = (Measure.CONNECT, Measure.DENIED)
    yield _by_variant(results, rated, lambda measure: lambda variant: _rate(results, measure, variant))
    yield "\n## Loading and changing, ms\n"
    yield (
        "Load: from nothing. A change is in force when its time ends, which packets confirm. Ours is a call of "
        "`enforce()` in a running process; the peers' are the commands that their users type.\n"
    )
    commands = (Measure.LOAD, Measure.ADD, Measure.REMOVE)
    yield _by_variant(results, commands, lambda measure: lambda variant: _plain(results, measure, variant))


def _by_variant(results: Results, measures: Sequence[Measure], cell: Callable[[Measure], Cell]) -> str:
    """A table of the variants that have figures."""
    cells = [cell(measure) for measure in measures]
    rows = [(str(variant), *(of_measure(variant) for of_measure in cells)) for variant in results.variants]
    filled = [row for row in rows if any(text != NONE for text in row[1:])]
    return table(("", *(measure.value for measure in measures)), filled)


def _added(results: Results, measure: Measure, variant: Variant) -> str:
    if variant == NO_FILTER:
        return _plain(results, measure, variant)
    return _beside(results, measure, variant, NO_FILTER, lambda a, b: _number(spread(differences(a, b)), sign="+"))


def _beside_floor(results: Results, measure: Measure, variant: Variant) -> str:
    if variant in (NO_FILTER, FLOOR):
        return NONE
    return _beside(results, measure, variant, FLOOR, lambda a, b: _number(spread(ratios(a, b)), digits=3))


def _beside(
    results: Results,
    measure: Measure,
    variant: Variant,
    base: Variant,
    said: Callable[[list[float], list[float]], str],
) -> str:
    samples = results.samples[measure]
    return said(samples[variant], samples[base]) if variant in samples and base in samples else NONE


def _rate(results: Results, measure: Measure, variant: Variant) -> str:
    samples = results.samples[measure].get(variant)
    return _number(spread([1e9 / sample for sample in samples])) if samples else NONE


def _plain(results: Results, measure: Measure, variant: Variant) -> str:
    samples = results.samples[measure].get(variant)
    if not samples:
        return NONE
    found = spread(samples)
    return _number(found, digits=1 if found.median < 100 else 0)


def _number(found: Spread, digits: int = 0, sign: str = "") -> str:
    return f"{found.median:{sign},.{digits}f} ± {found.half:,.{digits}f}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table, whose first column is text and whose other columns are numbers."""
    names = tuple(head)
    lines = (names, ("---", *("---:" for _ in names[1:])), *rows)
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)

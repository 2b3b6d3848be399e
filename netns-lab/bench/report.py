"""A run as Markdown: the goals, the figures, what wasn't run, and the machine it ran on.

Owns wording and rounding. It is given results. Must not know how they were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from bench.goals import Goal, Section, goals, sections
from bench.measures import ESTABLISHED, Measure, Spread, differences, ratios, spread
from bench.results import Results
from bench.variants import Variant

NONE = "-"
RECORDS = Path(__file__).resolve().parents[2] / "docs" / "decisions"
PACKETS = (*ESTABLISHED, Measure.ONE_WAY)
Cell = Callable[[Variant], str]


def report(results: Results, plots: Sequence[tuple[str, str]]) -> str:
    """The whole report. `plots`: the title and file of each plot."""
    parts = (
        "# Benchmark\n",
        table(("", ""), results.facts.items()),
        f"\n## Goals: {_score(goals(results))}\n",
        "Medians, and quartiles where there are several samples.",
        *(text for section in sections(results) for text in _section(section)),
        *_figures(results),
        *(f"\n## {title}\n\n![{title}]({file})" for title, file in plots),
        "\n## Peers\n",
        table(("peer", "Debian packages"), results.versions.items()),
        "\nNot run:\n" if results.not_run else "\nAll of them ran.",
        *(f"- {variant}: {why}" for variant, why in results.not_run.items()),
    )
    return "\n".join(parts) + "\n"


def _score(found: Sequence[Goal]) -> str:
    """How many goals are met, of those that this run measures."""
    counted = [goal for goal in found if goal.is_counted]
    elsewhere = sum(goal.is_full_only for goal in found)
    rest = f"; {elsewhere} more rows are in full runs only" if elsewhere else ""
    return f"{sum(goal.is_met for goal in counted)} of {len(counted)} met{rest}"


def _section(section: Section) -> Iterator[str]:
    yield f"\n### {section.title}\n"
    yield f"{section.about}\n"
    yield table(("goal", "wanted", "measured", "quartiles", "verdict"), map(_goal_row, section.goals))
    yield f"\nWhat was tried for rows that are short: decision records {', '.join(map(_link, section.records))}."


def _link(record: str) -> str:
    """From netns-lab/bench/results."""
    (path,) = RECORDS.glob(f"{record}-*.md")
    return f"[{record}](../../../docs/decisions/{path.name})"


def _goal_row(goal: Goal) -> tuple[str, ...]:
    if goal.measured is None:
        return (goal.title, goal.wanted, NONE, NONE, goal.verdict)
    found = goal.measured
    quartiles = f"{rounded(found.low, goal)} to {rounded(found.high, goal)}" if found.half else NONE
    return (goal.title, goal.wanted, f"{rounded(found.median, goal)} {goal.unit}".strip(), quartiles, goal.verdict)


def rounded(number: float, goal: Goal) -> str:
    """A ratio with three digits after the point, and what has a unit with three digits in all, if it has no more."""
    if not goal.unit:
        return f"{number:,.{3 if number < 10 else 0}f}"
    return f"{number:,.{2 if number < 10 else 1 if number < 100 else 0}f}"


def _figures(results: Results) -> Iterator[str]:
    yield "\n## What a filter adds to a packet, ns\n"
    yield (
        "Beside the same path without filter, whose own cost, sender and receiver included, is in the rows without "
        "sign. Median, and half the distance of the quartiles.\n"
    )
    yield _by_variant(results, PACKETS, lambda measure: lambda variant: _added(results, measure, variant))
    yield "\n## Cost of an established packet's whole path : the same with the floor\n"
    yield _by_variant(results, ESTABLISHED, lambda measure: lambda variant: _beside_floor(results, measure, variant))
    yield "\n## Rates on one processor, a second\n"
    rated = (Measure.CONNECT, Measure.DENIED)
    yield _by_variant(results, rated, lambda measure: lambda variant: _rate(results, measure, variant))
    yield "\n## Loading and changing, ms\n"
    yield (
        "Load: from nothing. A change is a rule, or a member where members grow; it is in force when its time ends, "
        "which packets confirm. Ours is `build()`, proof included, and `enforce()` in a running process; the peers' "
        "are the commands that their users type.\n"
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
    if variant == variant.bare:
        return _plain(results, measure, variant)
    return _beside(results, measure, variant, variant.bare, lambda a, b: _number(spread(differences(a, b)), sign="+"))


def _beside_floor(results: Results, measure: Measure, variant: Variant) -> str:
    if variant in (variant.bare, variant.floor):
        return NONE
    return _beside(results, measure, variant, variant.floor, lambda a, b: _number(spread(ratios(a, b)), digits=3))


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

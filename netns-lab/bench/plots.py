"""A run as pictures, in PNG and SVG: what a packet, a connection and a change cost, by the number of rules.

Owns how they look. It is given results. Must not know how they were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.measures import Measure, Spread, differences, spread
from bench.results import Results
from bench.variants import FLOOR, NO_FILTER, OURS, Variant

Axes = Any  # matplotlib is not type-checked here
Samples = Callable[[Results, Variant], "list[float] | None"]
LEGEND_COLUMNS = 4
INK, OURS_COLOUR = "#333333", "#0072B2"
# Okabe and Ito's colours, which colour-blind readers tell apart; with a marker each, for those who print.
STYLES = (("#D55E00", "s"), ("#E69F00", "^"), ("#009E73", "v"), ("#CC79A7", "D"), ("#56B4E9", "P"), ("#7F7F7F", "X"))


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes: its title, the label and scale of the vertical axis, and the source of its samples."""

    title: str
    label: str
    samples: Samples
    scale: str = "log"


def draw(results: Results, folder: Path) -> list[tuple[str, str]]:
    """Write the pictures. Return the title and the PNG file's name of each."""
    pictures = (
        ("Cost of a packet against the number of rules", "cost", COST),
        ("New connections against the number of rules", "connections", CONNECTIONS),
        ("Time to change one rule against the number of rules", "changes", CHANGES),
    )
    for title, name, panels in pictures:
        _draw(results, title, panels, folder / name)
    return [(title, f"{name}.png") for title, name, _ in pictures]


def _added(measure: Measure) -> Samples:
    """ns more than on a path without a filter."""

    def samples(results: Results, variant: Variant) -> list[float] | None:
        found, base = results.samples[measure].get(variant), results.samples[measure].get(NO_FILTER)
        return differences(found, base) if found and base else None

    return samples


def _both_ways(results: Results, variant: Variant) -> list[float] | None:
    """The mean of a packet to the instance and a packet from it."""
    ways = [_added(measure)(results, variant) for measure in (Measure.UDP_IN, Measure.UDP_OUT)]
    return [sum(pair) / 2 for pair in zip(*ways, strict=True)] if all(ways) else None


def _rate(measure: Measure) -> Samples:
    def samples(results: Results, variant: Variant) -> list[float] | None:
        found = results.samples[measure].get(variant)
        return [1e9 / sample for sample in found] if found else None

    return samples


def _change(results: Results, variant: Variant) -> list[float] | None:
    """ms for one change: the mean of an addition and a removal."""
    added, removed = (results.samples[measure].get(variant, []) for measure in (Measure.ADD, Measure.REMOVE))
    return [(a + b) / 2 for a, b in zip(added, removed, strict=True)] or None


COST = (
    Panel("established UDP, mean of both directions", "ns a packet, added by the filter", _both_ways, "linear"),
    Panel("one-way UDP, which no reply ever confirms", "ns a packet, added by the filter", _added(Measure.ONE_WAY)),
)
CONNECTIONS = (
    Panel("TCP, opened and closed", "connections a second, one processor", _rate(Measure.CONNECT), "linear"),
)
CHANGES = (Panel("one rule added or removed", "ms until it is in force", _change),)


def _draw(results: Results, title: str, panels: Sequence[Panel], target: Path) -> None:
    style = {"svg.hashsalt": "bench", "svg.fonttype": "none", "font.family": "sans-serif", "text.color": INK}
    with rc_context(style):
        figure = Figure(figsize=(2 + 5 * len(panels), 4.6))
        axes = figure.subplots(1, len(panels), squeeze=False)
        for panel, place in zip(panels, axes[0], strict=True):
            _fill(results, panel, place)
        figure.suptitle(title)
        handles, labels = axes[0][0].get_legend_handles_labels()
        rows = -(-len(labels) // LEGEND_COLUMNS)
        figure.legend(handles, labels, loc="lower center", ncols=LEGEND_COLUMNS, frameon=False, fontsize=8)
        figure.tight_layout(rect=(0, 0.055 * rows + 0.01, 1, 1))
        figure.savefig(target.with_suffix(".png"), dpi=150)
        figure.savefig(target.with_suffix(".svg"), metadata={"Date": None})


def _fill(results: Results, panel: Panel, place: Axes) -> None:
    """A line for each variant that was measured at several numbers of rules. Its bars are the quartiles."""
    styles = iter(STYLES)
    for name in dict.fromkeys(variant.name for variant in results.variants):
        points = [
            (variant.rules, spread(samples))
            for variant in results.variants
            if variant.name == name and (samples := panel.samples(results, variant))
        ]
        if len(points) < 2:
            continue
        colour, marker = (OURS_COLOUR, "o") if name == OURS else next(styles)
        _line(place, name, points, (colour, marker))
    floor = panel.samples(results, FLOOR)
    if floor:
        place.axhline(spread(floor).median, color=INK, linestyle=":", linewidth=1.3, label="the floor")
    place.set_xscale("log")
    place.set_yscale(panel.scale)
    for axis in (place.xaxis, place.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if panel.scale == "linear":
        place.set_ylim(bottom=0)
    place.set_title(panel.title, fontsize=10)
    place.set_xlabel("rules; the one that decides is the last")
    place.set_ylabel(panel.label)
    place.grid(visible=True, which="major", color="#DDDDDD", linewidth=0.6)
    place.spines[["top", "right"]].set_visible(False)


def _line(place: Axes, name: str, points: Sequence[tuple[int, Spread]], style: tuple[str, str]) -> None:
    colour, marker = style
    rules = [count for count, _ in points]
    medians = [found.median for _, found in points]
    bars = ([found.median - found.low for _, found in points], [found.high - found.median for _, found in points])
    is_ours = name == OURS
    place.errorbar(
        rules,
        medians,
        yerr=bars,
        label=name,
        color=colour,
        marker=marker,
        markersize=6 if is_ours else 5,
        linewidth=2.6 if is_ours else 1.3,
        capsize=2,
        zorder=3 if is_ours else 2,
    )

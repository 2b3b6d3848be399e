"""A run as pictures, in PNG and SVG: what grows with the number of rules, ENIs and members.

Owns how they look. It is given results. Must not know how they were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatter, NullFormatter

from bench.costs import AGENTS, HOSTS
from bench.measures import Measure, Spread, differences, spread
from bench.results import Results
from bench.variants import HOST, INSTANCE, MEMBERS, OURS, Axis, Variant

Axes = Any  # matplotlib is not type-checked here
Samples = Callable[[Results, Variant], "list[float] | None"]
Points = list[tuple[int, Spread]]
INK = "#333333"
# Okabe and Ito's colours, which colour-blind readers tell apart; with a marker each, for those who print.
STYLES = (("#D55E00", "s"), ("#E69F00", "^"), ("#009E73", "v"), ("#CC79A7", "D"), ("#7F7F7F", "P"), ("#000000", "X"))
HORIZONTAL = {
    Axis.RULES: "rules; the one that decides is the last",
    Axis.ENIS: "ENIs on the host; the one that is asked for is the last",
    Axis.MEMBERS: "members of the group or set",
}


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes: its title, the label and scale of the vertical axis, what grows, and the source of its samples.
    `figures`: further lines, from commands: name -> {size: (name of the figure, factor)}."""

    title: str
    label: str
    axis: Axis
    samples: Samples
    scale: str = "log"
    figures: Mapping[str, Mapping[int, tuple[str, float]]] | None = None


def draw(results: Results, folder: Path) -> list[tuple[str, str]]:
    """Write the pictures that have a line. Return the title and the PNG file's name of each."""
    drawn = []
    for title, name, panels in PICTURES:
        filled = [panel for panel in panels if any(True for _ in _lines(results, panel))]
        if filled:
            _draw(results, title, filled, folder / name)
            drawn.append((title, f"{name}.png"))
    return drawn


def _added(measure: Measure) -> Samples:
    """ns more than on the same path without a filter."""

    def samples(results: Results, variant: Variant) -> list[float] | None:
        found, base = results.samples[measure].get(variant), results.samples[measure].get(variant.bare)
        return differences(found, base) if found and base else None

    return samples


def _both_ways(results: Results, variant: Variant) -> list[float] | None:
    """The mean of a packet to the instance and a packet from it."""
    ways = [_added(measure)(results, variant) for measure in (Measure.UDP_IN, Measure.UDP_OUT)]
    return [sum(pair) / 2 for pair in zip(*ways, strict=True)] if all(ways) else None


def _connection(results: Results, variant: Variant) -> list[float] | None:
    """µs more than on the same path without a filter."""
    found = _added(Measure.CONNECT)(results, variant)
    return [sample / 1000 for sample in found] if found else None


def _change(results: Results, variant: Variant) -> list[float] | None:
    """ms for one change: the mean of an addition and a removal."""
    added, removed = (results.samples[measure].get(variant, []) for measure in (Measure.ADD, Measure.REMOVE))
    return [(a + b) / 2 for a, b in zip(added, removed, strict=True)] or None


def _load(results: Results, variant: Variant) -> list[float] | None:
    return results.samples[Measure.LOAD].get(variant)


def _named(commands: str, sizes: Sequence[int], what: str, factor: float) -> dict[int, tuple[str, float]]:
    """The figure of each size's command, and of 1,000."""
    found = {size: (f"{commands}-{size}.{what}", factor) for size in sizes}
    return {**found, 1000: (f"{commands}.{what}", factor)}


AGENT, FULL_HOST = "our agent, a namespace an ENI", "ours, full hosts (bench.hostcost)"
CHANGES = {
    AGENT: _named("agent", AGENTS, "change_rule_ms", 1),
    FULL_HOST: _named("host", HOSTS, "rule", 1000),
}
LOADS = {
    AGENT: _named("agent", AGENTS, "cold_start_s", 1000),
    FULL_HOST: _named("host", HOSTS, "program", 1000),
}
BLUE, LIGHT, DARK, PALE = "#0072B2", "#56B4E9", "#003D5C", "#8FB8D0"
OWN = {
    OURS: (BLUE, "o"),
    INSTANCE: (BLUE, "o"),
    HOST: (LIGHT, "o"),
    MEMBERS: (BLUE, "o"),
    AGENT: (DARK, "<"),
    FULL_HOST: (PALE, ">"),
}
ADDED, MICROS, MILLIS = "ns a packet, added by the filter", "µs a connection, added by the filter", "ms until in force"
PICTURES: Sequence[tuple[str, str, Sequence[Panel]]] = (
    (
        "Cost of a packet against the number of rules",
        "cost",
        (
            Panel("established UDP, mean of both directions", ADDED, Axis.RULES, _both_ways, "linear"),
            Panel("one-way UDP, which no reply ever confirms", ADDED, Axis.RULES, _added(Measure.ONE_WAY)),
        ),
    ),
    (
        "Cost of a new connection against rules, ENIs and members",
        "connections",
        tuple(Panel("TCP, opened and closed", MICROS, axis, _connection) for axis in Axis),
    ),
    (
        "Time of one change against rules, ENIs and members",
        "changes",
        (
            Panel("one rule added or removed", MILLIS, Axis.RULES, _change),
            Panel("one rule of one ENI, or of ten", MILLIS, Axis.ENIS, _change, figures=CHANGES),
            Panel("one member joins or leaves", MILLIS, Axis.MEMBERS, _change),
        ),
    ),
    (
        "Cost of an established packet, and of a load from nothing, against the number of ENIs",
        "enis",
        (
            Panel("established UDP, mean of both directions", ADDED, Axis.ENIS, _both_ways, "linear"),
            Panel("everything from nothing (of full hosts without compile)", MILLIS, Axis.ENIS, _load, figures=LOADS),
        ),
    ),
)


def _lines(results: Results, panel: Panel) -> Iterator[tuple[str, Points]]:
    """Each line's name and points: variants and figures that were measured at several sizes."""
    names = dict.fromkeys(variant.name for variant in results.variants if variant.axis is panel.axis)
    of_variants = ((name, _points(results, panel, name)) for name in names)
    of_figures = ((name, _figures(results, found)) for name, found in (panel.figures or {}).items())
    for name, points in chain(of_variants, of_figures):
        if len(points) > 1:
            yield name, points


def _points(results: Results, panel: Panel, name: str) -> Points:
    """Of variants that have a policy."""
    return [
        (variant.size, spread(samples))
        for variant in results.variants
        if variant.name == name and variant.size and (samples := panel.samples(results, variant))
    ]


def _figures(results: Results, found: Mapping[int, tuple[str, float]]) -> Points:
    named = {size: (results.figures.of(name), factor) for size, (name, factor) in found.items()}
    return [(n, spread([factor * sample for sample in samples])) for n, (samples, factor) in named.items() if samples]


def _draw(results: Results, title: str, panels: Sequence[Panel], target: Path) -> None:
    style = {"svg.hashsalt": "bench", "svg.fonttype": "none", "font.family": "sans-serif", "text.color": INK}
    with rc_context(style):
        figure = Figure(figsize=(2 + 5 * len(panels), 5.4), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)
        for panel, place in zip(panels, axes[0], strict=True):
            _fill(results, panel, place)
        figure.suptitle(title)
        figure.savefig(target.with_suffix(".png"), dpi=150)
        figure.savefig(target.with_suffix(".svg"), metadata={"Date": None})


def _fill(results: Results, panel: Panel, place: Axes) -> None:
    """A line for each name. Its bars are the quartiles."""
    others = iter(STYLES)
    for name, points in _lines(results, panel):
        is_own = name in OWN
        _line(place, name, points, OWN[name] if is_own else next(others), is_own=is_own)
    floors = {variant.floor for variant in results.variants if variant.axis is panel.axis and variant.size}
    for floor, dashes in zip(sorted(floors, key=str), (":", "-."), strict=False):
        samples = panel.samples(results, floor)
        if samples:
            label = "the floor in a router" if floor.is_routed else "the floor"
            place.axhline(spread(samples).median, color=INK, linestyle=dashes, linewidth=1.3, label=label)
    place.set_xscale("log")
    place.set_yscale(panel.scale)
    place.set_xticks(_ticks(results, panel))
    place.xaxis.set_minor_formatter(NullFormatter())
    place.yaxis.set_minor_formatter(
        LogFormatter(minor_thresholds=(1, 0.4)) if panel.scale == "log" else NullFormatter()
    )
    for axis in (place.xaxis, place.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    if panel.scale == "linear":
        place.set_ylim(bottom=0)
    place.set_title(panel.title, fontsize=10)
    place.set_xlabel(HORIZONTAL[panel.axis])
    place.set_ylabel(panel.label)
    place.grid(visible=True, which="major", color="#DDDDDD", linewidth=0.6)
    place.spines[["top", "right"]].set_visible(False)
    place.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize=8)


def _ticks(results: Results, panel: Panel) -> list[int]:
    """The sizes; of many, those that are powers of ten."""
    sizes = sorted({size for _, points in _lines(results, panel) for size, _ in points})
    return [size for size in sizes if len(sizes) <= 4 or size == 10 ** (len(str(size)) - 1)]


def _line(place: Axes, name: str, points: Points, style: tuple[str, str], *, is_own: bool) -> None:
    colour, marker = style
    sizes = [size for size, _ in points]
    medians = [found.median for _, found in points]
    bars = ([found.median - found.low for _, found in points], [found.high - found.median for _, found in points])
    place.errorbar(
        sizes,
        medians,
        yerr=bars,
        label=name,
        color=colour,
        marker=marker,
        markersize=6 if is_own else 5,
        linewidth=2.6 if is_own else 1.3,
        capsize=2,
        zorder=3 if is_own else 2,
    )

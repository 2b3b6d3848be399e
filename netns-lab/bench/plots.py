"""A run as pictures, in PNG and SVG: what grows with the number of rules, ENIs and members.

Owns how they look. It is given results. Must not know how they were measured, or what is drawn (growth.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatter, NullFormatter

from bench.growth import AGENT, FULL_HOST, PICTURES, Panel, Points, floors, lines, ticks
from bench.results import Results
from bench.variants import HOST, INSTANCE, MEMBERS, OURS, Axis

Axes = Any  # matplotlib is not type-checked here
INK = "#333333"
# Okabe and Ito's colours, which colour-blind readers tell apart; with a marker each, for those who print.
STYLES = (("#D55E00", "s"), ("#E69F00", "^"), ("#009E73", "v"), ("#CC79A7", "D"), ("#7F7F7F", "P"), ("#000000", "X"))
HORIZONTAL = {
    Axis.RULES: "rules; the one that decides is the last",
    Axis.ENIS: "ENIs on the host; the one that is asked for is the last",
    Axis.MEMBERS: "members of the group or set",
}


def draw(results: Results, folder: Path) -> list[tuple[str, str]]:
    """Write the pictures that have a line. Return the title and the PNG file's name of each."""
    drawn = []
    for title, name, panels in PICTURES:
        filled = [panel for panel in panels if any(True for _ in lines(results, panel))]
        if filled:
            _draw(results, title, filled, folder / name)
            drawn.append((title, f"{name}.png"))
    return drawn


BLUE, LIGHT, DARK, PALE = "#0072B2", "#56B4E9", "#003D5C", "#8FB8D0"
OWN = {
    OURS: (BLUE, "o"),
    INSTANCE: (BLUE, "o"),
    HOST: (LIGHT, "o"),
    MEMBERS: (BLUE, "o"),
    AGENT: (DARK, "<"),
    FULL_HOST: (PALE, ">"),
}


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
    for name, points in lines(results, panel):
        is_own = name in OWN
        _line(place, name, points, OWN[name] if is_own else next(others), is_own=is_own)
    for (label, height), dashes in zip(floors(results, panel), (":", "-."), strict=False):
        place.axhline(height, color=INK, linestyle=dashes, linewidth=1.3, label=label)
    place.set_xscale("log")
    place.set_yscale(panel.scale)
    place.set_xticks(ticks(results, panel))
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

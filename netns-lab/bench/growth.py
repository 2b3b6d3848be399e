"""What grows: the lines of each plot, as numbers.

Owns which variants and figures a plot shows, against what, and how they are computed. It is given results. Must not
know how a plot looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from bench.costs import AGENTS, HOSTS
from bench.measures import Measure, Spread, differences, spread
from bench.results import Results
from bench.variants import Axis, Variant

Samples = Callable[[Results, Variant], "list[float] | None"]
Points = list[tuple[int, Spread]]


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


def _added(measure: Measure) -> Samples:
    """The ns more than on the same path without a filter."""

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
    """The ms for one change: the mean of an addition and a removal."""
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
ADDED, MICROS, MILLIS = "ns a packet, added by the filter", "µs a connection, added by the filter", "ms until in force"
# The title, the name of the file, and the panels.
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


def lines(results: Results, panel: Panel) -> Iterator[tuple[str, Points]]:
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


def ticks(results: Results, panel: Panel) -> list[int]:
    """The sizes; of many, those that are powers of ten."""
    sizes = sorted({size for _, points in lines(results, panel) for size, _ in points})
    return [size for size in sizes if len(sizes) <= 4 or size == 10 ** (len(str(size)) - 1)]


def floors(results: Results, panel: Panel) -> list[tuple[str, float]]:
    """The name and median of the floor of each path that a panel is about."""
    variants = {variant.floor for variant in results.variants if variant.axis is panel.axis and variant.size}
    found = ((floor, panel.samples(results, floor)) for floor in sorted(variants, key=str))
    names = {False: "the floor", True: "the floor in a router"}
    return [(names[floor.is_routed], spread(samples).median) for floor, samples in found if samples]

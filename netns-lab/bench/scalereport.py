"""The results of `bench.scale` as a page with pictures, and the arithmetic for more hosts than one machine can hold.

Owns the wording, and how pictures look. Is given results. Must not know how they were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from matplotlib import rc_context
from matplotlib.figure import Figure

from bench.fleet import ENIS_A_HOST
from bench.report import rounded, table
from bench.scalegoals import ScaleRow, rows

T = TypeVar("T")
Axes = Any  # matplotlib is not type-checked here
GOAL_MS, GOAL_MB, GOAL_HOSTS = 50, 200, 1250
COLORS = {"sqlite": ("#0072B2", "o"), "etcd": ("#D55E00", "s")}
INK = "#333333"
Entry = dict[str, Any]
COLUMNS: tuple[tuple[str, Callable[[Entry], object]], ...] = (
    ("hosts", lambda one: one["case"]["hosts"]),
    ("there", lambda one: one["case"]["connected"]),
    ("relays", lambda one: one["case"]["relays"]),
    ("store", lambda one: one["case"]["store"]),
    ("ENIs of each", lambda one: one["case"].get("enis_a_host", ENIS_A_HOST)),
    ("rule ms p50", lambda one: one["rule"]["last_ms"].get("p50")),
    ("rule ms max", lambda one: one["rule"]["last_ms"].get("max")),
    ("member ms p50", lambda one: one["member"]["last_ms"].get("p50")),
    ("others heard", lambda one: one["rule"]["others"] + one["member"]["others"]),
    ("missed", lambda one: one["rule"]["missing"] + one["member"]["missing"]),
    ("relay MB", lambda one: one["relay"]["memory_mb"]),
    ("relay MB without hosts", lambda one: one["relay_alone_mb"]),
    ("relay CPU at rest", lambda one: f"{one['relay']['idle_share']:.0%}"),
    ("sync MB", lambda one: one["host"]["memory_mb"]),
    ("sync CPU ms own change", lambda one: one["host"].get("own_ms")),
    ("sync CPU ms other change", lambda one: one["host"].get("others_ms")),
    ("relays start s", lambda one: one["relays_start_s"]),
    ("settle s", lambda one: one["settle"].get("seconds")),
    ("all back s", lambda one: one["drop"].get("seconds")),
    ("streams lost", lambda one: one["settle"].get("failures", 0) + one["drop"].get("failures", 0)),
    ("etcd watches", lambda one: one["etcd_watches"]),
)


def page(results: dict[str, Any], folder: Path) -> str:
    """Write scale.md and the pictures; the page's text."""
    commit = results["facts"]["commit"]
    entries = sorted(results["cases"], key=_place)
    cases = [one for one in entries if "relay" in one]
    alike = [one for one in cases if one["case"].get("enis_a_host", ENIS_A_HOST) == ENIS_A_HOST]
    lines = ["# Many hosts, measured", "", *(f"- {name}: {value}" for name, value in results["facts"].items()), ""]
    lines += [*_goals(list(rows(entries)), commit), "", "## Hosts and relays", ""]
    of = ("of", lambda one: _of(one, commit))
    columns = (*COLUMNS, of)
    lines += [
        table((name for name, _ in columns), ([_text(_known(value, one)) for _, value in columns] for one in cases))
    ]
    lines += ["", *extrapolated(alike)] if alike else []
    lines += ["", *_took(entries, commit)]
    text = "\n".join(lines).rstrip() + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scale.md").write_text(text, encoding="utf-8")
    _draw(alike, folder / "scale")
    return text


def _place(entry: Entry) -> tuple[int, int, str]:
    case = entry.get("case", {})
    return case.get("hosts", 0), case.get("connected", 0), entry["name"]


def _goals(found: list[ScaleRow], commit: str) -> list[str]:
    counted = [row.goal for row in found if row.goal.limit is not None]
    met = sum(goal.is_met for goal in counted)
    return [
        "## Goals",
        "",
        f"{met} of {len(counted)} goals are met. Rows without a goal only inform.",
        "",
        table(("", "goal", "measured", "", "of"), (_goal_row(row, commit) for row in found)),
    ]


def _goal_row(row: ScaleRow, commit: str) -> tuple[str, ...]:
    goal = row.goal
    measured = f"{rounded(goal.measured.median, goal)} {goal.unit}".rstrip() if goal.measured else "-"
    is_missed = goal.limit is not None and goal.measured is not None and not goal.is_met
    verdict = f"**missed**, {goal.verdict}" if is_missed else goal.verdict
    return row.goal.title, goal.wanted, measured, verdict, _of(row.entry, commit) if row.entry and goal.measured else ""


def _of(entry: Mapping[str, Any], commit: str) -> str:
    """Empty if the result is of the page's commit."""
    return "" if entry["commit"] == commit else f"{entry['commit']}, {entry['date']}"


def _took(entries: list[Entry], commit: str) -> list[str]:
    """How long each case took, and why it ended early."""
    told = ([one["name"], _text(one.get("seconds")), one.get("error", ""), _of(one, commit)] for one in entries)
    return ["## Time of each case", "", table(("case", "s", "", "of"), told)]


def _known(value: Callable[[Entry], T], one: Entry) -> T | None:
    """None if the case ended before it was measured."""
    try:
        return value(one)
    except KeyError:
        return None


def _text(value: object) -> str:
    return "-" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def extrapolated(cases: list[Entry], hosts: int = 100_000) -> list[str]:
    """What so many hosts would need, by the largest case."""
    one = max(cases, key=lambda case: (case["case"]["hosts"], case["case"]["connected"]))
    case, relay = one["case"], one["relay"]
    there, alone = case["connected"] / case["relays"], one["relay_alone_mb"]
    base = min(other["relay_alone_mb"] for other in cases if other["case"]["store"] == case["store"])
    a_stream, a_host = (relay["memory_mb"] - alone) / there, (alone - base) / case["hosts"]
    relays = -(-hosts // GOAL_HOSTS)
    streams = a_stream * GOAL_HOSTS
    total = base + a_host * hosts + streams
    idle = relay["idle_share"] / there * GOAL_HOSTS
    return [
        f"## {hosts:,} hosts with {ENIS_A_HOST} ENIs each, by the largest case",
        "",
        f"- A relay has {base:.0f} MB beside a small store, and {alone:.0f} MB beside one of {case['hosts']:,} hosts:",
        f"  {a_host * 1e3:.1f} KB for each host. A stream adds {a_stream * 1e3:.0f} KB.",
        f"- {relays} relays of {GOAL_HOSTS:,} hosts each would have {total:,.0f} MB, {streams:.0f} of these for",
        f"  streams. At rest, each would take {idle:.0%} of a processor.",
    ]


def _draw(cases: list[dict[str, Any]], target: Path) -> None:
    panels: tuple[tuple[str, str, Callable[[dict[str, Any]], float | None], float | None], ...] = (
        (
            "a rule at the last host",
            "ms after the commit, median",
            lambda one: one["rule"]["last_ms"].get("p50"),
            GOAL_MS,
        ),
        ("memory of a relay", "MB", lambda one: one["relay"]["memory_mb"], GOAL_MB),
        ("memory of a host's sgdp sync", "MB", lambda one: one["host"]["memory_mb"], None),
    )
    with rc_context({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.family": "sans-serif", "text.color": INK}):
        figure = Figure(figsize=(5 * len(panels), 4.4), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for (title, label, value, goal), place in zip(panels, axes, strict=True):
            _fill(place, cases, value)
            if goal is not None:
                place.axhline(goal, color=INK, linestyle=":", linewidth=1.3, label=f"the goal: {goal}")
            place.set(title=title, xlabel="hosts of the store", ylabel=label, xscale="log")
            place.set_ylim(bottom=0)
            if place.get_legend_handles_labels()[0]:
                place.legend(frameon=False)
        figure.savefig(target.with_suffix(".png"), dpi=150)
        figure.savefig(target.with_suffix(".svg"), metadata={"Date": None})


def _fill(place: Axes, cases: Iterable[dict[str, Any]], value: Callable[[dict[str, Any]], float | None]) -> None:
    for store, (color, marker) in COLORS.items():
        points = [(one["case"]["hosts"], _known(value, one)) for one in cases if one["case"]["store"] == store]
        known = sorted((hosts, found) for hosts, found in points if found is not None)
        if known:
            place.plot(*zip(*known, strict=True), color=color, marker=marker, label=f"store: {store}")

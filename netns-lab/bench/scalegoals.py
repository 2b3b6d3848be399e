"""What is promised of many hosts, and whether the results keep it: one row for every goal.

Owns the goals. It is given results. Must not know how they were measured, or how a page looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from bench.goals import Goal
from bench.measures import Spread
from bench.promises import API_CALLS

Entry = Mapping[str, Any]
Value = Callable[[Entry], float]
CALLS = ("by_id", "first_page", "by_name", "of_instance", "explain", "diff")
NOT_RUN = "no run has measured it"


def p50(samples: list[float]) -> float:
    return median(samples)


def p99(samples: list[float]) -> float:
    return quantiles(samples, n=100, method="inclusive")[98] if len(samples) > 1 else samples[0]


@dataclass(frozen=True, slots=True)
class ScalePromise:
    """One row. `case`: whose result has it. `limit`: an upper bound; None if the row only informs."""

    title: str
    unit: str
    limit: float | None
    case: str
    value: Value


@dataclass(frozen=True, slots=True)
class ScaleRow:
    """A goal, and which result it is of. `entry`: None if there is no such result."""

    goal: Goal
    case: str
    entry: Entry | None


def _figure(name: str, of: Callable[[list[float]], float] = p50) -> Value:
    return lambda entry: of(entry["figures"][name])


def _whole(name: str, of: Callable[[list[float]], float]) -> Value:
    return lambda entry: of(entry["whole"][name])


def _end_to_end() -> Iterator[ScalePromise]:
    for hosts, packet, enforced, slowest in ((3, 40, 80, 120), (16, None, 200, None)):
        case = f"everywhere-{hosts}"
        packet_ms, enforced_ms = (f"{case}.{name}_ms" for name in ("packet", "enforced"))
        yield ScalePromise(
            f"{hosts} hosts: call to the first packet that obeys, p50", "ms", packet, case, _figure(packet_ms)
        )
        yield ScalePromise(f'{hosts} hosts: call to "enforced", p50', "ms", enforced, case, _figure(enforced_ms))
        yield ScalePromise(f'{hosts} hosts: call to "enforced", p99', "ms", slowest, case, _figure(enforced_ms, p99))


def _whole_host() -> Iterator[ScalePromise]:
    what = "1,000 hosts, a whole one among them: commit to"
    for title, name, of, limit in (
        (f"{what} enforced and acknowledged, without the agent's own, p99", "beside_agent_ms", p99, 100),
        (f"{what} enforced and acknowledged, all in all, p99", "acknowledged_ms", p99, None),
        (f"{what} enforced and acknowledged, all in all, p50", "acknowledged_ms", p50, None),
        (f"{what} enforced, by the agent's word, p50", "enforced_ms", p50, None),
        ("the agent's own share of it, p99", "agent_ms", p99, None),
        ("the agent's own share of it, p50", "agent_ms", p50, None),
    ):
        yield ScalePromise(title, "ms", limit, "whole-1000-etcd", _whole(name, of))


def _api() -> Iterator[ScalePromise]:
    for kind in CALLS:
        title = f"API, {API_CALLS[kind]}, at 50,000 groups : at 500, p50"
        yield ScalePromise(title, "", 3, "api", _figure(f"api.{kind}_times"))
    for kind in CALLS:
        title = f"API, {API_CALLS[kind]}, at 50,000 groups, p50"
        yield ScalePromise(title, "ms", None, "api", _figure(f"api.{kind}_ms"))
    yield ScalePromise("API, start with 50,000 groups", "s", 5, "api", _figure("api.api_start_s"))
    yield ScalePromise("API, its memory then, after the calls", "MB", 400, "api", _figure("api.api_mb"))


def _relays() -> Iterator[ScalePromise]:
    for store, name in (("sqlite", "SQLite"), ("etcd", "etcd")):
        title = f"all of 10,000 hosts come back at once, {name}"
        yield ScalePromise(title, "s", 20, f"10000-{store}", lambda entry: float(entry["drop"]["seconds"]))
    large, most = "100000-1250-sqlite", "20000-sqlite"
    beside = "beside 100,000 hosts with 1,000,000 ENIs"
    yield ScalePromise(
        f"a relay with 1,250 streams {beside}", "MB", 200, large, lambda one: float(one["relay"]["memory_mb"])
    )
    alone = f"a relay just after its start {beside}"
    yield ScalePromise(alone, "MB", None, large, lambda one: float(one["relay_alone_mb"]))
    yield ScalePromise(
        "all of 20,000 hosts come back at once", "s", None, most, lambda one: float(one["drop"]["seconds"])
    )
    yield ScalePromise(
        "a relay with 1,250 of 20,000 hosts", "MB", None, most, lambda one: float(one["relay"]["memory_mb"])
    )


def _churn() -> Iterator[ScalePromise]:
    what = "agent of 400 ENIs"
    yield ScalePromise(f"{what}: memory after 300 changes", "MB", 150, "churn", _figure("churn.after_mb"))
    yield ScalePromise(f"{what}: memory before them", "MB", None, "churn", _figure("churn.before_mb"))
    yield ScalePromise(f"{what}: threads after 300 changes", "threads", 18, "churn", _figure("churn.after_threads"))
    yield ScalePromise(f"{what}: threads before them", "threads", None, "churn", _figure("churn.before_threads"))


PROMISES = (*_end_to_end(), *_whole_host(), *_api(), *_relays(), *_churn())


def rows(entries: Iterable[Entry]) -> Iterator[ScaleRow]:
    """All goals, in a fixed order, whatever there is of results."""
    named = {str(entry["name"]): entry for entry in entries}
    for promise in PROMISES:
        entry = named.get(promise.case)
        yield ScaleRow(_goal(promise, entry), promise.case, entry)


def _goal(promise: ScalePromise, entry: Entry | None) -> Goal:
    why = NOT_RUN if entry is None else str(entry.get("error", "it isn't among the results"))
    found: Spread | None = None
    if entry is not None:
        try:
            value = promise.value(entry)
            found = Spread(value, value, value)
        except KeyError:
            pass
    return Goal(promise.title, promise.unit, promise.limit, found, why)

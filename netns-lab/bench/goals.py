"""What the product promises of its speed, and whether a run keeps it: one row for every goal.

Owns the goals. It is given results. Must not know how they were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from bench.measures import ESTABLISHED, Measure, Spread, ratios, spread
from bench.results import Results
from bench.variants import FLOOR, MANY_ENIS, OURS, UNFENCED, Variant

ESTABLISHED_AT_MOST = 1.05  # times the floor
AT_LEAST = 0.90  # of the rate with one rule
PEERS_FROM = 100  # rules

Costs = Callable[[Results, Variant], list[float]]


@dataclass(frozen=True, slots=True)
class Goal:
    """One row. `measured`: None if it couldn't be measured, and `why` not. `limit`: an upper or a lower bound."""

    title: str
    limit: float
    is_at_most: bool
    measured: Spread | None
    why: str = ""

    @property
    def wanted(self) -> str:
        return f"{'at most' if self.is_at_most else 'at least'} {self.limit:.2f}"

    @property
    def is_met(self) -> bool:
        if self.measured is None:
            return False
        return self.measured.median <= self.limit if self.is_at_most else self.measured.median >= self.limit

    @property
    def verdict(self) -> str:
        """`met`, or by how much it is missed."""
        if self.measured is None:
            return f"not measured: {self.why}"
        if self.is_met:
            return "met"
        found = self.measured.median
        factor = found / self.limit if self.is_at_most else self.limit / found
        return f"short by {(factor - 1) * 100:.1f} %" if factor < 2 else f"short by a factor of {factor:,.0f}"


class NoSamplesError(Exception):
    """The run has no samples of that variant."""


def goals(results: Results) -> tuple[Goal, ...]:
    """All rows, in a fixed order."""
    return (
        *(goal for measure in ESTABLISHED for goal in _established(results, measure)),
        _rate(results, "new connections a second", Measure.CONNECT),
        _rate(results, "denied packets a second", Measure.DENIED),
        *_peers(results, "new connections a second", _of(Measure.CONNECT)),
        *_peers(results, "change of one rule", _changes),
    )


def _established(results: Results, measure: Measure) -> Iterator[Goal]:
    """The goal for the worst number of rules, then the goal for many ENIs."""
    sizes = [variant for variant in results.variants if variant.name == OURS]
    many = next(variant for variant in results.variants if variant.name == MANY_ENIS)
    span = f"{sizes[0].rules:,} to {sizes[-1].rules:,} rules"
    for what, variants in ((f"ours, {span}, worst of them", sizes), (str(many), [many])):
        title = f"{measure.value}: cost of {what} : the floor's"
        yield _goal(title, ESTABLISHED_AT_MOST, partial(_worst, results, measure, variants), is_at_most=True)


def _worst(results: Results, measure: Measure, variants: Sequence[Variant]) -> list[float]:
    floor = _samples(results, measure, FLOOR)
    found = [ratios(_samples(results, measure, variant), floor) for variant in variants]
    return max(found, key=lambda samples: spread(samples).median)


def _rate(results: Results, title: str, measure: Measure) -> Goal:
    sizes = [variant for variant in results.variants if variant.name == OURS]
    least, most = sizes[0], sizes[-1]
    return _goal(
        f"{title}: ours with {most.rules:,} rules : with {least.rules:,}",
        AT_LEAST,
        partial(_ratios, results, _of(measure), least, most),
    )


def _peers(results: Results, title: str, costs: Costs) -> Iterator[Goal]:
    for peer in results.variants:
        if peer.rules < PEERS_FROM or peer.name in (OURS, UNFENCED, MANY_ENIS):
            continue
        same_size = Variant(OURS, peer.rules)
        yield _goal(
            f"{title}: speed of ours : {peer}",
            1.0,
            partial(_ratios, results, costs, peer, same_size),
        )


def _ratios(results: Results, costs: Costs, above: Variant, below: Variant) -> list[float]:
    return ratios(costs(results, above), costs(results, below))


def _of(measure: Measure) -> Costs:
    return lambda results, variant: _samples(results, measure, variant)


def _changes(results: Results, variant: Variant) -> list[float]:
    """A change: one rule is added and one removed."""
    added, removed = (_samples(results, measure, variant) for measure in (Measure.ADD, Measure.REMOVE))
    return [a + b for a, b in zip(added, removed, strict=True)]


def _goal(title: str, limit: float, samples: Callable[[], list[float]], *, is_at_most: bool = False) -> Goal:
    try:
        return Goal(title, limit, is_at_most, spread(samples()))
    except NoSamplesError as missing:
        return Goal(title, limit, is_at_most, None, str(missing))


def _samples(results: Results, measure: Measure, variant: Variant) -> list[float]:
    found = results.samples[measure].get(variant)
    if not found:
        raise NoSamplesError(results.not_run.get(variant, f"{variant} was not run"))
    return found

"""What the product promises of its cost, and whether a run keeps it: one row for every goal.

Owns the goals. It is given results. Must not know how they were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

from bench.costs import FULL_ONLY
from bench.measures import ESTABLISHED, Measure, Spread, ratios, spread
from bench.peers import IPTABLES_ONE_SET, PEERS
from bench.promises import AGENT, API, CHANGES, COMPILING, EVERYWHERE, FULL_HOST, HISTORY, Promise
from bench.results import Results
from bench.variants import AUDITED, HOST, INSTANCE, ON_TRIAL, OURS, Variant
from tests.support.inputs.classbench_seeds import SEEDS as KINDS

LEAST, MOST = Variant(OURS, 1), Variant(OURS, 1000)
ON_AUDIT, TRIED = Variant(AUDITED, MOST.size), Variant(ON_TRIAL, MOST.size)
MAX_INSTANCE, MAX_HOST = Variant(INSTANCE, 32), Variant(HOST, 1000)
INWARD = (Measure.TCP_IN, Measure.UDP_IN)
PEER_SIZES = (100, 1000)  # rules, from where ours is to be faster
ONE_SET = Variant(IPTABLES_ONE_SET.name, MOST.size)

Costs = Callable[[Results, Variant], list[float]]


@dataclass(frozen=True, slots=True)
class Goal:
    """One row. `unit`: "" for a ratio. `limit`: an upper or a lower bound; None if the row only informs. `measured`:
    None if it couldn't be measured, and `why` not. `stopped`: when, in that unit, if it took too long."""

    title: str
    unit: str
    limit: float | None
    measured: Spread | None
    why: str = ""
    is_at_most: bool = True
    stopped: float = 0.0

    @property
    def is_counted(self) -> bool:
        return self.limit is not None and not self.is_full_only

    @property
    def is_full_only(self) -> bool:
        return self.measured is None and self.why == FULL_ONLY

    @property
    def is_met(self) -> bool:
        return self.is_counted and self.measured is not None and self.shortage <= 1

    @property
    def shortage(self) -> float:
        """By which factor the goal is missed; at most 1 if it is met. Of what was stopped: at least that factor."""
        assert self.limit is not None
        found = self.measured.median if self.measured else self.stopped
        return found / self.limit if self.is_at_most else self.limit / found

    @property
    def wanted(self) -> str:
        if self.limit is None:
            return "-"
        bound = "at most" if self.is_at_most else "at least"
        return f"{bound} {self.limit:,g} {self.unit}" if self.unit else f"{bound} {self.limit:.2f}"

    @property
    def verdict(self) -> str:
        """`met`, or by how much it is missed."""
        if self.is_full_only:
            return self.why
        if self.measured is None:
            is_short = self.limit is not None and self.stopped > self.limit
            return (
                f"short by more than a {_factor(self.shortage)}: {self.why}"
                if is_short
                else f"not measured: {self.why}"
            )
        if self.limit is None:
            return "no goal"
        if self.is_met:
            return "met"
        missing = self.shortage
        return f"short by {(missing - 1) * 100:.1f} %" if missing < 2 else f"short by a {_factor(missing)}"


def _factor(number: float) -> str:
    return f"factor of {number:,.1f}"


@dataclass(frozen=True, slots=True)
class Section:
    """Rows of one kind. `records`: numbers of the decision records that say what was tried for those that are short."""

    title: str
    about: str
    goals: tuple[Goal, ...]
    records: tuple[str, ...]


class NoSamplesError(Exception):
    """The run has no samples of that variant, and why."""


def sections(results: Results) -> tuple[Section, ...]:
    """All rows, in a fixed order."""
    return (*_of_policies(results), *_of_packets(results))


def _of_policies(results: Results) -> tuple[Section, ...]:
    """What it takes to put a policy in force."""
    of_figures = partial(_of_figures, results)
    return (
        Section(
            "Compiling and proving",
            "A policy of 1,000 rules uses the whole quota of an ENI. Five-tuple sets are made as ClassBench makes them "
            f"from real ones, in its kinds {', '.join(KINDS)}; a row is about the worst of these.",
            tuple(map(of_figures, COMPILING)),
            ("061", "016", "046"),
        ),
        Section(
            "Changes",
            "From a state in memory to rules in force: compile, proof, fence and kernel. Each change leads to a policy "
            "that the process has never seen.",
            (*map(of_figures, CHANGES), _change(results)),
            ("061", "062", "082"),
        ),
        Section(
            "A host of 1,000 ENIs, in 50 combinations of 1,000 rules, with 65,536 addresses in groups",
            "Host placement, in one router. Changes are as above, with the proof. The kernel's memory is the growth of "
            "SUnreclaim, VmallocUsed and Percpu in /proc/meminfo.",
            tuple(map(of_figures, FULL_HOST)),
            ("080", "076", "082", "059"),
        ),
        Section(
            "The agent",
            "Its own process, with a namespace for each ENI. A change begins with the rename of a state file; a plug, "
            "with the interface's arrival.",
            tuple(map(of_figures, AGENT)),
            ("083", "072", "063", "055"),
        ),
    )


def _of_packets(results: Results) -> tuple[Section, ...]:
    """What packets, observing and calls cost while one is in force."""
    of_figures = partial(_of_figures, results)
    return (
        Section(
            "Packets",
            "Ratios are taken round by round. In instance placement the floor is one established rule in `input` and "
            "one in `output`; in host placement it is one in the router's `forward`.",
            tuple(_packets(results)),
            ("074", "042", "043"),
        ),
        Section(
            "Observing",
            f"With {MOST.size:,} rules, beside the same policy without. The trial is of a state in which each rule has "
            "other ports, so that each new session of the path counts. History's recorder is a process of its own.",
            (*_observing(results), *map(of_figures, HISTORY)),
            ("102", "105", "099"),
        ),
        Section(
            "The cloud's API",
            "Signed calls over HTTP to an API on SQLite. Each is made at an account of 50,000 groups and as many ENIs, "
            "then at one of 1,000 and at one of 500.",
            tuple(map(of_figures, API)),
            ("093",),
        ),
        Section(
            "From the API to packets",
            "A lab of whole hosts: three members of etcd, an API, a relay, and an agent and a sync on each host, all "
            "on this machine's processors. A rule opens a port to an instance on each host.",
            tuple(map(of_figures, EVERYWHERE)),
            ("121",),
        ),
        Section(
            "Beside other filters",
            "Speed of ours : theirs, at the same number of rules.",
            tuple(_beside_peers(results)),
            ("061", "074"),
        ),
    )


def goals(results: Results) -> tuple[Goal, ...]:
    return tuple(goal for section in sections(results) for goal in section.goals)


def _of_figures(results: Results, promise: Promise) -> Goal:
    figures, lacking = results.figures, [name for name in promise.figures if not results.figures.of(name)]
    if lacking:
        stopped = max(figures.stopped.get(name, 0.0) for name in lacking)
        why = figures.missing(lacking[0])
        if promise.is_worst and why != FULL_ONLY:
            why = f"{lacking[0].partition('-')[0]}: {why}"
        return Goal(promise.title, promise.unit, promise.limit, None, why, stopped=promise.scale * stopped)
    found = [[promise.scale * sample for sample in figures.of(name)] for name in promise.figures]
    pool = max(found, key=lambda samples: spread(samples).median) if promise.is_worst else list(chain(*found))
    return Goal(promise.title, promise.unit, promise.limit, spread(pool))


def _change(results: Results) -> Goal:
    """One rule, added or removed, of a policy without members."""
    title = f"one rule of {MOST.size:,} comes or goes, without members"

    def samples() -> list[float]:
        return [*_samples(results, Measure.ADD, MOST), *_samples(results, Measure.REMOVE, MOST)]

    return _of_samples(title, 10, samples, "ms")


def _packets(results: Results) -> Iterator[Goal]:
    sizes = [variant for variant in results.variants if variant.name == OURS]
    one = f"1 ENI, worst of {sizes[0].size:,} to {sizes[-1].size:,} rules"
    for measure in ESTABLISHED:
        is_in = measure in INWARD
        for what, found, limit in (
            (one, sizes, 1.03 if is_in else 1.07),
            ("32 ENIs, instance placement", [MAX_INSTANCE], 1.05 if is_in else 1.10),
            ("1,000 ENIs, host placement", [MAX_HOST], 1.10),
        ):
            title = f"{measure.value}: cost of ours, {what} : the floor's"
            yield _of_samples(title, limit, partial(_worst, results, measure, found))
    for title, limit, measure, above, below in (
        ("new connections a second: ours with 1,000 rules : with 1", 0.99, Measure.CONNECT, LEAST, MOST),
        (f"new connections a second: ours : {ONE_SET}", 1.00, Measure.CONNECT, ONE_SET, MOST),
        ("denied packets a second: ours with 1,000 rules : with 1", 0.95, Measure.DENIED, LEAST, MOST),
    ):
        samples = partial(_ratios, results, _of(measure), above, below)
        yield _of_samples(title, limit, samples, is_at_most=False)


def _observing(results: Results) -> Iterator[Goal]:
    """Audit mode costs an established packet nothing. A trial may cost 1 %, and a new session 5 %."""
    for title, variant in (("audit mode", ON_AUDIT), ("a trial", TRIED)):
        for measure in ESTABLISHED:
            samples = partial(_ratios, results, _of(measure), variant, MOST)
            yield _of_samples(f"{measure.value}: cost with {title} : without", 1.01, samples)
        samples = partial(_ratios, results, _of(Measure.CONNECT), MOST, variant)
        yield _of_samples(f"new connections a second: with {title} : without", 0.95, samples, is_at_most=False)
    samples = partial(_audited_beside_accepted, results)
    yield _of_samples("a packet that only audit mode lets pass : one that a rule accepts", 1.05, samples)


def _audited_beside_accepted(results: Results) -> list[float]:
    """Both are UDP that is never answered, so that each packet is judged."""
    return ratios(_samples(results, Measure.AUDITED, ON_AUDIT), _samples(results, Measure.ONE_WAY, ON_AUDIT))


def _worst(results: Results, measure: Measure, variants: Sequence[Variant]) -> list[float]:
    def beside_floor(variant: Variant) -> list[float]:
        return ratios(_samples(results, measure, variant), _samples(results, measure, variant.floor))

    return max(map(beside_floor, variants), key=lambda samples: spread(samples).median)


def _beside_peers(results: Results) -> Iterator[Goal]:
    for title, costs in (("new connections a second", _of(Measure.CONNECT)), ("change of one rule", _changes)):
        for peer in (Variant(peer.name, size) for peer in PEERS for size in PEER_SIZES):
            samples = partial(_ratios, results, costs, peer, Variant(OURS, peer.size))
            if (peer, title) != (ONE_SET, "new connections a second"):  # which is among the packets' rows
                yield _of_samples(f"{title}: ours : {peer}", 1.0, samples, is_at_most=False)


def _ratios(results: Results, costs: Costs, above: Variant, below: Variant) -> list[float]:
    return ratios(costs(results, above), costs(results, below))


def _of(measure: Measure) -> Costs:
    return lambda results, variant: _samples(results, measure, variant)


def _changes(results: Results, variant: Variant) -> list[float]:
    """A change: one rule is added and one removed."""
    added, removed = (_samples(results, measure, variant) for measure in (Measure.ADD, Measure.REMOVE))
    return [a + b for a, b in zip(added, removed, strict=True)]


def _of_samples(
    title: str, limit: float, samples: Callable[[], list[float]], unit: str = "", *, is_at_most: bool = True
) -> Goal:
    try:
        return Goal(title, unit, limit, spread(samples()), is_at_most=is_at_most)
    except NoSamplesError as missing:
        return Goal(title, unit, limit, None, str(missing), is_at_most)


def _samples(results: Results, measure: Measure, variant: Variant) -> list[float]:
    found = results.samples[measure].get(variant)
    if not found:
        why = f"{variant} was not run" if variant in results.variants else FULL_ONLY
        raise NoSamplesError(results.not_run.get(variant, why))
    return found

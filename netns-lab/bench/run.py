"""A run: every variant is built once, then all of them take turns, round by round, in short slices.

Owns the order of the steps and the progress on stderr. Must not know what a figure is good for.
"""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath

from bench.costs import measure_costs
from bench.deadlines import no_longer_than
from bench.errors import BenchError
from bench.measures import Measure
from bench.path import Ends
from bench.probes import PROBES, Figures, Probe, audited, denied
from bench.results import Results
from bench.variants import Axis, Filter, PeerFilter, Variant, make_filter, make_path
from sgdataplane.errors import SgDataplaneError

# What one variant may fail with, while the others go on.
FAILURES = (BenchError, SgDataplaneError, OSError, subprocess.SubprocessError)
LEAST_ROUNDS = 10  # of packets, however late it is


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to run. `loads`: of each variant whose rules grow; the others are loaded once. `build_s`: for all that
    comes before a variant's first packet. `slice_s`: for one measure of one variant in one round. `packets_until`:
    so many seconds after its start, a run begins no further round of packets. `seconds`: for the whole run; commands
    that find no time left are not run. `is_quick`: without the changes that only plots show."""

    variants: tuple[Variant, ...]
    loads: int
    build_s: float
    change_rounds: int
    packet_rounds: int
    slice_s: float
    packets_until: float
    seconds: float
    is_quick: bool


@dataclass
class Stand:
    """A variant on its path. `filter`: None if there is nothing to load or to change."""

    variant: Variant
    ends: Ends
    filter: Filter | None


class Run:
    """One run. Everything that it builds is gone when `everything` returns."""

    def __init__(self, plan: Plan, tree: FilePath, seed: int) -> None:
        """`tree`: where the peers' programs are. `seed`: for the order in which variants take turns."""
        self._plan, self._tree = plan, tree
        self._random = random.Random(seed)
        self._stands: list[Stand] = []
        self._started = time.monotonic()
        self.results = Results(plan.variants)

    def everything(self) -> Results:
        plan = self._plan
        with ExitStack() as stack:
            for number, variant in enumerate(plan.variants, 1):
                self._say(f"building {number} of {len(plan.variants)}: {variant}")
                self._build(stack, number, variant)
            gc.collect()
            gc.freeze()  # so that no collection walks the other variants' policies while one is measured
            for number in range(1, plan.change_rounds + 1):
                self._say(f"changes, round {number} of {plan.change_rounds}")
                self._take_turns(change, [stand for stand in self._stands if self._has_changes(stand)])
            with on_one_processor():
                for number in range(1, plan.packet_rounds + 1):
                    if number % 10 == 1:
                        self._say(f"packets, round {number} of {plan.packet_rounds}")
                    if number > LEAST_ROUNDS and self._elapsed > plan.packets_until:
                        break
                    self._packets()
        self._measure_costs()
        self._say("done")
        self.results.seconds = self._elapsed
        return self.results

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _has_changes(self, stand: Stand) -> bool:
        variant = stand.variant
        return not variant.is_observed and (variant.axis is Axis.RULES or not self._plan.is_quick)

    def _measure_costs(self) -> None:
        deadline = self._started + self._plan.seconds
        self.results.figures = measure_costs(self._say, deadline, is_quick=self._plan.is_quick)

    def _build(self, stack: ExitStack, number: int, variant: Variant) -> None:
        try:
            path = stack.enter_context(make_path(variant, f"bench{number}"))
            with no_longer_than(self._plan.build_s):
                what = make_filter(variant, path, self._tree)
                if what is not None:
                    stack.callback(what.close)
                    self._load(variant, what)
            if isinstance(what, PeerFilter):
                self.results.versions[variant.name] = what.version
            ends = Ends(path)
            ends.check(is_denying=variant.is_denying)
        except FAILURES as error:
            self._give_up(variant, error)
        else:
            self._stands.append(Stand(variant, ends, what))

    def _load(self, variant: Variant, what: Filter) -> None:
        """Load the policy, each time from nothing."""
        for number in range(self._plan.loads if variant.axis is Axis.RULES else 1):
            if number:
                what.unload()
            self.results.note(variant, {Measure.LOAD: milliseconds(what.load)})

    def _packets(self) -> None:
        for probe in PROBES:
            self._take_turns(partial(self._slice, probe))
        refusing = [stand for stand in self._stands if stand.filter]
        self._take_turns(lambda stand: self._slice(denied if stand.variant.is_denying else audited, stand), refusing)

    def _slice(self, probe: Probe, stand: Stand) -> Figures:
        return probe(stand.ends, self._plan.slice_s)

    def _take_turns(self, measure: Callable[[Stand], Figures], stands: Sequence[Stand] | None = None) -> None:
        """Each of the stands (default: all) once, in a new random order each time."""
        taking = self._stands if stands is None else stands
        for stand in self._random.sample(taking, len(taking)):
            try:
                self.results.note(stand.variant, measure(stand))
            except FAILURES as error:
                self._stands.remove(stand)
                self._give_up(stand.variant, error)

    def _give_up(self, variant: Variant, error: Exception) -> None:
        self._say(f"NOT RUN: {variant}: {error}")
        self.results.give_up(variant, str(error))

    def _say(self, text: str) -> None:
        sys.stderr.write(f"[{self._elapsed:4.0f} s] {text}\n")


@contextmanager
def on_one_processor() -> Iterator[None]:
    """Stay on one processor, so that a send includes a packet's whole way. Programs that run already may use any."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def change(stand: Stand) -> Figures:
    """Add and remove a rule or a member. Packets check that the change is in force when the command returns, and only
    then."""
    if stand.filter is None:
        return {}
    stand.filter.turn()
    stand.ends.check_change(is_in_force=False)
    added = milliseconds(stand.filter.add)
    stand.ends.check_change(is_in_force=True)
    stand.filter.turn()
    removed = milliseconds(stand.filter.remove)
    stand.ends.check_change(is_in_force=False)
    return {Measure.ADD: added, Measure.REMOVE: removed}


def milliseconds(action: Callable[[], None]) -> float:
    """How long it takes, in ms."""
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000

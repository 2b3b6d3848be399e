"""The agent's trials: which run, when they follow the policy, when they are read and noted.

Owns these times, and the answers about trials. Its input is the reports of cycles. Must not know how a trial counts.

    planned     in a thread of its own, after a cycle that changed what is in force, and as a trial begins. Cycles go on
                meanwhile; a plan of what is no longer in force is made anew
    carried out by the agent's thread, as all commits are, so that none of them is taken for somebody else's. It takes
                the registry's lock, as all who commit do. If another process has it, that is owed until the next tick
    read        every READ_S, or 20 times what reading took last; when somebody asks; at the end of the agent
    listened    for samples (sampling.py). Once a second each namespace is asked whether anybody else is still there

Nothing that goes wrong here is raised: a trial can't fail an apply. It is paused with its reason, and tried again after
the next change. Between namespaces the agent's heart beats; but clients wait, as their answers would come in between.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial

from sgdataplane.attach.modes import HostModes
from sgdataplane.attach.registry import Registry
from sgdataplane.attach.report import Key, NamespaceReport
from sgdataplane.daemon.cycle import CycleReport
from sgdataplane.daemon.logs import event
from sgdataplane.daemon.sampling import Sampling
from sgdataplane.daemon.trialplaces import TrialPlaceAt, list_desired, obey_the_same
from sgdataplane.daemon.trialplans import CONTAINED, PlannedTrial, Planner, reason_of
from sgdataplane.errors import HostError, SgDataplaneError, TrialError
from sgdataplane.model.state import CloudState
from sgdataplane.trial.declared import DeclaredTrial, begin_declared, list_declared, list_ended
from sgdataplane.trial.record import TrialFolder, TrialRecord
from sgdataplane.trial.report import TrialReport, report_of
from sgdataplane.trial.samples import Sample
from sgdataplane.trial.trial import Plan, Trial, TrialScope, remove_others

READ_S, READ_SHARE = 10.0, 20
TICK_S = 1.0
COMPARING = "the states are being compared"
BUSY = "another process changes what is enforced here; it goes on after that"
BEGINNING = (COMPARING, BUSY)  # why a trial is paused that begins by itself within moments


@dataclass
class Trials:
    """All trials, for one thread, which can wait for the file descriptor."""

    folder: TrialFolder
    registry: Registry
    beat: Callable[[], None] = lambda: None  # called between namespaces
    state: Callable[[], CloudState] = CloudState  # returns the state in force, which may declare trials
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time  # returns seconds since 1970
    _trials: dict[str, Trial] = field(default_factory=dict)
    _plans: dict[str, Plan] = field(default_factory=dict)
    _changes: dict[str, float] = field(default_factory=dict)  # when a plan is out of date
    _errors: dict[str, str] = field(default_factory=dict)
    _owed: set[str] = field(default_factory=set)  # plans that aren't carried out yet
    _is_untidy: bool = False  # there may be tables of trials that don't count
    _places: dict[object, TrialPlaceAt] = field(default_factory=dict)
    _modes: HostModes = field(default_factory=HostModes)
    _refused: dict[str, DeclaredTrial] = field(default_factory=dict)  # declared trials that aren't kept
    _told: tuple[DeclaredTrial, ...] | None = None  # of the declared trials; None if something is new
    _number: int = 0
    _read_at: float = 0.0
    _read_took: float = 0.0
    _ticked: float = 0.0

    def __post_init__(self) -> None:
        self._selector = selectors.EpollSelector()
        self._planner = Planner(self._selector, self._hear_plans)
        self._sampling = Sampling(self._selector, self._hear_sample, self.now)

    def fileno(self) -> int:
        """Return the descriptor that is readable when a plan is made, or a sample has come."""
        return self._selector.fileno()

    def close(self) -> None:
        """Count a last time. The kernel goes on counting."""
        if self._trials:
            self._read()
        self._planner.close()
        self._sampling.close()
        self._selector.close()

    # following the policy

    def note_cycle(self, report: CycleReport) -> None:
        """Follow what is in force after a cycle, if trials run and it changed."""
        if report.host is None:
            return
        before = list_desired(self._places)
        reports = {entry.key: entry for entry in report.host.namespaces if not entry.is_gone}
        self._take_places(reports)
        is_same = obey_the_same(before, list_desired(self._places)) and self._modes == report.modes
        self._modes = report.modes
        self._follow_declared()
        if self._names() and (not is_same or self._names() - self._list_running()):
            self._plan_all()
        elif any(entry.applied is not None and entry.applied.changed for entry in reports.values()):
            self._owed |= self._plans.keys()  # somebody may have removed our tables
        self._settle()

    def _follow_declared(self) -> None:
        """Keep the trials that the state in force declares, and end those that it doesn't declare any more."""
        declared = list_declared(self.state(), self.now())
        for name in list_ended(self.folder, declared):
            self._end(name)
        refused = begin_declared(self.folder, declared)
        self._refused = {name: DeclaredTrial.of_paused(declared[name], why) for name, why in refused.items()}
        self._told = None

    def _take_places(self, reports: Mapping[Key, NamespaceReport]) -> None:
        for key in self._places.keys() - reports.keys():
            self._sampling.release(key)
            del self._places[key]
        for key, entry in reports.items():
            known = self._places.get(key)
            desired = entry.desired or (known.scope.desired if known else None)
            if desired is not None:
                self._places[key] = TrialPlaceAt.of(entry, desired)
                self._is_untidy |= known is None  # tables of trials that ended while no agent ran

    def _names(self) -> set[str]:
        return set(self.folder.names())

    def _list_running(self) -> set[str]:
        return {*self._trials, *self._errors}

    def _scopes(self) -> Iterator[TrialScope]:
        """Yield all places, with a beat before each."""
        for place in tuple(self._places.values()):
            self.beat()
            yield place.scope

    def _plan_all(self) -> None:
        self._number += 1
        for name in sorted(self._names()):
            self._plan(name)

    def _plan(self, name: str) -> None:
        """Have the thread compare the states."""
        self._changes.pop(name, None)
        scopes = tuple(place.scope for place in self._places.values())
        wanted = PlannedTrial(name, self._number, self._since(name), self._trials.get(name))
        with suppress(RuntimeError):  # no memory for the thread: the next change tries again
            self._planner.plan(wanted, self.folder, scopes, partial(self._modes.apply, seconds=self.now()))

    def _since(self, name: str) -> float | None:
        """Return when the trial began that has this name now."""
        with suppress(SgDataplaneError):
            return self.folder.record(name).since
        return None

    def _hear_plans(self) -> None:
        for planned in self._planner.take():
            is_its = planned.name in self._names() and planned.since == self._since(planned.name)
            if planned.number == self._number and is_its:
                self._take(planned)
        self._settle()

    def _take(self, planned: PlannedTrial) -> None:
        self._told = None
        name, trial = planned.name, planned.trial or self._trials.get(planned.name)
        if trial is None:
            self._errors[name], self._is_untidy = planned.error, True
            event(logging.WARNING, "trial-paused", trial=name, reason=planned.error)
            return
        self._errors.pop(name, None)
        self._trials[name] = trial
        if planned.error:
            self._pause(trial, planned.error)
            return
        self._plans[name] = planned.plan
        self._owed.add(name)
        if planned.until is not None:
            self._changes[name] = planned.until

    # commits

    def _settle(self) -> None:
        """Do in the kernel what is owed, unless another process of ours works there, or we do."""
        if self._owed or self._is_untidy:
            with suppress(HostError), self.registry.lock(0.0):
                owed, self._owed = self._owed, set()
                for name in sorted(owed & self._plans.keys()):
                    self._carry_out(self._trials[name])
                if self._is_untidy:
                    self._tidy()
        self._listen()

    def _carry_out(self, trial: Trial) -> None:
        was = trial.paused
        try:
            trial.carry_out(self._plans[trial.name], self._scopes())
        except CONTAINED as error:
            self._pause(trial, reason_of(error))
            return
        if was:
            event(logging.INFO, "trial-goes-on", trial=trial.name)
        self._note(trial)

    def _tidy(self) -> None:
        """Remove tables of trials that don't count."""
        self._is_untidy = False
        paused = {name for name, trial in self._trials.items() if trial.paused}
        wanted = self._names() - self._errors.keys() - paused
        for scope in self._scopes():
            with suppress(*CONTAINED):
                remove_others((scope,), wanted)

    def _pause(self, trial: Trial, reason: str) -> None:
        self._plans.pop(trial.name, None)
        trial.read(self._scopes())
        trial.paused, self._is_untidy = reason, True
        event(logging.WARNING, "trial-paused", trial=trial.name, reason=reason)
        self._note(trial)

    def _note(self, trial: Trial) -> None:
        self._told = None
        try:
            trial.note()
        except OSError as error:
            event(logging.WARNING, "trial-not-kept", trial=trial.name, error=error)

    # reading

    @property
    def wait_s(self) -> float | None:
        """The seconds until something has to be done; None if no trial runs."""
        if not (self._list_running() or self._owed or self._is_untidy):
            return None
        return max(0.0, min(self._read_due, self._ticked + TICK_S) - self.clock())

    @property
    def _read_due(self) -> float:
        return self._read_at + max(READ_S, READ_SHARE * self._read_took)

    def serve(self) -> None:
        """Do what is due, and read what came."""
        for key, _ in self._selector.select(0):
            key.data()
        if self.wait_s is None:
            return
        if self.clock() >= self._ticked + TICK_S:
            self._ticked = self.clock()
            self._tick()
        if self.clock() >= self._read_due:
            self._read()

    def _tick(self) -> None:
        """End what is over, do what is owed, and let go of namespaces where nobody else is."""
        for name in self._list_running():
            if self._until(name) <= self.now():
                self._end(name)
                event(logging.INFO, "trial-ended", trial=name)
        for name in [name for name, at in self._changes.items() if at <= self.now()]:
            self._plan(name)
        if self._owed or self._is_untidy:
            self._settle()
        for key in self._sampling.listened:
            if key not in self._places or not self._places[key].is_there:
                self._sampling.release(key)

    def _until(self, name: str) -> float:
        """Return when a trial ends, also if it can't be read."""
        if name in self._trials:
            return self._trials[name].record.until
        try:
            return self.folder.read_known(name).until
        except SgDataplaneError:
            return self.now()  # its files are gone

    def _read(self) -> None:
        began = self.clock()
        for trial in self._trials.values():
            self._read_one(trial)
            self._note(trial)
        self._settle()
        self._read_at = self.clock()
        self._read_took = self._read_at - began

    def _read_one(self, trial: Trial) -> None:
        if not trial.read(self._scopes()) and trial.name in self._plans and not trial.paused:
            self._owed.add(trial.name)  # somebody has removed a table of ours

    # samples

    def _listen(self) -> None:
        """Listen where a trial counts, and log where that fails."""
        wanted = {entry.scope.key for plan in self._plans.values() for entry in plan if entry.found.lines}
        before = dict(self._sampling.silent)
        self._sampling.follow(place.scope for key, place in self._places.items() if key in wanted)
        for key, why in self._sampling.silent.items():
            if before.get(key) != why:
                event(logging.WARNING, "trial-not-sampled", namespace=self._places[key].report.named, reason=why)

    def _hear_sample(self, sample: Sample) -> None:
        for trial in self._trials.values():
            trial.note_sample(sample)

    def _list_unsampled(self, name: str) -> Iterator[str]:
        """Yield where this trial counts and nobody listens, and why."""
        for entry in self._plans.get(name, ()):
            place, why = self._places.get(entry.scope.key), self._sampling.silent.get(entry.scope.key)
            if entry.found.lines and place is not None and why is not None:
                yield f"{place.report.named}: {why}"

    # answers

    def begin(self, name: str) -> TrialReport | None:
        """Take up a trial that was just kept."""
        if name in self._names() and name not in self._trials:
            self._plan(name)
        return self.report(name)

    def report(self, name: str) -> TrialReport | None:
        """Return what a trial has seen until now; None if there is none of that name."""
        if name not in self._names():
            return None
        trial = self._trials.get(name)
        if trial is None:
            return TrialReport(self.folder.read_known(name), self._errors.get(name, COMPARING), (), ())
        self._read_one(trial)
        self._settle()
        seen = report_of(trial, self._list_unsampled(name))
        return replace(seen, paused=BUSY) if name in self._owed and not seen.paused else seen

    def stop(self, name: str) -> TrialReport | None:
        """End a trial; return what it has seen.

        Raises:
            TrialError: The state declares it, so it would only begin anew.
        """
        seen = self.report(name)
        if seen is not None and seen.record.group in self.state().group and self.state().group[seen.record.group].trial:
            how = f"take `trial` from the group {seen.record.group} there, or call SgdpTrialStop"
            raise TrialError(name, f"the state declares it: {how}")
        if seen is not None:
            self._end(name)
        return seen

    def _end(self, name: str) -> None:
        for known in (self._trials, self._plans, self._errors, self._changes):
            known.pop(name, None)
        self.folder.remove(name)
        self._owed.discard(name)
        self._is_untidy = True
        self._settle()

    def list_declared(self) -> tuple[DeclaredTrial, ...]:
        """Return what the declared trials had seen when they were read last."""
        if self._told is None:
            records = [record for record in self._records() if record.group]
            self._told = (*map(self._tell, records), *self._refused.values())
        return self._told

    def _tell(self, record: TrialRecord) -> DeclaredTrial:
        trial = self._trials.get(record.name)
        if trial is None:
            return DeclaredTrial.of_paused(record, self._errors.get(record.name, COMPARING))
        return DeclaredTrial.of(report_of(trial))

    def records_as_json(self) -> list[dict[str, object]]:
        """Return the trials that run, by name."""
        return [asdict(record) for record in self._records()]

    def _records(self) -> Iterator[TrialRecord]:
        for name in self.folder.names():
            with suppress(SgDataplaneError):
                yield self.folder.read_known(name)

"""The agent's trials: which run, when they follow the policy, when they are read and noted.

Owns these times, and the answers about trials. Is given reports of cycles. Must not know how a trial counts.

    planned     in a thread of its own, after a cycle that changed what is in force, and as a trial begins. Cycles go on
                meanwhile; a plan of what is no longer in force is made anew
    carried out by the agent's thread, as all commits are, so that none of them is taken for somebody else's
    read        every READ_S, or 20 times what reading took last; when somebody asks; at the end of the agent
    listened    in up to MAX_LISTENED namespaces, for samples. A socket keeps its namespace alive, so once a second it
                is asked whether anybody else is still there

Nothing that goes wrong here is raised: a trial can't fail an apply. It is paused with its reason, and tried again after
the next change.
"""

from __future__ import annotations

import logging
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial

from sgdataplane.attach.report import Key, NamespaceReport
from sgdataplane.daemon.cycle import CycleReport
from sgdataplane.daemon.logs import event
from sgdataplane.daemon.readings import place_of
from sgdataplane.enforce import Desired
from sgdataplane.errors import InternalError, SgDataplaneError
from sgdataplane.host import netns
from sgdataplane.host.identity import is_there
from sgdataplane.trial.record import TrialFolder, TrialRecord
from sgdataplane.trial.report import TrialReport, report_of
from sgdataplane.trial.samples import SampleListener
from sgdataplane.trial.trial import Plan, Trial, TrialScope, remove_others

READ_S, READ_SHARE = 10.0, 20
TICK_S = 1.0
MAX_LISTENED = 64
COMPARING = "the states are being compared"
CONTAINED = (SgDataplaneError, InternalError, OSError, MemoryError, RecursionError)


@dataclass
class _Planned:
    """What the thread has made of one trial: its trial and plan, or why there is none."""

    name: str
    number: int
    trial: Trial | None = None
    plan: Plan = ()
    error: str = ""


@dataclass
class _KnownPlace:
    """A namespace, and who listens there, if anybody does."""

    scope: TrialScope
    report: NamespaceReport
    listener: SampleListener | None = None


@dataclass
class Trials:
    """For one thread, which can wait for its file descriptor."""

    folder: TrialFolder
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    _trials: dict[str, Trial] = field(default_factory=dict)
    _plans: dict[str, Plan] = field(default_factory=dict)
    _errors: dict[str, str] = field(default_factory=dict)
    _places: dict[Key, _KnownPlace] = field(default_factory=dict)
    _ready: list[_Planned] = field(default_factory=list)
    _number: int = 0
    _read_at: float = 0.0
    _read_took: float = 0.0
    _ticked: float = 0.0

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "trials")
        self._selector = selectors.EpollSelector()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._selector.register(self._reader, selectors.EVENT_READ, self._hear_plans)

    def fileno(self) -> int:
        return self._selector.fileno()

    def close(self) -> None:
        """Count a last time. The kernel goes on counting."""
        if self._trials:
            self._read()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for place in self._places.values():
            self._deafen(place)
        self._selector.close()
        self._reader.close()
        self._writer.close()

    # following the policy

    def note_cycle(self, report: CycleReport) -> None:
        """Follow what is in force after a cycle, if trials run and it changed."""
        if report.host is None:
            return
        before = {key: place.scope.desired for key, place in self._places.items()}
        reports = {entry.key: entry for entry in report.host.namespaces if not entry.is_gone}
        self._take_places(reports)
        now = {key: place.scope.desired for key, place in self._places.items()}
        if not self._names():
            return
        if not _is_same(before, now) or self._names() - self._known():
            self._plan_all()
        elif any(entry.applied is not None and entry.applied.changed for entry in reports.values()):
            self._carry_out_all()  # somebody may have removed our tables

    def _take_places(self, reports: Mapping[Key, NamespaceReport]) -> None:
        for key in self._places.keys() - reports.keys():
            self._deafen(self._places.pop(key))
        for key, entry in reports.items():
            known = self._places.get(key)
            desired = entry.desired or (known.scope.desired if known else None)
            if desired is not None:
                scope = TrialScope(key, partial(place_of, entry), desired)
                self._places[key] = _KnownPlace(scope, entry, known.listener if known else None)
                if known is None:
                    self._tidy((scope,))

    def _tidy(self, scopes: tuple[TrialScope, ...]) -> None:
        """Remove tables of trials that don't run, such as one that ended while no agent ran."""
        with suppress(*CONTAINED):
            remove_others(scopes, self._names() - self._errors.keys())

    def _names(self) -> set[str]:
        return set(self.folder.names())

    def _known(self) -> set[str]:
        return {*self._trials, *self._errors}

    @property
    def _scopes(self) -> tuple[TrialScope, ...]:
        return tuple(place.scope for place in self._places.values())

    def _plan_all(self) -> None:
        self._number += 1
        for name in sorted(self._names()):
            self._plan(name)

    def _plan(self, name: str) -> None:
        """Have the thread compare the states."""
        work = partial(_planned, self.folder, name, self._number, self._trials.get(name), self._scopes)
        with suppress(RuntimeError):  # no memory for the thread: the next change tries again
            self._pool.submit(work).add_done_callback(self._note_planned)

    def _note_planned(self, future: Future[_Planned]) -> None:
        """In the thread: wake the other one."""
        with suppress(BaseException):
            self._ready.append(future.result())
            self._writer.send(b"\0")

    def _hear_plans(self) -> None:
        with suppress(BlockingIOError):
            self._reader.recv(4096)
        ready, self._ready = self._ready, []
        for found in ready:
            if found.number == self._number and found.name in self._names():
                self._take(found)

    def _take(self, found: _Planned) -> None:
        trial = found.trial or self._trials.get(found.name)
        if trial is None:
            self._errors[found.name] = found.error
            event(logging.WARNING, "trial-paused", trial=found.name, reason=found.error)
            self._tidy(self._scopes)
            return
        self._errors.pop(found.name, None)
        self._trials[found.name] = trial
        if found.error:
            self._pause(trial, found.error)
            return
        self._plans[found.name] = found.plan
        self._carry_out(trial)

    def _carry_out_all(self) -> None:
        for name, trial in self._trials.items():
            if name in self._plans:
                self._carry_out(trial)

    def _carry_out(self, trial: Trial) -> None:
        was = trial.paused
        try:
            trial.carry_out(self._plans[trial.name], self._scopes)
        except CONTAINED as error:
            self._pause(trial, str(error) or type(error).__name__)
            return
        if was and was != COMPARING:
            event(logging.INFO, "trial-goes-on", trial=trial.name)
        self._note(trial)
        self._listen()

    def _pause(self, trial: Trial, reason: str) -> None:
        self._plans.pop(trial.name, None)
        trial.pause(reason, self._scopes)
        event(logging.WARNING, "trial-paused", trial=trial.name, reason=reason)
        self._note(trial)

    def _note(self, trial: Trial) -> None:
        try:
            trial.note()
        except OSError as error:
            event(logging.WARNING, "trial-not-kept", trial=trial.name, error=error)

    # reading

    @property
    def wait_s(self) -> float | None:
        """How long until something has to be done; None if no trial runs."""
        if not self._trials:
            return None
        return max(0.0, min(self._read_due, self._ticked + TICK_S) - self.clock())

    @property
    def _read_due(self) -> float:
        return self._read_at + max(READ_S, READ_SHARE * self._read_took)

    def serve(self) -> None:
        """Do what is due, and read what came."""
        for key, _ in self._selector.select(0):
            key.data()
        if self._trials and self.clock() >= self._ticked + TICK_S:
            self._ticked = self.clock()
            self._tick()
        if self._trials and self.clock() >= self._read_due:
            self._read()

    def _tick(self) -> None:
        """End what is over, and let go of namespaces where nobody else is."""
        for name in list(self._trials):
            with suppress(SgDataplaneError):
                if self.folder.record(name).until <= self.now():
                    self._end(name)
                    event(logging.INFO, "trial-ended", trial=name)
        for place in self._places.values():
            if place.listener is not None and not _is_there(place.report):
                self._deafen(place)

    def _read(self) -> None:
        began = self.clock()
        for trial in self._trials.values():
            self._read_one(trial)
            self._note(trial)
        self._read_at = self.clock()
        self._read_took = self._read_at - began

    def _read_one(self, trial: Trial) -> None:
        if not trial.read(self._scopes) and trial.name in self._plans and not trial.paused:
            self._carry_out(trial)  # somebody has removed a table of ours

    # samples

    def _listen(self) -> None:
        """Listen where a trial counts."""
        wanted = {entry.scope.key for plan in self._plans.values() for entry in plan if entry.found.lines}
        for key, place in self._places.items():
            if key not in wanted:
                self._deafen(place)
        for key in [key for key in self._places if key in wanted][:MAX_LISTENED]:
            place = self._places[key]
            if place.listener is None:
                with suppress(SgDataplaneError, OSError), place.scope.held() as path:
                    if path is not None:
                        place.listener = SampleListener(path, place.scope.desired.site)
                        self._selector.register(
                            place.listener, selectors.EVENT_READ, partial(self._hear_samples, place.listener)
                        )

    def _hear_samples(self, listener: SampleListener) -> None:
        with suppress(SgDataplaneError, OSError):
            for sample in listener.read(self.now()):
                for trial in self._trials.values():
                    trial.note_sample(sample)

    def _deafen(self, place: _KnownPlace) -> None:
        if place.listener is not None:
            with suppress(KeyError, ValueError):
                self._selector.unregister(place.listener)
            place.listener.close()
            place.listener = None

    # answers

    def begin(self, name: str) -> TrialReport | None:
        """Take up a trial that was just kept."""
        if name in self._names() and name not in self._trials:
            self._plan(name)
        return self.report(name)

    def report(self, name: str) -> TrialReport | None:
        """What a trial has seen until now; None if there is none of that name."""
        if name not in self._names():
            return None
        trial = self._trials.get(name)
        if trial is None:
            return TrialReport(self.folder.record(name), self._errors.get(name, COMPARING), (), ())
        self._read_one(trial)
        return report_of(trial)

    def stop(self, name: str) -> TrialReport | None:
        """End a trial; return what it has seen."""
        found = self.report(name)
        if found is not None:
            self._end(name)
        return found

    def _end(self, name: str) -> None:
        trial = self._trials.pop(name, None)
        self._plans.pop(name, None)
        self._errors.pop(name, None)
        if trial is not None:
            trial.end(self._scopes)
        self.folder.remove(name)
        self._listen()

    def records(self) -> list[TrialRecord]:
        """The trials that run, by name."""
        found = []
        for name in self.folder.names():
            with suppress(SgDataplaneError):
                found.append(self.folder.record(name))
        return found

    def records_as_json(self) -> list[dict[str, object]]:
        return [asdict(record) for record in self.records()]


def _planned(
    folder: TrialFolder, name: str, number: int, trial: Trial | None, scopes: tuple[TrialScope, ...]
) -> _Planned:
    """Compare the states, in the thread."""
    found = _Planned(name, number, trial)
    try:
        found.trial = trial or Trial.load(folder, name)
        found.plan = found.trial.plan(scopes)
    except CONTAINED as error:
        found.error = str(error) or type(error).__name__
    return found


def _is_same(before: Mapping[Key, Desired], now: Mapping[Key, Desired]) -> bool:
    """Whether the same namespaces obey the same."""
    return before.keys() == now.keys() and all(
        before[key] is now[key] or (before[key].state is now[key].state and before[key] == now[key]) for key in now
    )


def _is_there(report: NamespaceReport) -> bool:
    """Whether the namespace exists for others than us."""
    if isinstance(report.key, str):
        return netns.exists(report.key)
    with suppress(SgDataplaneError, OSError):
        return is_there(report.key, report.enis[0].binding.path)
    return True

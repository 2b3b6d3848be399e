"""The agent: waits for causes, and runs a cycle for them. One thread, one selector, no polling.

Owns the wiring, and what ends it. Is given a configuration. Must not know how a policy is put in force.

    the state's file or folder, bindings (inotify)   \\
    links, namespaces and names of them, our tables   \\
    SIGHUP, SIGTERM, SIGINT                            >  causes -> one cycle -> status, log, systemd
    the control socket                                /
    the timer, retries                               /

Ending removes nothing: the kernel enforces on.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from sgdataplane.attach.again import containers_of, follows_names
from sgdataplane.attach.agenda import Heard
from sgdataplane.attach.registry import Binding, Registry
from sgdataplane.attach.report import HostReport, Key, Outcome
from sgdataplane.daemon import logs
from sgdataplane.daemon.answers import Answers
from sgdataplane.daemon.causes import Cause, Schedule
from sgdataplane.daemon.config import CONFIG_FILE, Config, changed_at_start_only, load_config
from sgdataplane.daemon.containers import ContainerWatch
from sgdataplane.daemon.control import ControlServer
from sgdataplane.daemon.counts import Counts
from sgdataplane.daemon.lastgood import LastGood
from sgdataplane.daemon.ledgerfile import LedgerFile
from sgdataplane.daemon.logs import event
from sgdataplane.daemon.meanwhile import Meanwhile
from sgdataplane.daemon.metrics import Metrics
from sgdataplane.daemon.namespaces import Drift, NamespaceWatch
from sgdataplane.daemon.notify import Notifier
from sgdataplane.daemon.protocol import Question, Request, spell_answer
from sgdataplane.daemon.reconcile import ASKED, LOOKING, CycleReport, Reconciler
from sgdataplane.daemon.scrape import MetricsServer
from sgdataplane.daemon.source import WatchedFiles
from sgdataplane.daemon.status import EniStatus, Status
from sgdataplane.daemon.turns import Turns
from sgdataplane.errors import ConfigError, SgDataplaneError
from sgdataplane.host.timeouts import OTHERS
from sgdataplane.host.watch import NamesWatch, PathWatch
from sgdataplane.model.choices import ON_HOSTS
from sgdataplane.observe.capacity import read_complaints

ENDING = (signal.SIGTERM, signal.SIGINT)
MAX_TOLD = 20  # of what is not bound: who is root in a namespace may have any number of interfaces there
LEVELS = {Outcome.IN_FORCE: logging.INFO, Outcome.GONE: logging.WARNING, Outcome.REFUSED: logging.ERROR}


class _Source(Protocol):
    def fileno(self) -> int: ...


class Agent:
    """Made and run by `run_agent`. `config_file`: where the configuration comes from, for a reload."""

    def __init__(self, config: Config, config_file: Path, chosen: Mapping[str, object], stack: ExitStack) -> None:
        self._config, self._config_file, self._chosen = config, config_file, chosen
        self._started_with = config
        self._is_ending = self._is_in_cycle = False
        self._registry = Registry(config.bindings)
        self._bindings: tuple[Binding, ...] | None = None
        last_good = LastGood(config.state_directory)
        self._notifier = Notifier(os.environ)
        self._meanwhile = Meanwhile(lambda: self._handle(self._serve))
        stack.callback(self._meanwhile.close)
        self._reconciler = Reconciler(self._registry, last_good, self._notifier.beat, self._meanwhile.run)
        self._status = Status(config.state, config_file, last_good.path)
        self._status.choices = config.choices
        self._metrics = Metrics(self._status)
        self._metrics_server = MetricsServer(self._metrics.text)
        stack.callback(self._metrics_server.close)
        self._counts = Counts(LedgerFile(config.state_directory))
        stack.callback(self._count, self._counts.close)
        self._answers = Answers(self._status, self._counts, self._reconciler)
        self._drifts: dict[Key, list[Drift]] = {}
        self._put_off: dict[Key, list[Drift]] = {}  # told, but not repaired yet
        self._errors: dict[str, str] = {}
        self._unknown_timeouts: tuple[str, ...] = ()
        self._schedule = Schedule(config.resync, time.monotonic)
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._asking = stack.enter_context(selectors.EpollSelector())  # who is served in a cycle, too
        self._control = ControlServer(config.socket, self._asking, self._answer, time.monotonic)
        stack.callback(self._control.close)
        self._turns = Turns(time.monotonic)
        self._namespaces, self._names, self._containers = NamespaceWatch(), NamesWatch(), ContainerWatch()
        self._paths, self._source = PathWatch(), WatchedFiles(config.state)
        for each in (self._namespaces, self._names, self._containers, self._paths, self._source):
            stack.callback(each.close)
        self._signals = stack.enter_context(_signals())
        self._register(self._asking, lambda: None)  # each round serves them
        self._register(self._namespaces.links, self._links_are_told)
        self._register(self._namespaces.rules, self._rules_are_told)
        self._register(self._names, self._names_are_told)
        self._register(self._source, self._state_is_told)
        self._register(self._paths, self._bindings_are_told)
        self._register(self._signals, self._signals_are_told)
        self._register(self._containers, self._containers_are_told)

    def _register(self, source: _Source, call: Callable[[], None]) -> None:
        self._selector.register(source, selectors.EVENT_READ, call)

    def run(self, *, once: bool) -> None:
        """Until it is told to end, or `once`: one cycle."""
        self._schedule.add(Cause.START)
        while not self._is_ending:
            for key, _ in self._selector.select(self._wait_s()):
                self._handle(key.data)
            self._handle(self._serve)
            self._count(self._counts.store_if_due)
            if self._turns.wait_s == 0.0:
                self._schedule.add(Cause.TURN)
            causes = self._schedule.take()
            if causes and not self._is_ending:
                self._run_cycle(causes)
                self._is_ending |= once
        self._notifier.tell("STOPPING=1")
        event(logging.INFO, "stopped", removed="nothing")

    def _wait_s(self) -> float:
        waits = (self._schedule.wait_s, self._control.wait_s, self._notifier.wait_s, self._counts.wait_s)
        return min(self._turns.wait_s, *(wait for wait in waits if wait is not None))

    @property
    def status(self) -> Status:
        return self._status

    # what is told

    def _handle(self, call: Callable[[], None]) -> None:
        """What others tell can't end the agent, whatever it is."""
        try:
            call()
        except Exception:  # noqa: BLE001  # a bug, or no memory: what was told is lost, so look at everything
            logs.LOGGER.exception("telling-failed")
            self._metrics.note_error("bug")
            self._namespaces.doubt()
            self._schedule.add(Cause.STATE)

    def _serve(self) -> None:
        """Those who ask, as far as they are ready; and systemd is told that we live."""
        for key, _ in self._asking.select(0):
            key.data()
        self._control.expire()
        self._notifier.beat()

    def _count(self, call: Callable[[], None]) -> None:
        """A bug in counting, or no memory for it, harms nothing else."""
        try:
            call()
        except Exception:  # noqa: BLE001
            logs.LOGGER.exception("counting-failed")
            self._metrics.note_error("bug")

    def _links_are_told(self) -> None:
        if self._namespaces.links_changed():
            self._schedule.add(Cause.LINK)

    def _names_are_told(self) -> None:
        if self._names.changed() and (self._config.bind or self._status.gone or follows_names(self._bindings or ())):
            self._schedule.add(Cause.LINK)

    def _containers_are_told(self) -> None:
        self._containers.read()
        self._schedule.add(Cause.LINK)

    def _rules_are_told(self) -> None:
        drifts, is_due = self._namespaces.rules_changed()
        for drift in drifts:
            self._drifts.setdefault(drift.key, []).append(drift)
        if drifts or is_due:
            self._schedule.add(Cause.DRIFT)

    def _state_is_told(self) -> None:
        if self._source.changed():
            self._schedule.add(Cause.STATE)

    def _bindings_are_told(self) -> None:
        if self._paths.read():
            if self._read_bindings() != self._bindings:
                self._schedule.add(Cause.BINDINGS)  # a cycle of ours writes them, too
            self._paths.follow((self._registry.path,))

    def _signals_are_told(self) -> None:
        with suppress(BlockingIOError):
            numbers = set(self._signals.recv(64))
            self._is_ending |= bool(numbers & set(ENDING))
            if signal.SIGHUP in numbers:
                self._schedule.add(Cause.RELOAD)

    def _answer(self, asked: Question) -> bytes:
        answer = self._answers.to(asked)
        if answer is not None:
            return answer
        self._schedule.add(Cause.RELOAD if asked.request is Request.RELOAD else Cause.RESYNC)
        return spell_answer(cycle=self._status.cycles + 1 + self._is_in_cycle)  # one that runs may not know of it

    def _read_bindings(self) -> tuple[Binding, ...] | None:
        """None if they can't be read; the next cycle says why."""
        with suppress(SgDataplaneError):
            return self._registry.load()
        return None

    # a cycle

    def _run_cycle(self, causes: Collection[Cause]) -> None:
        """Nothing that goes wrong in it ends the agent."""
        self._is_in_cycle = True
        try:
            self._cycle(causes)
        except Exception as error:  # noqa: BLE001  # a bug, or no memory: the kernel enforces on, and we try again
            self._schedule.failed(causes)
            self._reconciler.forget()
            self._namespaces.doubt()
            self._turns.left, self._turns.is_owed = frozenset(), False
            self._status.note_bug(error)
            self._metrics.note_error("bug")
            logs.LOGGER.exception("cycle-failed")
        finally:
            self._is_in_cycle = False

    def _cycle(self, causes: Collection[Cause]) -> None:
        if Cause.RELOAD in causes:
            self._notifier.tell("RELOADING=1")
            self._reload()
        self._paths.follow((self._registry.path,))
        heard = self._heard()
        report = self._reconciler.run(causes, self._source, self._config.manner, self._config.rule, heard)
        # not what is in the file now: who attaches meanwhile is to be enforced, too
        self._bindings = None if report.host is None else report.host.bindings
        self._schedule.done(is_whole=report.is_whole)
        self._namespaces.look_at(report.discovery.numbers)
        if report.host is None:
            self._namespaces.doubt()
        elif self._namespaces.follow(report.host) or report.host.gone - self._status.gone:
            self._schedule.add(Cause.LINK)  # of a new one something may have been missed; who has gone, may be back
        if report.host is not None:
            running, lost = containers_of(report.host.bindings), containers_of(report.host.lost)
            self._containers.follow(running, lost, is_look=bool(LOOKING & report.causes))
        self._take_turns(report, report.host or HostReport(()))
        self._tell(report)
        self._count(lambda: self._counts.note_cycle(report))

    def _heard(self) -> Heard:
        """What was heard since the last cycle; and whose turn it is, of namespaces that were heard of or where
        something was left undone."""
        self._turns.forget_calm()
        self._turns.suspect(self._drifts.keys() | self._put_off.keys())
        keys = self._turns.ordered(self._namespaces.heard | self._reconciler.undone)
        quiet = self._namespaces.take_quiet()
        return Heard(quiet, keys, self._turns.waiting(keys), self._turns.disturbed, self._containers.take())

    def _take_turns(self, report: CycleReport, host: HostReport) -> None:
        """Where nothing could be done, there is nothing to wait for; nor when somebody has asked for all."""
        if ASKED & report.causes:
            self._turns.forget()
        for key, is_repair in report.repaired.items():
            self._turns.note(key, report.looked[key], is_repair=is_repair)
        self._turns.left, self._turns.is_owed = host.left, bool(host.owed)
        self._namespaces.leave(host.left)

    def _reload(self) -> None:
        """A bad configuration changes nothing."""
        try:
            must_exist = self._config_file != CONFIG_FILE
            new = load_config(self._config_file, must_exist=must_exist, chosen=self._chosen)
        except ConfigError as error:
            self._status.config_error = str(error)
            event(logging.ERROR, "config-refused", error=error)
            self._metrics.note_error("config")
            return
        self._status.config_error = ""
        self._status.needs_restart = changed_at_start_only(self._started_with, new)
        self._config, self._source.path, self._schedule.resync_s = new, new.state, new.resync
        self._status.state, self._status.choices = new.state, new.choices
        logs.set_level(new.log_level)

    def _tell(self, report: CycleReport) -> None:
        new = self._status.note_cycle(report)
        self._status.neighbours = read_complaints()
        self._metrics.note_cycle(report)
        words, origin = ",".join(sorted(cause.value for cause in report.causes)), report.policy.origin.value
        level = logging.INFO if report.causes != {Cause.TURN} else logging.DEBUG
        level = level if report.is_whole else logging.ERROR
        event(level, "cycle", number=self._status.cycles, causes=words, s=report.seconds, policy=origin)
        errors = {
            "not-bound": "; ".join(map(str, report.unclear[:MAX_TOLD])),
            "not-looked-at": report.discovery.error,
            "state-refused": report.policy.refusal,
            "cycle-incomplete": report.error,
            "carried-past": "" if report.host is None else "; ".join(report.host.warnings),
            "neighbours-nearly-full": "; ".join(self._status.neighbours),
            "not-tidied": report.untidy,
            "last-good-not-kept": report.last_good_error,
            "metrics-not-served": self._metrics_server.follow(self._config.metrics),
        }
        for what, error in errors.items():
            if error and error != self._errors.get(what):  # told once, not in each cycle
                event(logging.ERROR, what, error=error)
        self._errors = errors
        for binding in report.discovery.bound:
            event(logging.INFO, "bound", eni=binding.eni_id, at=binding, by=binding.means.value)
        for namespace in report.discovery.left:
            event(logging.WARNING, "left-closed", namespace=namespace)
        for eni in new:
            _log_eni(eni)
        if report.host is not None:
            self._tell_drift(report.host)
            self._tell_trackers(report.host)
        state = "healthy" if self._status.is_healthy else "not healthy: see `sgdp status`"
        self._notifier.tell("READY=1", f"STATUS={len(report.host.enis) if report.host else 0} ENIs, {state}")

    def _tell_drift(self, host: HostReport) -> None:
        """A line a namespace, however many commits there were. What is no longer enforced was let go, by `sgdp detach`
        or `clear`: that is no drift. While a namespace waits, nothing more is heard of it."""
        new, self._drifts = self._drifts, {}
        for drift in (drift for key, drifts in new.items() if key in host.by_key for drift in drifts):
            self._status.note_drift(drift)
        for key in new.keys() & host.left & self._turns.disturbed:
            self._tell_delay(new[key])
        known = {key: self._put_off.get(key, []) + new.get(key, []) for key in self._put_off.keys() | new.keys()}
        self._put_off = {key: drifts for key, drifts in known.items() if key in host.left}
        for key in known.keys() & (host.by_key.keys() - host.left):
            is_repaired = host.by_key[key].error is None
            _log_drift("drift", known[key], repaired=is_repaired)
            if is_repaired:
                self._metrics.note_repair()

    def _tell_delay(self, drifts: Sequence[Drift]) -> None:
        key = drifts[-1].key
        _log_drift("disturbed", drifts, repairs=self._turns.of(key).repairs, again_in_s=self._turns.wait_s_of(key))
        self._metrics.note_delay()

    def _tell_trackers(self, host: HostReport) -> None:
        """Once: they are the kernel's."""
        new = set(host.unknown_timeouts) - set(self._unknown_timeouts)
        if new:
            event(logging.WARNING, "unknown-timeouts", names=",".join(sorted(new)), at_most_s=OTHERS)
        self._unknown_timeouts = (*self._unknown_timeouts, *sorted(new))


def _log_drift(word: str, drifts: Sequence[Drift], **more: object) -> None:
    """Of one namespace. Who did it gives itself any name."""
    last, told = drifts[-1], {"namespace": drifts[-1].namespace, "commits": len(drifts)}
    event(logging.WARNING, word, **told, **more, by=last.by, changes=last.changes)


def _log_eni(eni: EniStatus) -> None:
    report = eni.report
    event(
        LEVELS.get(report.outcome, logging.WARNING),
        "eni",
        eni=report.binding.eni_id,
        at=report.binding,
        outcome=report.outcome.value,
        epoch=eni.epoch,
        **({"error": eni.error} if eni.error else {}),
    )


def _signals() -> socket.socket:
    """A socket to read the numbers of signals from, as they come."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    for number in (*ENDING, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return reader


def run_agent(config: Config, config_file: Path, chosen: Mapping[str, object], *, once: bool = False) -> Status:
    """Run until SIGTERM or SIGINT, or `once`: one cycle; how things are then. HostError if another one runs, or the
    kernel can't tell what happens. `chosen`: whatever the configuration says, also when it is read anew."""
    logs.set_up(config.log_level)
    if once:
        config = replace(config, metrics="")  # there is no time to ask
    with ExitStack() as stack:
        agent = Agent(config, config_file, chosen, stack)
        unusual = "; ".join(config.choices.unlike(ON_HOSTS)) or "nothing"
        event(logging.INFO, "started", state=config.state, placement=config.choices.placement.value, chosen=unusual)
        agent.run(once=once)
        return agent.status

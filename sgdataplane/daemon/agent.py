r"""The agent: waits for causes, and runs a cycle for them. One thread, one selector, no polling.

Owns the wiring, and the end. Its input is a configuration. Must not know how policies are enforced.

    the state's file or folder, bindings (inotify)   \
    links, namespaces and their names, our tables    \
    SIGHUP, SIGTERM, SIGINT                            >  causes -> one cycle -> status, log, systemd
    the control socket                                /
    the timer, retries                               /

When it ends it removes nothing: the kernel keeps enforcing.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from sgdataplane.attach.again import containers_of, follows_names
from sgdataplane.attach.agenda import Heard
from sgdataplane.attach.owncommits import CommitFile
from sgdataplane.attach.registry import Binding, Registry
from sgdataplane.attach.report import HostReport
from sgdataplane.collection import tidy
from sgdataplane.daemon import logs
from sgdataplane.daemon.answers import Answers
from sgdataplane.daemon.auditfile import AuditEndFile
from sgdataplane.daemon.clearing import Clearer
from sgdataplane.daemon.config import CONFIG_FILE, Config, find_start_only_changes, load_config
from sgdataplane.daemon.containers import ContainerWatch
from sgdataplane.daemon.control import ControlServer, Loop, StatusServer
from sgdataplane.daemon.counts import Counts
from sgdataplane.daemon.cycle import ASKED, LOOKING, Beside, CycleReport, Reconciler
from sgdataplane.daemon.historian import Historian, RecorderCommits
from sgdataplane.daemon.hold import PolicyKeeper
from sgdataplane.daemon.journal import Journal
from sgdataplane.daemon.ledgerfile import LedgerFile
from sgdataplane.daemon.loglimit import LogLimit
from sgdataplane.daemon.logs import Notifier, event
from sgdataplane.daemon.meanwhile import Meanwhile
from sgdataplane.daemon.metrics import Metrics
from sgdataplane.daemon.namespaces import Drift, NamespaceWatch
from sgdataplane.daemon.provenfile import ProvenFile
from sgdataplane.daemon.schedule import Cause, Schedule, Turns
from sgdataplane.daemon.scrape import MetricsServer
from sgdataplane.daemon.sessioncapacity import SessionCapacity
from sgdataplane.daemon.signals import ENDING, open_signals
from sgdataplane.daemon.source import LastGood, source_of
from sgdataplane.daemon.statefolder import TRIALS
from sgdataplane.daemon.status import Status
from sgdataplane.daemon.trials import Trials
from sgdataplane.errors import ConfigError, SgDataplaneError
from sgdataplane.host.files import Survives
from sgdataplane.host.watch import NamesWatch, PathWatch
from sgdataplane.model.choices import ON_HOSTS
from sgdataplane.trial.record import TrialFolder


class _Watch(Protocol):
    """Something that a selector can wait for."""

    def fileno(self) -> int: ...


class Agent:
    """The agent, which `run_agent` makes and runs.

    `config_file` is the configuration's file, for a reload. `limit` limits the log.
    """

    def __init__(
        self, config: Config, config_file: Path, chosen: Mapping[str, object], stack: ExitStack, limit: LogLimit
    ) -> None:
        self._limit = limit
        self._config, self._config_file, self._chosen = config, config_file, chosen
        self._started_with = config
        self._is_ending = self._is_in_cycle = False
        self._registry = Registry(config.bindings)
        self._bindings: tuple[Binding, ...] | None = None
        last_good = LastGood(config.state_directory)
        self._notifier, self._capacity = Notifier(os.environ), SessionCapacity()
        self._meanwhile = stack.enter_context(closing(Meanwhile(lambda: self._handle(self._serve))))
        self._clearer = stack.enter_context(closing(Clearer()))
        beside = Beside(self._notifier.beat, self._meanwhile.run, self._hear_helper, self._clearer)
        self._keeper = PolicyKeeper(config.state_directory, str(config.state))
        self._reconciler = Reconciler(
            self._registry, last_good, ProvenFile(config.state_directory), beside, self._keeper
        )
        self._reconciler.keep_ends_in(AuditEndFile(config.state_directory))
        self._status = Status(config.state, config_file, last_good.path)
        self._status.choices = config.choices
        commits = RecorderCommits(self._hear_recorder, self._hear_helper)
        self._historian = stack.enter_context(closing(Historian(config.state_directory, commits=commits)))
        self._status.history = self._historian.as_json
        self._metrics = Metrics(self._status)
        self._metrics_server = stack.enter_context(closing(MetricsServer(self._metrics.text)))
        self._counts = Counts(LedgerFile(config.state_directory))
        stack.callback(self._count, self._counts.close)
        folder = TrialFolder(config.state_directory / TRIALS, Survives.THE_MACHINE)
        self._trials = Trials(folder, self._registry, self._notifier.beat, lambda: self._reconciler.state)
        stack.callback(self._count, self._trials.close)
        self._schedule, self._turns = Schedule(config.resync, time.monotonic), Turns(time.monotonic)
        self._journal = Journal(self._status, self._metrics, self._notifier, self._turns, CommitFile(config.bindings))
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._asking = stack.enter_context(selectors.EpollSelector())  # clients, who are served in a cycle, too
        answers = Answers(
            self._status, self._counts, self._trials, self._keeper, lambda: self._reconciler.state, self._start_cycle
        )
        loop = Loop(self._asking, time.monotonic, lambda: self._status.cycles)
        self._control = ControlServer(config.socket, loop, answers.answer)
        self._namespaces, self._names, self._containers = NamespaceWatch(), NamesWatch(), ContainerWatch()
        self._paths, self._source = PathWatch(), source_of(config.state)
        self._status_server = StatusServer(loop, answers.tell_owner, lambda: self._source.owner)
        servers = self._control, self._status_server
        for each in (*servers, self._namespaces, self._names, self._containers, self._paths, self._source):
            stack.callback(each.close)
        self._signals = stack.enter_context(open_signals())
        self._register_all()

    def _register_all(self) -> None:
        self._register(self._asking, lambda: None)  # each round serves them
        self._register(self._namespaces.links, self._hear_links)
        self._register(self._namespaces.rules, self._hear_rules)
        self._register(self._names, self._hear_names)
        self._register(self._source, self._hear_state)
        self._register(self._paths, self._hear_bindings)
        self._register(self._signals, self._hear_signals)
        self._register(self._containers, self._hear_containers)
        self._register(self._clearer, self._hear_cleared)
        self._register(self._historian, self._historian.read)
        self._register(self._trials, lambda: None)  # each round serves them

    def _register(self, watch: _Watch, call: Callable[[], None]) -> None:
        self._selector.register(watch, selectors.EVENT_READ, call)

    def run(self, *, once: bool) -> None:
        """Run until a signal ends it, or with `once` for one cycle."""
        self._schedule.add(Cause.START)
        self._clearer.is_idle = once
        while not self._is_ending:
            for key, _ in self._selector.select(self._wait_s()):
                self._handle(key.data)
            self._handle(self._serve)
            self._handle(self._limit.flush)
            self._handle(self._historian.tick)
            self._count(lambda: self._counts.store_if_due(lambda: self._handle(self._serve)))
            self._count(self._trials.serve)
            for cause, wait_s in self._waits():
                if wait_s == 0.0:
                    self._schedule.add(cause)
            causes = self._schedule.take()
            if causes and not self._is_ending:
                self._run_cycle(causes)
                self._is_ending |= once
            elif self._reconciler.is_ahead and not self._is_ending:
                self._handle(self._reconciler.build_one)
        self._notifier.tell("STOPPING=1")
        self._limit.forget()
        event(logging.INFO, "stopped", removed="nothing")

    def _wait_s(self) -> float:
        if self._reconciler.is_ahead:
            return 0.0
        asked = self._control.wait_s, self._status_server.wait_s, self._schedule.wait_s
        kept = self._counts.wait_s, self._trials.wait_s, self._historian.wait_s
        waits = (*asked, *kept, self._notifier.wait_s, self._limit.wait_s, *(wait for _, wait in self._waits()))
        return min(wait for wait in waits if wait is not None)

    def _waits(self) -> tuple[tuple[Cause, float | None], ...]:
        """Return the cycles that time alone makes due, with the seconds until each."""
        return (
            (Cause.TURN, self._turns.wait_s),
            (Cause.MODE, self._reconciler.mode_wait_s),
            (Cause.UNDO, self._keeper.wait_s),
        )

    def _start_cycle(self, cause: Cause) -> int:
        """Have a cycle run, and return the number of the one that does it: one that runs now may have missed it."""
        self._schedule.add(cause)
        return self._status.cycles + 1 + self._is_in_cycle

    @property
    def status(self) -> Status:
        """The agent's status."""
        return self._status

    # events

    def _handle(self, call: Callable[[], None]) -> None:
        """Call what an event asks for. No event can end the agent, whatever others sent."""
        try:
            call()
        except Exception:  # noqa: BLE001  # a bug, or no memory: the event is lost, so look at everything
            logs.LOGGER.exception("event-failed")
            self._metrics.note_error("bug")
            self._namespaces.doubt()
            self._schedule.add(Cause.STATE)

    def _serve(self) -> None:
        """Serve clients that are ready, and tell systemd that we live."""
        for key, _ in self._asking.select(0):
            key.data()
        self._control.expire()
        self._status_server.expire()
        self._notifier.beat()

    def _count(self, call: Callable[[], None]) -> None:
        """Call what counts. A bug in it, or no memory for it, harms nothing else."""
        try:
            call()
        except Exception:  # noqa: BLE001
            logs.LOGGER.exception("counting-failed")
            self._metrics.note_error("bug")

    def _hear_links(self) -> None:
        if self._namespaces.links_changed():
            self._schedule.add(Cause.LINK)

    def _hear_names(self) -> None:
        names = self._names.take_changes()
        if names and (self._config.bind or self._status.gone or follows_names(self._bindings or (), names)):
            self._schedule.add(Cause.LINK)

    def _hear_containers(self) -> None:
        self._containers.read()
        self._schedule.add(Cause.LINK)

    def _hear_cleared(self) -> None:
        if self._clearer.read() & self._reconciler.unfinished:
            self._schedule.add(Cause.TURN)

    def _hear_rules(self) -> None:
        self._note_rules(*self._namespaces.rules_changed())

    def _hear_recorder(self, process: int) -> None:
        self._namespaces.own(process)

    def _hear_helper(self, process: int) -> None:
        self._handle(lambda: self._note_rules(*self._namespaces.rules_changed_beside(process)))

    def _note_rules(self, drifts: list[Drift], is_due: bool) -> None:
        self._journal.note_drifts(drifts)
        if drifts or is_due:
            self._schedule.add(Cause.DRIFT)

    def _hear_state(self) -> None:
        if self._source.poll():
            self._schedule.add(Cause.STATE)

    def _hear_bindings(self) -> None:
        if self._paths.read():
            if self._read_bindings() != self._bindings:
                self._schedule.add(Cause.BINDINGS)  # our own cycles write them, too
            self._paths.follow((self._registry.path,))

    def _hear_signals(self) -> None:
        with suppress(BlockingIOError):
            numbers = set(self._signals.recv(64))
            self._is_ending |= bool(numbers & set(ENDING))
            if signal.SIGHUP in numbers:
                self._schedule.add(Cause.RELOAD)

    def _read_bindings(self) -> tuple[Binding, ...] | None:
        """Return the bindings; None if they can't be read, which the next cycle reports."""
        with suppress(SgDataplaneError):
            return self._registry.load()
        return None

    # a cycle

    def _run_cycle(self, causes: Collection[Cause]) -> None:
        """Run one cycle. Nothing that goes wrong in it ends the agent."""
        self._is_in_cycle = True
        try:
            self._cycle(causes)
        except Exception as error:  # noqa: BLE001  # a bug, or no memory: the kernel keeps enforcing, and we try again
            self._schedule.note_failed(causes)
            self._reconciler.forget()
            self._namespaces.doubt()
            self._turns.left, self._turns.is_owed = frozenset(), False
            self._status.note_bug(error)
            self._metrics.note_error("bug")
            logs.LOGGER.exception("cycle-failed")
            self._handle(self._answer_waiting)
        finally:
            self._is_in_cycle = False

    def _answer_waiting(self) -> None:
        """Answer the clients that waited for the end of a cycle."""
        self._control.answer_waiting()
        self._status_server.answer_waiting()
        self._serve()

    def _cycle(self, causes: Collection[Cause]) -> None:
        if Cause.RELOAD in causes:
            self._notifier.tell("RELOADING=1")
            self._reload()
        self._paths.follow((self._registry.path,))
        heard, config = self._collect_events(), self._config
        found = self._reconciler.run(causes, self._source, config.manner, config.bind_rule, heard)
        report = self._journal.explain(found)
        self._schedule.note_done(is_whole=report.is_whole)
        self._listen(report)
        self._take_turns(report, report.host or HostReport(()))
        self._status.crowded = self._capacity.follow(report.host, config.conntrack_max)
        self._status.unkept = self._keeper.errors
        self._journal.tell(report, lambda: self._serve_at(config))
        self._count(lambda: self._counts.note_cycle(report))
        self._is_in_cycle = False  # what is asked for from here on comes in the next one
        self._handle(self._answer_waiting)
        self._reconciler.remember()
        self._count(lambda: self._counts.read_after(report, lambda: self._handle(self._serve)))
        self._handle(lambda: self._historian.follow(report, config.history, config.choices.options))
        self._count(lambda: self._trials.note_cycle(report))
        tidy()

    def _serve_at(self, config: Config) -> dict[str, str]:
        """Serve where the configuration says. Return why that fails, by the event to log; "" where it doesn't."""
        return {
            "metrics-not-served": self._metrics_server.follow(config.metrics),
            "status-not-served": self._status_server.follow(config.status_socket),
        }

    def _collect_events(self) -> Heard:
        """Return the events since the last cycle, and whose turn it is among the namespaces that they concern.

        Namespaces where something was left undone take turns with those.
        """
        self._turns.forget_calm()
        self._journal.forget_ours()
        self._turns.suspect(self._journal.drifted)
        keys = self._turns.order(self._namespaces.heard | self._reconciler.unfinished)
        quiet, numbers = self._namespaces.take_quiet(), self._namespaces.take_quiet_numbers()
        waiting, disturbed = self._turns.list_waiting(keys), self._turns.disturbed
        links, stacked = self._namespaces.take_links(), self._namespaces.take_stacked()
        return Heard(quiet, keys, waiting, disturbed, self._containers.take(), numbers, links, stacked)

    def _listen(self, report: CycleReport) -> None:
        """Listen to the namespaces and containers that the cycle found."""
        host = report.host
        # not what is in the file now: what was attached during the cycle has to be enforced, too
        self._bindings = None if host is None else host.bindings
        self._namespaces.look_at(report.discovery.numbers)
        if host is None:
            self._namespaces.doubt()
            return
        if self._namespaces.follow(host) or host.gone - self._status.gone:
            self._schedule.add(Cause.LINK)  # we may have missed a new one's events; a lost workload may be back
        running, lost = containers_of(host.bindings), containers_of(host.lost)
        self._containers.follow(running, lost, is_look=bool(LOOKING & report.causes))

    def _take_turns(self, report: CycleReport, host: HostReport) -> None:
        """Note which namespaces had their turn, and which wait.

        If nothing could be done, none waits; nor if somebody has asked to look at everything.
        """
        if ASKED & report.causes:
            self._turns.forget()
            self._limit.forget()
        ours = self._journal.take_ours()
        looked = host.looked
        for key, is_repair in report.repaired.items():
            if key in ours:
                continue  # nobody disturbs it
            self._turns.note(key, looked[key], is_repair=is_repair)
        self._turns.left, self._turns.is_owed = host.left, host.is_owed
        self._namespaces.leave(host.left)

    def _reload(self) -> None:
        """Read the configuration again. A bad one changes nothing."""
        try:
            must_exist = self._config_file != CONFIG_FILE
            new = load_config(self._config_file, must_exist=must_exist, chosen=self._chosen)
        except ConfigError as error:
            self._status.config_error = str(error)
            event(logging.ERROR, "config-refused", error=error)
            self._metrics.note_error("config")
            return
        self._status.config_error = ""
        self._status.needs_restart = find_start_only_changes(self._started_with, new)
        self._config, self._source.path, self._schedule.resync_s = new, new.state, new.resync
        self._status.state, self._status.choices, self._keeper.source = new.state, new.choices, str(new.state)
        logs.set_level(new.log_level)


def run_agent(config: Config, config_file: Path, chosen: Mapping[str, object], *, once: bool = False) -> Status:
    """Run the agent until SIGTERM or SIGINT, or with `once` for one cycle; return the status at the end.

    `chosen` are choices that override the configuration, also after a reload.

    Raises:
        HostError: Another agent runs, or the kernel can't report events.
    """
    limit = logs.set_up(config.log_level)
    if once:
        config = replace(config, metrics="", status_socket="", history=None)  # there would be no time to ask
    with ExitStack() as stack:
        agent = Agent(config, config_file, chosen, stack, limit)
        unusual = "; ".join(config.choices.unlike(ON_HOSTS)) or "nothing"
        event(logging.INFO, "started", state=config.state, placement=config.choices.placement.value, chosen=unusual)
        agent.run(once=once)
        return agent.status

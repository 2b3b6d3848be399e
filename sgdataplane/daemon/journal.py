"""The agent's journal: what log, metrics and systemd hear of cycles, and of changes that others make to our tables.

Owns which of it is worth a line, and that a lasting fault is logged once. Its input is the reports of cycles. Must not
know how cycles work, or how a line is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace

from sgdataplane.attach.exposure import find_exposed
from sgdataplane.attach.owncommits import CommitFile, OwnCommits
from sgdataplane.attach.report import EniOutcome, HostReport, Key
from sgdataplane.daemon.cycle import LOOKING, CycleReport
from sgdataplane.daemon.logs import Notifier, event
from sgdataplane.daemon.metrics import Metrics
from sgdataplane.daemon.namespaces import Drift
from sgdataplane.daemon.schedule import Cause, Turns
from sgdataplane.daemon.status import EniStatus, Status
from sgdataplane.errors import SgDataplaneError
from sgdataplane.host import netns
from sgdataplane.host.identity import Identity, identity_of
from sgdataplane.host.timeouts import OTHERS
from sgdataplane.model.words import pluralize
from sgdataplane.observe.capacity import read_warnings

MAX_UNCLEAR = 20  # refusals in one line: root of a namespace may make any number of interfaces there
FINE = (EniOutcome.IN_FORCE, EniOutcome.AUDITING, EniOutcome.STOPPED)
LEVELS = dict.fromkeys(FINE, logging.INFO) | {EniOutcome.REFUSED: logging.ERROR}


class Journal:
    """Reports what one agent does. `tell` is for its thread."""

    def __init__(
        self, status: Status, metrics: Metrics, notifier: Notifier, turns: Turns, commits: CommitFile | None = None
    ) -> None:
        """Begin a journal.

        `commits` is what other processes of ours have committed; None: nothing is known of that.
        """
        self._status, self._metrics, self._notifier, self._turns = status, metrics, notifier, turns
        self._commits = commits
        self._ours: set[Key] = set()  # where only other processes of ours have changed our tables since the last cycle
        self._drifts: dict[Key, list[Drift]] = {}  # since the last cycle
        self._put_off: dict[Key, list[Drift]] = {}  # from earlier cycles, not repaired yet
        self._faults: dict[str, str] = {}
        self._unknown_timeouts: set[str] = set()

    def note_drifts(self, drifts: Iterable[Drift]) -> None:
        """Note that others have changed our tables. The next cycle's report says what became of it."""
        for drift in drifts:
            self._drifts.setdefault(drift.key, []).append(drift)

    @property
    def drifted(self) -> AbstractSet[Key]:
        """The namespaces where others have changed our tables, and that weren't repaired yet."""
        return self._drifts.keys() | self._put_off.keys()

    def forget_ours(self) -> None:
        """Forget what other processes of ours have committed: the OCI hook, the CNI plugin, `sgdp attach`, `apply`.

        Each has noted it before it gives the registry's lock back, so it is known at the end of a cycle.
        """
        if self._commits is None or not self._drifts:
            return
        made, before = self._commits.load(), self._drifts
        kept = {key: [drift for drift in drifts if not _is_ours(drift, made)] for key, drifts in before.items()}
        self._drifts = {key: drifts for key, drifts in kept.items() if drifts}
        self._ours |= before.keys() - self._drifts.keys()
        self._ours -= self._drifts.keys()

    def take_ours(self) -> AbstractSet[Key]:
        """Return the namespaces where only other processes of ours have changed our tables since the last call."""
        ours, self._ours = self._ours, set()
        return ours

    def explain(self, report: CycleReport) -> CycleReport:
        """Return the report with the causes as they turned out.

        `sgdp detach` and `clear` remove our rules, then the binding: we hear of the rules first, but nothing has
        drifted, as nothing is enforced there any more. Changes by other processes of ours are no drift, either.
        """
        self.forget_ours()
        if self._ours and not self._drifts:
            report = replace(report, causes=report.causes - {Cause.DRIFT} | {Cause.BINDINGS})
        if report.host is None or self._drifts.keys() <= report.host.by_key.keys():
            return report
        is_drift = not self._drifts.keys().isdisjoint(report.host.by_key)
        causes = report.causes if is_drift else report.causes - {Cause.DRIFT}
        return replace(report, causes=causes | {Cause.BINDINGS})

    def tell(self, report: CycleReport, serve: Callable[[], Mapping[str, str]]) -> None:
        """Update status and metrics, log what is new, and tell systemd.

        `serve` serves status and metrics, and returns why one can't be served, by its event; "" if it can.
        """
        before = {eni.report.binding.eni_id: eni for eni in self._status.enis}
        new = self._status.note_cycle(report)
        self._status.neighbours = read_warnings()
        if report.host is not None and LOOKING & report.causes:  # seldom, as it looks at all processes
            self._status.exposed = find_exposed(report.host.bindings)
        self._metrics.note_cycle(report)
        self._log_cycle(report)
        self._log_faults(report, serve())
        for binding in report.discovery.bound:
            event(logging.INFO, "bound", eni=binding.eni_id, at=binding, by=binding.means.value)
        for namespace in report.discovery.left:
            why = "its interface is bound elsewhere now, and sgdataplane's rules stay here"
            event(logging.WARNING, "left-closed", namespace=namespace, why=why)
        for binding in () if report.host is None else report.host.ended:
            event(logging.INFO, "unbound", eni=binding.eni_id, at=binding, why="its container's namespace has ended")
        _log_enis(new, before)
        if report.host is not None:
            self._log_drifts(report.host)
            self._log_unknown_timeouts(report.host)
        health = "healthy" if self._status.is_healthy else "not healthy: see `sgdp status`"
        if report.is_waiting:
            health += ", waiting for a state"
        enis = pluralize(len(report.host.enis) if report.host else 0, "ENI")
        self._notifier.tell("READY=1", f"STATUS={enis}, {health}")

    def _log_cycle(self, report: CycleReport) -> None:
        words, origin = ",".join(sorted(cause.value for cause in report.causes)), report.policy.origin.value
        level = logging.INFO if report.causes != {Cause.TURN} else logging.DEBUG
        level = level if report.is_whole else logging.ERROR
        event(level, "cycle", number=self._status.cycles, causes=words, s=report.seconds, policy=origin)

    def _log_faults(self, report: CycleReport, unserved: Mapping[str, str]) -> None:
        faults = {
            "not-bound": "; ".join(map(str, report.unclear[:MAX_UNCLEAR])),
            "namespaces-not-searched": report.discovery.error,
            "state-refused": report.refusal,
            "cycle-incomplete": report.error,
            "bindings-not-recorded": report.unrecorded,
            "flowtable-bypasses-policy": "" if report.host is None else "; ".join(report.host.flowtables),
            "binding-superseded": "" if report.host is None else "; ".join(report.host.superseded),
            "neighbours-nearly-full": "; ".join(self._status.neighbours),
            "leftovers-not-removed": report.untidy,
            "last-good-not-kept": report.last_good_error,
            "policies-not-kept": "; ".join(self._status.unkept),
            "audit-end-not-kept": report.audit_end_error,
            **unserved,
        }
        for what, error in faults.items():
            if error and error != self._faults.get(what):  # once, not in each cycle
                event(logging.ERROR, what, error=error)
        self._faults = faults

    def _log_drifts(self, host: HostReport) -> None:
        """Log one line for each namespace that drifted, however many commits there were.

        A change where nothing is enforced any more, after `sgdp detach` or `clear`, is no drift. While a namespace
        waits for its turn, no more events of it come.
        """
        new, self._drifts = self._drifts, {}
        for drift in (drift for key, drifts in new.items() if key in host.by_key for drift in drifts):
            self._status.note_drift(drift)
        for key in new.keys() & host.left & self._turns.disturbed:
            self._log_delay(new[key])
        drifts = {key: self._put_off.get(key, []) + new.get(key, []) for key in self._put_off.keys() | new.keys()}
        self._put_off = {key: some for key, some in drifts.items() if key in host.left}
        for key in drifts.keys() & (host.by_key.keys() - host.left):
            is_repaired = host.by_key[key].error is None
            _log_drift("drift", drifts[key], repaired=is_repaired)
            if is_repaired:
                self._metrics.note_repair()

    def _log_delay(self, drifts: Sequence[Drift]) -> None:
        key = drifts[-1].key
        _log_drift("disturbed", drifts, repairs=self._turns.of(key).repairs, again_in_s=self._turns.wait_s_of(key))
        self._metrics.note_delay()

    def _log_unknown_timeouts(self, host: HostReport) -> None:
        """Log timeouts that we don't know, once, as they are the kernel's."""
        new = set(host.unknown_timeouts) - self._unknown_timeouts
        if new:
            event(logging.WARNING, "unknown-timeouts", names=",".join(sorted(new)), at_most_s=OTHERS)
        self._unknown_timeouts |= new


def _is_ours(drift: Drift, made: Sequence[OwnCommits]) -> bool:
    found = [own for own in made if own.process == drift.process]
    if not found:
        return False
    with suppress(SgDataplaneError, OSError):
        key = drift.key
        cookie = key.cookie if isinstance(key, Identity) else identity_of(str(netns.path_of(key))).cookie
        return any(own.include(cookie, drift.process, drift.generation) for own in found)
    return False  # its router has gone


def _log_drift(word: str, drifts: Sequence[Drift], **more: object) -> None:
    """Log that others have changed our tables. `by` is a name that the other program chose."""
    last = drifts[-1]
    event(
        logging.WARNING, word, namespace=last.namespace, commits=len(drifts), **more, by=last.by, changes=last.changes
    )


def _log_enis(new: Iterable[EniStatus], before: Mapping[str, EniStatus]) -> None:
    """Log a line for each ENI; one for all ENIs of a namespace that have only another epoch."""
    renewed: dict[tuple[str, EniOutcome], list[EniStatus]] = {}
    for eni in new:
        if eni.is_renewal_of(before.get(eni.report.binding.eni_id)):
            renewed.setdefault((eni.namespace, eni.report.outcome), []).append(eni)
        else:
            _log_eni(eni)
    for (namespace, outcome), enis in renewed.items():
        if len(enis) == 1:
            _log_eni(enis[0])
        else:
            level, epoch = LEVELS.get(outcome, logging.WARNING), enis[0].epoch
            event(level, "enis", count=len(enis), at=namespace, outcome=outcome.value, epoch=epoch)


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

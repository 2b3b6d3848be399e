"""The agent's status: which policy is in force, and for each ENI what is in force since when.

Owns the keys. Its input is the reports of cycles. Must not know who asks.

    version, pid, started    of the agent; times are UTC, as in RFC 3339
    healthy       whether nothing here is an error, and all ENIs are in force
    state         path; origin: "state", "held", "last good" or "closed"; error: why the state on disk isn't in
                  force, or null;
                  waiting: whether there is none yet and no ENI is attached, which is no error;
                  generation: the name of the folder that path, a link, led to when the policy was read, or null;
                  refused: that of the folder that error is about, or null
    cycle         of the last one: number, at, seconds, causes, error
    last_good     path, error
    config        path; error: why the file on disk is refused, or null; restart: changed keys that need a restart;
                  choices: how states are judged and put in force (model/choices.py)
    drift         count: commits of others to our tables since start; last: null or {namespace, by, changes, at}
    tampering     count: what others did to links of routers since start; recent: whether in the last minute, which
                  isn't healthy; last: null or {router, what, by: the workloads that can have done it, at}
    history       on: whether it is kept what happens (daemon/historian.py). If so: path; error: why nothing is written,
                  or null; and what the process says that writes it (history/recorder.py): since, bytes, unlogged,
                  forged, given_up, places, silent, cpu_s, written; null: it hasn't said anything yet
    bind          error: why some namespaces could not be searched for interfaces to bind, or null; refused: ambiguous
                  labels and names, {eni, reason, interfaces}
    unknown_timeouts    conntrack timeouts of this kernel that we don't know; they are bounded
    kernel        of the machine: release; version: the upstream version that it is made of, or null; faults: those
                  that concern us, {name, certain, felt, effect, answer, source}; certain: false if it perhaps has it;
                  felt: whether another kernel would serve better; answer: what we do about it
    warnings      one line for each flowtable that carries sessions past the policy, for each namespace where an ENI was
                  bound before its name led elsewhere, for each nearly full neighbour table of the machine, and for
                  each router whose ENIs may hold more sessions than conntrack takes
    enis          by id: {eni, interface, namespace, placement, enforced_at, outcome, epoch, since, error, warnings,
                  audited: null, or {packets, since} that passed only as the ENI is in audit mode};
                  outcome: as in `sgdp apply`, or "disturbed": others keep changing our rules there, so their changes
                  hold until its next turn, and a warning names the program, or they changed its host end in the last
                  minute; since: when outcome, epoch or error last
                  changed; bound_by: "attach" (`sgdp attach`), "runtime" (our CNI plugin or OCI hook), "alias" or "mac"
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sgdataplane import __version__
from sgdataplane.attach.discover import NOT_LOOKED
from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import EniOutcome, EniReport, Key, NamespaceReport
from sgdataplane.daemon.cycle import CycleReport
from sgdataplane.daemon.namespaces import Drift
from sgdataplane.daemon.tampered import Tampered
from sgdataplane.host.kernelversion import read_running
from sgdataplane.model.choices import ON_HOSTS
from sgdataplane.nft.faults import faults_of, looks_again
from sgdataplane.observe.ledger import Sum

NOTHING_AUDITED: Mapping[str, Sum] = {}
DISTURBED = "other programs keep changing sgdataplane's rules there; the last was"


def now() -> str:
    """Return the time of now in UTC, as in RFC 3339, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def kernel_as_json() -> dict[str, object]:
    """Return what the status says of this machine's kernel."""
    kernel = read_running()
    return {
        "release": kernel.release,
        "version": kernel.words,
        "faults": [found.as_json() for found in faults_of(kernel, looks_again())],
    }


@dataclass(frozen=True, slots=True)
class EniStatus:
    """The status of one attached ENI."""

    report: EniReport
    namespace: str
    epoch: int | None
    error: str
    since: str

    @property
    def essence(self) -> tuple[object, ...]:
        """The part of the status that `since` is about."""
        return self.report.outcome, self.report.binding, self.epoch, self.error

    def is_like(self, previous: EniStatus | None) -> bool:
        """Whether nothing has changed that `since` is about."""
        return previous is self or (previous is not None and previous.essence == self.essence)

    def is_renewal_of(self, previous: EniStatus | None) -> bool:
        """Whether only its epoch has changed."""
        return previous is not None and self.is_like(replace(previous, epoch=self.epoch))

    def as_json(self) -> dict[str, object]:
        """Return the ENI's entry in the status."""
        binding = self.report.binding
        return {
            "eni": binding.eni_id,
            "interface": binding.ifname,
            "namespace": binding.named,
            "bound_by": binding.means.value,
            "placement": binding.placement.value,
            "enforced_at": binding.enforced_at,
            "outcome": self.report.outcome.value,
            "epoch": self.epoch,
            "since": self.since,
            "error": self.error or None,
            "warnings": list(self.report.warnings),
        }


class Status:
    """The agent's status, which the agent keeps up to date.

    Its values are replaced, never changed in place, as other threads read them.
    """

    def __init__(self, state: Path, config: Path, last_good: Path, clock: Callable[[], str] = now) -> None:
        self.state, self.config, self.last_good = state, config, last_good
        self.config_error, self.choices = "", ON_HOSTS
        self.needs_restart: tuple[str, ...] = ()
        self.history: Callable[[], dict[str, object]] = lambda: {"on": False}
        self.neighbours: tuple[str, ...] = ()  # warnings about the machine's neighbour tables
        self.crowded: tuple[str, ...] = ()  # and about routers whose ENIs may hold more sessions than conntrack takes
        self.unkept: tuple[str, ...] = ()  # and why policies aren't kept to come back to
        self.cycles = self.drifts = 0
        self._clock = clock
        self._started = clock()
        self._cycle: CycleReport | None = None
        self._cycle_at = self._drift_at = ""
        self._bug = ""
        self._drift: Drift | None = None
        self._enis: dict[str, EniStatus] = {}
        self._outcomes: frozenset[EniOutcome] = frozenset()
        self._disturbers: dict[Key, str] = {}
        self.tampered = Tampered()
        self.exposed: Mapping[Binding, str] = {}  # workloads that reach the machine's namespaces

    def note_cycle(self, report: CycleReport) -> list[EniStatus]:
        """Note a cycle; return the ENIs with something new."""
        self.cycles += 1
        self._cycle, self._cycle_at, self._bug = report, self._clock(), ""
        if report.host is None:
            return []
        self._disturbers = {key: by for key, by in self._disturbers.items() if key in report.host.by_key}
        self.tampered.note(report.host.tampering, report.host.bindings, self._cycle_at)
        self._outcomes = frozenset(eni.outcome for eni in report.host.everywhere)
        found = {
            eni.report.binding.eni_id: eni for entry in report.host.namespaces for eni in self._eni_statuses(entry)
        }
        new = [eni for eni_id, eni in found.items() if not eni.is_like(self._enis.get(eni_id))]
        self._enis = dict(sorted(found.items()))
        return new

    def note_bug(self, error: Exception) -> None:
        """Note that a cycle failed in a way that nobody foresaw."""
        self.cycles += 1
        self._cycle_at, self._bug = self._clock(), f"{type(error).__name__}: {error}"

    def note_drift(self, drift: Drift) -> None:
        """Note a commit of others to our tables."""
        self.drifts += 1
        self._drift, self._drift_at = drift, self._clock()
        self._disturbers[drift.key] = f"{DISTURBED} {drift.by}: {drift.changes}"

    def _eni_statuses(self, entry: NamespaceReport) -> Iterator[EniStatus]:
        epoch = None if entry.applied is None else entry.applied.epoch
        for found in (found for found in entry.enis if not found.binding.superseded):
            eni, error = replace(found, warnings=entry.warnings_of(found)), entry.error_of(found)
            previous = self._enis.get(eni.binding.eni_id)
            if previous is not None and (previous.report, previous.epoch, previous.error) == (eni, epoch, error):
                yield previous
                continue
            last_epoch = previous.epoch if epoch is None and previous is not None else epoch
            fresh = EniStatus(eni, entry.named, last_epoch, error, self._cycle_at)
            yield replace(fresh, since=previous.since) if previous is not None and fresh.is_like(previous) else fresh

    @property
    def enis(self) -> tuple[EniStatus, ...]:
        """All attached ENIs, by id."""
        return tuple(self._enis.values())

    @property
    def is_state_refused(self) -> bool:
        """Whether the policy in force isn't the state on disk."""
        return self._cycle is not None and bool(self._cycle.refusal)

    @property
    def is_waiting(self) -> bool:
        """Whether there is no state on disk yet, and no ENI."""
        return self._cycle is not None and self._cycle.is_waiting

    @property
    def is_healthy(self) -> bool:
        """Whether nothing here is an error, and all ENIs are in force."""
        cycle = self._cycle
        if cycle is None or not self.is_whole or self.config_error:
            return False
        is_refused = bool(cycle.refusal or cycle.unclear) or self.tampered.is_recent
        return not is_refused and not self.is_disturbed and self.is_everywhere

    @property
    def gone(self) -> frozenset[str]:
        """The ENIs whose namespace has ended. Their workloads may be running again, without a policy."""
        return frozenset(eni_id for eni_id, eni in self._enis.items() if eni.report.outcome.is_ended)

    @property
    def is_everywhere(self) -> bool:
        """Whether all ENIs are in force where they are bound now, or were stopped on purpose."""
        return all(eni.report.outcome.is_fine for eni in self._enis.values())

    @property
    def is_disturbed(self) -> bool:
        """Whether others keep changing our rules somewhere, so that their changes stay in force there."""
        return EniOutcome.DISTURBED in self._outcomes

    @property
    def is_whole(self) -> bool:
        """Whether the last cycle did everything that it had to, even if for another policy than the state on disk."""
        return self._cycle is not None and not self._bug and self._cycle.is_whole

    def for_owner(self) -> dict[str, object]:
        """Return what the owner of the state may know: whether it is in force."""
        cycle = self._cycle
        return {
            "state": {
                "path": str(self.state),
                "generation": (cycle.policy.generation or None) if cycle else None,
                "refused": (cycle.policy.refused or None) if cycle else None,
                "error": (cycle.refusal or None) if cycle else None,
            },
            "cycle": {"number": self.cycles, "error": self._cycle_error},
            "enis": [
                {"eni": eni.report.binding.eni_id, "outcome": eni.report.outcome.value, "error": eni.error or None}
                for eni in self.enis
            ],
        }

    @property
    def _cycle_error(self) -> str | None:
        cycle = self._cycle
        return self._bug or (cycle.error or cycle.unrecorded or cycle.untidy if cycle else "") or None

    def as_json(self, eni_id: str = "", audited: Mapping[str, Sum] = NOTHING_AUDITED) -> dict[str, object]:
        """Return the whole status; with `eni_id`, with this ENI alone.

        `audited` is what passed at ENIs only because they are in audit mode.
        """
        cycle = self._cycle
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started": self._started,
            "healthy": self.is_healthy,
            "state": {
                "path": str(self.state),
                "origin": cycle.policy.origin.value if cycle else None,
                "generation": (cycle.policy.generation or None) if cycle else None,
                "refused": (cycle.policy.refused or None) if cycle else None,
                "error": (cycle.refusal or None) if cycle else None,
                "waiting": self.is_waiting,
            },
            "cycle": {
                "number": self.cycles,
                "at": self._cycle_at,
                "seconds": round(cycle.seconds, 6) if cycle else None,
                "causes": sorted(cause.value for cause in cycle.causes) if cycle else [],
                "error": self._cycle_error,
            },
            "last_good": {
                "path": str(self.last_good),
                "error": (cycle.last_good_error or None) if cycle else None,
            },
            "config": {
                "path": str(self.config),
                "error": self.config_error or None,
                "choices": self.choices.plain(),
                "restart": list(self.needs_restart),
            },
            "bind": self._bind_as_json(),
            "unknown_timeouts": list(cycle.host.unknown_timeouts) if cycle and cycle.host else [],
            "kernel": kernel_as_json(),
            "drift": {"count": self.drifts, "last": self._drift_as_json()},
            "tampering": self._tampering_as_json(),
            "history": self.history(),
            "warnings": [
                *(cycle.host.warnings if cycle and cycle.host else ()),
                *self.neighbours,
                *self.crowded,
                *self.unkept,
            ],
            "enis": [self._eni_as_json(eni, audited) for eni in self._those(eni_id)],
        }

    def _those(self, eni_id: str) -> tuple[EniStatus, ...]:
        if not eni_id:
            return self.enis
        return (self._enis[eni_id],) if eni_id in self._enis else ()

    def _eni_as_json(self, eni: EniStatus, audited: Mapping[str, Sum]) -> dict[str, object]:
        """Return the ENI's status; if it is disturbed, with the program that does it, if that is known."""
        shown, by = eni.as_json(), self._disturbers.get(eni.report.binding.identity)
        is_known = by is not None and eni.report.outcome is EniOutcome.DISTURBED
        tampering = self.tampered.warning(eni.report.binding.eni_id)
        if tampering and eni.report.outcome.is_in_force:
            shown["outcome"] = EniOutcome.DISTURBED.value
        exposed = "" if eni.report.outcome.is_ended else self.exposed.get(eni.report.binding, "")
        more = (by if is_known else "", tampering, exposed)
        passed = audited.get(eni.report.binding.eni_id)
        shown["audited"] = None if passed is None else {"packets": passed.packets, "since": passed.since or None}
        return {**shown, "warnings": [*eni.report.warnings, *(line for line in more if line)]}

    def _tampering_as_json(self) -> dict[str, object]:
        found, last = self.tampered, None
        if found.last is not None:
            what, by, at = found.last
            last = {"router": what.router, "what": what.what, "by": by, "at": at}
        return {"count": found.count, "recent": found.is_recent, "last": last}

    def _bind_as_json(self) -> dict[str, object]:
        found = self._cycle.discovery if self._cycle else NOT_LOOKED
        unclear = self._cycle.unclear if self._cycle else ()
        refused = [{"eni": e.eni_id, "reason": e.reason, "interfaces": list(e.interfaces)} for e in unclear]
        return {"error": found.error or None, "refused": refused}

    def _drift_as_json(self) -> dict[str, str] | None:
        drift = self._drift
        if drift is None:
            return None
        return {"namespace": drift.namespace, "by": drift.by, "changes": drift.changes, "at": self._drift_at}

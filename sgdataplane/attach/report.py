"""The input of a reconcile, and its results by ENI and by namespace.

Owns these records, and what an unforeseen exception becomes. Must not know how anything is done.

An error in one namespace ends there; others are enforced, looked at and counted as usual. Root of a namespace chooses
what the kernel reports about it, so an unforeseen exception need not be a bug of ours.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from sgdataplane.attach.ends import Tampering
from sgdataplane.attach.modes import NO_RULE, AuditRule
from sgdataplane.attach.registry import Binding, in_order
from sgdataplane.enforce import DEFAULT_SETTINGS, Ageing, ApplyReport, Desired, Proven, Settings, epochs
from sgdataplane.errors import ContainedError, InternalError, MarksError, SgDataplaneError
from sgdataplane.host.identity import Identity
from sgdataplane.host.linkentry import Link
from sgdataplane.model.choices import ON_HOSTS
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.state import CloudState

LOGGER = logging.getLogger("sgdataplane.contained")
Told = SgDataplaneError | InternalError


def contain_error(error: Exception) -> Told:
    """Return the error for its namespace's report. An unforeseen one is logged with its traceback."""
    if isinstance(error, SgDataplaneError):
        return error
    if not isinstance(error, InternalError):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        LOGGER.error("an unexpected error in one namespace; all others are unaffected", exc_info=error)
        return ContainedError(error, f"{Path(frame.filename).name}:{frame.lineno} {frame.name}")
    return error


def get_ageing(error: Told, last: NamespaceReport | None) -> Ageing | None:
    """Return what is still known of the last apply, after one that failed."""
    known = None if last is None else last.ageing
    return epochs.get_ageing(known, error.stamp) if isinstance(error, MarksError) else known


SUPERSEDED = "and its rules stay in force, beside those of the namespace that its name leads to now"
Key = Identity | str  # a workload's namespace by its identity, a router of ours by its name


class EniOutcome(Enum):
    """What became of an ENI; OUTCOMES says what each one means.

    DISTURBED lasts until the namespace's next turn (daemon/schedule.py).
    """

    IN_FORCE = "in force"
    AUDITING = "auditing"
    CLOSED = "closed"
    ABSENT = "absent"
    REFUSED = "refused"
    GONE = "gone"
    DISTURBED = "disturbed"
    STOPPED = "stopped"
    MISADDRESSED = "misaddressed"

    @property
    def is_in_force(self) -> bool:
        """Whether the interface obeys the ENI's policy, in whichever mode."""
        return self in (EniOutcome.IN_FORCE, EniOutcome.AUDITING)

    @property
    def is_ended(self) -> bool:
        """Whether the namespace has ended."""
        return self in (EniOutcome.GONE, EniOutcome.STOPPED)

    @property
    def is_fine(self) -> bool:
        """Whether there is nothing that somebody should see to."""
        return self.is_in_force or self is EniOutcome.STOPPED


class Meaning(NamedTuple):
    """The meaning of an outcome, for people."""

    why: str  # why an ENI is in this state
    passes: str  # what passes at its interface
    step: str  # what a user does about it


# `make docs` writes docs/reference/outcomes.md from this.
OUTCOMES: Mapping[EniOutcome, Meaning] = {
    EniOutcome.IN_FORCE: Meaning("the interface obeys the ENI's policy", "what the policy accepts", "nothing"),
    EniOutcome.AUDITING: Meaning(
        "the interface obeys the ENI's policy in audit mode",
        "what the policy accepts, and what its rules would refuse, which is counted and logged",
        "look at `sgdp counters --audited` and `sgdp log`, then enforce it",
    ),
    EniOutcome.CLOSED: Meaning(
        "the state has no such ENI, or only as a member of groups",
        "nothing",
        "add the ENI to the state, or bind it to this host, or `sgdp detach`",
    ),
    EniOutcome.ABSENT: Meaning(
        "the namespace has no interface of that name",
        "nothing at others there; in host placement, what the policy accepts",
        "bring the interface back and run `sgdp apply` (an agent notices it by itself), or detach and attach again",
    ),
    EniOutcome.REFUSED: Meaning(
        "it could not be put in force, as the error says",
        "what the previous policy accepts; without one, everything in instance placement, nothing in host placement",
        "correct what the error names; the agent tries again by itself",
    ),
    EniOutcome.GONE: Meaning(
        "the namespace has ended",
        "everything in a new one, until the ENI is bound there",
        "`sgdp attach` where the workload runs now, or `sgdp detach`",
    ),
    EniOutcome.DISTURBED: Meaning(
        "other programs keep changing sgdataplane's rules there; or they changed its host end in the last minute, "
        "which is repaired",
        "what their changes let pass, until the next repair",
        "stop the program or workload that the warning, or `sgdp status`, names",
    ),
    EniOutcome.STOPPED: Meaning(
        "its container was stopped or has ended well, as the engine says",
        "nothing, as nothing runs; when it starts, it is bound again by its name",
        "nothing",
    ),
    EniOutcome.MISADDRESSED: Meaning(
        "the policy is in force, but the interface has only addresses that aren't the ENI's",
        "nothing from or to these addresses",
        "give the interface the address that the warning names, or correct the state",
    ),
}


@dataclass(frozen=True, slots=True)
class Manner:
    """The manner in which states are read and put in force."""

    options: Options = ON_HOSTS.options
    settings: Settings = DEFAULT_SETTINGS
    placement: Placement = Placement.INSTANCE
    uplinks: tuple[str, ...] = ()  # interfaces of routers that lead elsewhere (host placement)
    profile: str = ON_HOSTS.profile  # the quotas that a state has to keep
    audit: AuditRule = NO_RULE  # which ENIs are put into audit mode


DEFAULT_MANNER = Manner()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why these interfaces, or the place where a name leads now, weren't bound."""

    eni_id: str
    reason: str
    interfaces: tuple[str, ...]  # in words; the one that is bound is among them

    def __str__(self) -> str:
        return f"{self.eni_id}: {self.reason}: {', '.join(self.interfaces)}"


@dataclass(frozen=True, slots=True)
class EniReport:
    """What became of one binding."""

    binding: Binding
    outcome: EniOutcome
    warnings: tuple[str, ...] = ()  # why packets may be dropped that no rule drops
    refusal: Told | None = None  # why it alone was refused, if the other ENIs of its namespace weren't


class Turn(Enum):
    """Whether a namespace had its turn in a reconcile."""

    HAD = "had"
    """It was looked at, or certainly needed no look."""
    WAITS = "waits"
    """The kernel told of events there; a later reconcile looks at it. Its report is older."""
    OWED = "owed"
    """It waits, too, and gets another policy, so it comes soon."""


@dataclass(frozen=True, slots=True)
class NamespaceReport:
    """What was done in one namespace."""

    key: Key
    enis: tuple[EniReport, ...]
    proven: Proven | None = None
    """What the namespace obeys."""
    applied: ApplyReport | None = None
    """None if nothing could be done."""
    error: Told | None = None
    """Why nothing could be done."""
    unbound: tuple[str, ...] = ()
    """The namespace's other interfaces that are up; these pass nothing, either."""
    links: tuple[Link, ...] = field(default=(), compare=False, repr=False)
    """All links, as they were then; () if they weren't read."""
    aged: Ageing | None = field(default=None, compare=False, repr=False)
    """What is known of an earlier apply, if there was none now."""
    turn: Turn = field(default=Turn.HAD, compare=False)
    """Whether it had its turn in this reconcile."""
    looked_s: float | None = field(default=None, compare=False)
    """The seconds that this reconcile's look took, if events were the reason; else None."""

    @property
    def ageing(self) -> Ageing | None:
        """What the last apply noted for the next one."""
        return self.aged if self.applied is None else self.applied.ageing

    @property
    def desired(self) -> Desired | None:
        """What the namespace obeys; None if it isn't known."""
        return None if self.proven is None else self.proven.desired

    def error_of(self, eni: EniReport) -> str:
        """Return why this ENI's policy isn't in force; "" if it is."""
        error = eni.refusal or self.error
        return "" if error is None else str(error)

    @property
    def is_gone(self) -> bool:
        """Whether the namespace has ended."""
        return bool(self.enis) and all(eni.outcome.is_ended for eni in self.enis)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do until something changes."""
        if self.is_gone:
            return True
        is_done = all(eni.outcome is not EniOutcome.REFUSED and not eni.outcome.is_ended for eni in self.enis)
        return self.applied is not None and not self.applied.left_to_do and is_done

    def warnings_of(self, eni: EniReport) -> tuple[str, ...]:
        """Return the warnings about one of the namespace's ENIs, and about all of them together."""
        slow = "" if self.applied is None else self.applied.slow
        return (*eni.warnings, slow) if slow else eni.warnings

    @property
    def named(self) -> str:
        """The namespace, for people."""
        return self.key if isinstance(self.key, str) else self.enis[0].binding.named

    @property
    def flowtables(self) -> tuple[str, ...]:
        """One line for each flowtable that carries sessions past the policy there."""
        if self.desired is None or self.applied is None:
            return ()
        placement = self.desired.placement
        return tuple(f"{self.named}: {found.warning(placement)}" for found in self.applied.flowtables)


@dataclass(frozen=True)
class HostReport:
    """What is in force on this host, by namespace.

    The next reconcile starts from it, and changes only what differs.
    """

    namespaces: tuple[NamespaceReport, ...]
    refusals: tuple[Refusal, ...] = ()
    """Names that lead elsewhere than their ENIs are bound."""
    ended: tuple[Binding, ...] = ()
    """Bindings that ended with their namespaces."""
    unrecorded: str = ""
    """Why the record of bindings isn't as it should be; "" if it is."""
    uplinks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """The uplinks by router, with their indices."""
    tampering: tuple[Tampering, ...] = ()
    """What others have done to links of routers since the previous reconcile."""
    state: CloudState | None = field(default=None, repr=False)
    """The state in which each ENI has the mode that is in force here and now; None before the first reconcile."""

    @cached_property
    def in_force(self) -> Mapping[Key, Proven]:
        """What each namespace obeys."""
        return {report.key: report.proven for report in self.namespaces if report.proven is not None}

    @cached_property
    def by_key(self) -> Mapping[Key, NamespaceReport]:
        """The report of each namespace."""
        return {report.key: report for report in self.namespaces}

    @cached_property
    def left(self) -> frozenset[Key]:
        """The namespaces that wait for their turn to be looked at; their reports are older."""
        return frozenset(report.key for report in self.namespaces if report.turn is not Turn.HAD)

    @property
    def is_owed(self) -> bool:
        """Whether one of them gets another policy."""
        return any(report.turn is Turn.OWED for report in self.namespaces)

    @property
    def looked(self) -> Mapping[Key, float]:
        """The namespaces with events that were looked at, with the seconds that each took."""
        return {report.key: report.looked_s for report in self.namespaces if report.looked_s is not None}

    @cached_property
    def everywhere(self) -> tuple[EniReport, ...]:
        """The report of each binding, superseded ones included."""
        return tuple(eni for namespace in self.namespaces for eni in namespace.enis)

    @cached_property
    def enis(self) -> tuple[EniReport, ...]:
        """The reports of the bindings where ENIs are bound now, by id."""
        found = (eni for eni in self.everywhere if not eni.binding.superseded)
        return tuple(sorted(found, key=lambda eni: eni.binding.eni_id))

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of all namespaces, of every kind."""
        return (*self.flowtables, *self.superseded)

    @property
    def flowtables(self) -> tuple[str, ...]:
        """One line for each flowtable that carries sessions past the policy."""
        return tuple(line for namespace in self.namespaces for line in namespace.flowtables)

    @property
    def superseded(self) -> tuple[str, ...]:
        """One line for each binding whose namespace lives on, though its name leads elsewhere."""
        bindings = (eni.binding for eni in self.everywhere if eni.binding.superseded)
        return tuple(f"{binding.eni_id}: {binding} lives on, {SUPERSEDED}" for binding in bindings)

    @cached_property
    def bindings(self) -> tuple[Binding, ...]:
        """All bindings, in the registry's order."""
        return in_order(eni.binding for eni in self.everywhere)

    @property
    def lost(self) -> tuple[Binding, ...]:
        """The bindings whose namespace has ended."""
        return tuple(eni.binding for eni in self.enis if eni.outcome.is_ended)

    @cached_property
    def unknown_timeouts(self) -> tuple[str, ...]:
        """The timeouts of the kernel's trackers that we don't know."""
        applied = (report.applied for report in self.namespaces)
        return tuple(sorted({name for report in applied if report is not None for name in report.unknown_timeouts}))

    @property
    def gone(self) -> frozenset[str]:
        """The ENIs whose namespace has ended."""
        return frozenset(binding.eni_id for binding in self.lost)

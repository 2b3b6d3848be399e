"""One cycle: the state read if it has to be, interfaces bound that name ENIs, all attached ENIs made to obey, the last
good policy kept.

Owns the order of the steps, and which policy holds. Is given causes. Must not wait, and must not know where causes come
from.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from sgdataplane.attach.agenda import NOTHING_HEARD, Agenda, Heard
from sgdataplane.attach.discover import NOT_LOOKED, BindRule, Discovery, discover
from sgdataplane.attach.reconcile import reconcile
from sgdataplane.attach.registry import Registry
from sgdataplane.attach.report import HostReport, Key, Manner, Outcome, Refusal
from sgdataplane.collection import no_collection
from sgdataplane.daemon.causes import Cause
from sgdataplane.daemon.lastgood import LastGood
from sgdataplane.daemon.source import Readable
from sgdataplane.errors import SgDataplaneError
from sgdataplane.model.state import CloudState, sharing

READING = frozenset({Cause.START, Cause.STATE, Cause.RELOAD, Cause.TIMER})  # inotify can't see all there is
ASKED = frozenset({Cause.START, Cause.RELOAD, Cause.RESYNC})  # to look at everything, whatever was heard
LOOKING = ASKED | {Cause.TIMER}  # who has to wait for its turn, still has
NOTHING = CloudState()

Aside = Callable[[Callable[[], None]], None]


class Origin(enum.Enum):
    """Where the policy that holds comes from. CLOSED: there is none, so attached ENIs pass nothing."""

    STATE = "state"
    LAST_GOOD = "last good"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Policy:
    """`refusal`: why the state that is on disk now isn't it, "" if it is."""

    state: CloudState
    origin: Origin
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class CycleReport:
    """What a cycle did. `host` is None if nothing could be done at all, and `error` says why. `looked`: the seconds
    that namespaces took of which something was heard."""

    causes: frozenset[Cause]
    policy: Policy
    host: HostReport | None
    error: str
    last_good_error: str
    seconds: float
    discovery: Discovery = NOT_LOOKED
    looked: Mapping[Key, float] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing to try again. A bad state is not tried again before it changes, nor are interfaces
        that are not clear."""
        is_done = self.host is not None and not self.refused and not self.untidy
        return is_done and not self.last_good_error and not self.discovery.error

    @property
    def untidy(self) -> str:
        """What the kernel refused to take away once the policy was in force, by namespace; "" if nothing."""
        reports = () if self.host is None else self.host.namespaces
        left = ((entry.named, entry.applied.leftover) for entry in reports if entry.applied is not None)
        return "; ".join(f"{named}: {leftover}" for named, leftover in left if leftover)

    @property
    def refused(self) -> tuple[str, ...]:
        """ENIs whose policy could not be put in force."""
        enis = () if self.host is None else self.host.everywhere
        return tuple(eni.binding.eni_id for eni in enis if eni.outcome is Outcome.REFUSED)

    @property
    def unclear(self) -> tuple[Refusal, ...]:
        """What was not bound, as interfaces or names aren't clear."""
        return (*self.discovery.refusals, *(() if self.host is None else self.host.refusals))

    @property
    def repaired(self) -> Mapping[Key, bool]:
        """Of the namespaces of which something was heard and that were looked at: whether they weren't as they should,
        or still aren't."""
        reports = {} if self.host is None else self.host.by_key
        applied = {key: reports[key].applied for key in self.looked if key in reports}
        return {key: found is None or found.is_refill for key, found in applied.items()}


class Reconciler:
    """Holds what is known between two cycles: the policy, and what is in force by namespace, and in which manner.
    `beat`: called in a cycle as it comes on. `aside`: calls what takes long with a large state, and returns then."""

    def __init__(
        self,
        registry: Registry,
        last_good: LastGood,
        beat: Callable[[], None] = lambda: None,
        aside: Aside = lambda work: work(),
    ) -> None:
        self._registry, self._last_good = registry, last_good
        self._policy: Policy | None = None
        self._former, self._manner = HostReport(()), Manner()
        self._beat, self._aside = beat, aside

    def run(
        self, causes: Collection[Cause], source: Readable, manner: Manner, rule: BindRule, heard: Heard = NOTHING_HEARD
    ) -> CycleReport:
        """One cycle. Nothing of the input's or the kernel's doing is raised. `heard`: of which namespaces since the
        last one began; it says nothing to a cycle that was asked to look at all."""
        started = time.monotonic()
        # 1 the state: a bad one changes nothing, so the last good policy stays
        if self._policy is None or READING & set(causes):
            self._aside(partial(self._read, source, manner.profile))
        assert self._policy is not None
        # 2 what names an ENI is bound to it
        discovery = self._discover(self._policy.state, rule)
        # 3 every attached ENI obeys: resolve, compile, prove, compare, run, by namespace
        if ASKED & set(causes) or manner != self._manner:
            heard = Heard(pids=heard.pids)
        quiet = frozenset[Key]() if Cause.TIMER in causes else heard.quiet
        former = Agenda(self._former, quiet, self._beat, heard)
        host, error = self._enforce(manner, former, is_resync=Cause.RESYNC in causes)
        # 4 the last good policy is kept for a start without a state, also where one ENI refused: the others have it
        if self._policy.origin is Origin.STATE and host is not None:
            self._aside(partial(self._last_good.store, self._policy.state))
        # 5 report
        seconds = time.monotonic() - started
        last_good_error, looked = self._last_good.error, former.looked
        return CycleReport(frozenset(causes), self._policy, host, error, last_good_error, seconds, discovery, looked)

    @property
    def state(self) -> CloudState:
        """What is to be obeyed; nothing before the first cycle."""
        return NOTHING if self._policy is None else self._policy.state

    @property
    def undone(self) -> frozenset[Key]:
        """The namespaces where the last cycle could not do all."""
        return frozenset(entry.key for entry in self._former.namespaces if not entry.is_settled)

    def forget(self) -> None:
        """Something went wrong that shouldn't: believe nothing of what is in force."""
        self._former = HostReport(())

    def _read(self, source: Readable, profile: str) -> None:
        with no_collection():  # each search would keep the caller from its serving, too
            self._policy = self._found(source, profile)

    def _found(self, source: Readable, profile: str) -> Policy:
        try:
            state = source.read(profile)
            return Policy(state if self._policy is None else sharing(state, self._policy.state), Origin.STATE)
        except SgDataplaneError as error:
            if self._policy is not None:
                return replace(self._policy, refusal=str(error))
            kept = self._last_good.load()
            return Policy(kept or NOTHING, Origin.CLOSED if kept is None else Origin.LAST_GOOD, str(error))

    def _discover(self, state: CloudState, rule: BindRule) -> Discovery:
        """What can't be looked at or written keeps nothing from being enforced that is bound."""
        try:
            return discover(self._registry, state, rule)
        except (SgDataplaneError, OSError) as error:
            return Discovery(error=str(error))

    def _enforce(self, manner: Manner, former: Agenda, *, is_resync: bool) -> tuple[HostReport | None, str]:
        assert self._policy is not None
        pids = former.heard.pids
        settings = replace(manner.settings, resync=is_resync)
        try:
            wanted = replace(manner, settings=settings)
            host = reconcile(self._registry, self._policy.state, wanted, former, lambda found: found.locate_by(pids))
        except (SgDataplaneError, OSError) as error:
            return None, str(error)
        self._former, self._manner = host, manner
        return host, ""

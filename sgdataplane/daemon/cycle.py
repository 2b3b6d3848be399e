"""One cycle: source -> state -> policy -> interfaces bound -> attached ENIs obey -> last good policy kept.

Owns the order of these steps, and which policy is in force. Its input is causes and events. Must not wait for events,
or know where causes come from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

from sgdataplane.attach.agenda import NOTHING_HEARD, Agenda, Heard
from sgdataplane.attach.discover import NOT_LOOKED, BindRule, Discovery, Sights, discover
from sgdataplane.attach.modes import HostModes, ModesNow, list_audited_here
from sgdataplane.attach.reconcile import reconcile
from sgdataplane.attach.registry import Registry, current
from sgdataplane.attach.report import EniOutcome, HostReport, Key, Manner, Refusal
from sgdataplane.collection import no_collection
from sgdataplane.daemon.auditfile import AuditEndFile
from sgdataplane.daemon.clearing import Clearer, duties
from sgdataplane.daemon.hold import PolicyKeeper
from sgdataplane.daemon.policy import Origin, Policy
from sgdataplane.daemon.provenfile import ProvenFile
from sgdataplane.daemon.schedule import Cause
from sgdataplane.daemon.source import LastGood, Readable
from sgdataplane.enforce import Build, Cache
from sgdataplane.errors import SgDataplaneError, StateFileError
from sgdataplane.model.state import CloudState, share_records

READING = frozenset(
    {Cause.START, Cause.STATE, Cause.RELOAD, Cause.TIMER, Cause.UNDO}
)  # inotify doesn't see all changes
ASKED = frozenset({Cause.START, Cause.RELOAD, Cause.RESYNC})  # look at everything, whatever was heard
LOOKING = ASKED | {Cause.TIMER}  # the timer looks at everything, too, but namespaces still wait for their turn
NOTHING = CloudState()
NOT_FOUND = "InvalidSource.NotFound"  # the code of a state that isn't there (statefile/source.py)

Aside = Callable[[Callable[[], None]], None]


@dataclass(frozen=True, slots=True)
class CycleReport:
    """What a cycle did."""

    causes: frozenset[Cause]
    policy: Policy
    host: HostReport | None
    """None if nothing could be done at all."""
    error: str
    """Why nothing could be done."""
    last_good_error: str
    """The error of storing the last good policy; "" if there is none."""
    seconds: float
    """How long the cycle took."""
    discovery: Discovery = NOT_LOOKED
    audit_end_error: str = ""
    """The error of storing which audits have ended; "" if there is none."""
    modes: HostModes = field(default_factory=HostModes)
    """The modes of this host's ENIs after the cycle."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing has to be tried again.

        A refused state, or an ambiguous interface, needn't be tried before it changes.
        """
        is_done = self.host is not None and not self.refused and not self.untidy and not self.unrecorded
        is_kept = not self.last_good_error and not self.audit_end_error
        return is_done and is_kept and not self.discovery.error

    @property
    def is_waiting(self) -> bool:
        """Whether there is neither a state nor an attached ENI yet, as after an installation."""
        is_bare = self.host is not None and not self.host.everywhere
        return is_bare and self.policy.is_missing and self.policy.origin is Origin.CLOSED

    @property
    def refusal(self) -> str:
        """Why the policy isn't the state on disk; "" if it is, or the agent only waits for one."""
        return "" if self.is_waiting else self.policy.refusal

    @property
    def untidy(self) -> str:
        """What is left to do though the policy is in force, by namespace; "" if nothing.

        The kernel refused to remove something, or marks have to be cleared.
        """
        reports = () if self.host is None else self.host.namespaces
        left = ((entry.named, entry.applied.left_to_do) for entry in reports if entry.applied is not None)
        return "; ".join(f"{named}: {leftover}" for named, leftover in left if leftover)

    @property
    def unrecorded(self) -> str:
        """Why the record of bindings isn't as it should be; "" if it is."""
        return "" if self.host is None else self.host.unrecorded

    @property
    def refused(self) -> tuple[str, ...]:
        """The ENIs whose policy could not be put in force."""
        enis = () if self.host is None else self.host.everywhere
        return tuple(eni.binding.eni_id for eni in enis if eni.outcome is EniOutcome.REFUSED)

    @property
    def unclear(self) -> tuple[Refusal, ...]:
        """What wasn't bound, because interfaces or names are ambiguous."""
        return (*self.discovery.refusals, *(() if self.host is None else self.host.refusals))

    @property
    def repaired(self) -> Mapping[Key, bool]:
        """The namespaces that were looked at because of events -> whether one was repaired, or the look failed."""
        if self.host is None:
            return {}
        applied = {key: self.host.by_key[key].applied for key in self.host.looked}
        return {key: found is None or found.is_full_resync for key, found in applied.items()}


@dataclass(frozen=True, slots=True)
class Beside:
    """What the caller does while a cycle runs."""

    beat: Callable[[], None] = lambda: None  # called now and then
    aside: Aside = lambda work: work()  # calls a function that may take long while clients are served; returns after it
    helped: Callable[[int], None] | None = None  # what `Agenda.helped` is
    clearer: Clearer | None = None  # clears marks ahead


class Reconciler:
    """Runs cycles, and keeps the policy and what is in force from one cycle to the next."""

    def __init__(
        self,
        registry: Registry,
        last_good: LastGood,
        proven_file: ProvenFile | None = None,
        beside: Beside = Beside(),
        keeper: PolicyKeeper | None = None,
    ) -> None:
        self._registry, self._last_good, self._proven_file, self._keeper = registry, last_good, proven_file, keeper
        self._policy: Policy | None = None
        self._on_disk: Policy | None = None  # what would be in force if nothing else is held
        self._previous, self._manner = HostReport(()), Manner()
        self._cache = Cache() if proven_file is None else Cache(proven_file.load())
        self._sights, self._deferred = Sights(), list[Build]()
        self._beside, self._modes = beside, ModesNow()
        self._audit_file: AuditEndFile | None = None

    def keep_ends_in(self, file: AuditEndFile) -> None:
        """Load which audits have ended, and store that in this file from now on."""
        self._audit_file, self._modes.ended = file, file.load()

    def run(
        self, causes: Collection[Cause], source: Readable, manner: Manner, bind: BindRule, heard: Heard = NOTHING_HEARD
    ) -> CycleReport:
        """Run one cycle. What input or kernel refuse is reported, and not raised.

        A bug is raised; then call `forget()`. `heard` has the events since the previous cycle began. A cycle that looks
        at everything believes only the numbers of processes in it; with the timer as its cause, all but that something
        is quiet.
        """
        started, clearer = time.monotonic(), self._beside.clearer
        with nullcontext() if clearer is None else clearer.give_way():
            policy = self._read_policy(causes, source, manner.profile)
            agenda = self._agenda(causes, manner, heard)
            discovery = self._bind(policy.state, bind, agenda.heard)
            host, error = self._enforce(policy.state, manner, agenda, is_resync=Cause.RESYNC in causes)
            self._keep(policy, host)
        seconds = time.monotonic() - started
        what = (frozenset(causes), policy, host, error)
        audit_end_error = "" if self._audit_file is None else self._audit_file.error
        modes = HostModes(
            {} if host is None else list_audited_here(current(host.bindings), manner.audit), self._modes.ended
        )
        return CycleReport(*what, self._last_good.error, seconds, discovery, audit_end_error, modes)

    @property
    def state(self) -> CloudState:
        """The state to obey; an empty one before the first cycle."""
        return NOTHING if self._policy is None else self._policy.state

    @property
    def mode_wait_s(self) -> float | None:
        """The seconds until the audit of an attached ENI is over; None if there is no such time."""
        return None if self._modes.until is None else max(0.0, self._modes.until - time.time())

    @property
    def unfinished(self) -> frozenset[Key]:
        """The namespaces where the previous cycle could not do everything."""
        return frozenset(entry.key for entry in self._previous.namespaces if not entry.is_settled)

    @property
    def is_ahead(self) -> bool:
        """Whether a table is in force that this process hasn't built, and knows only by its summary."""
        return bool(self._deferred)

    def build_one(self) -> None:
        """Build one of these tables, so that the next change finds it built."""
        self._deferred.pop().made  # noqa: B018  # the build keeps it

    def forget(self) -> None:
        """Trust nothing of what we know to be in force, after an unforeseen error."""
        self._previous, self._cache, self._sights = HostReport(()), Cache(), Sights()
        self._deferred, self._modes.until = [], None

    def _read_policy(self, causes: Collection[Cause], source: Readable, profile: str) -> Policy:
        """Read the policy from the source, if the causes ask for it; else return the previous one."""
        if self._policy is None or READING & set(causes):
            self._beside.aside(partial(self._read, source, profile))
        assert self._policy is not None
        return self._policy

    def _read(self, source: Readable, profile: str) -> None:
        with no_collection():  # each collection would also stop the thread that serves clients
            self._on_disk = self._policy_on_disk(source, profile)
            self._policy = self._on_disk if self._keeper is None else self._keeper.choose(self._on_disk)

    def _policy_on_disk(self, source: Readable, profile: str) -> Policy:
        """Read the state on disk as a policy. A state that is refused changes nothing."""
        try:
            state = source.read(profile)
            shared = state if self._on_disk is None else share_records(state, self._on_disk.state)
            return Policy(shared, Origin.STATE, generation=source.generation)
        except SgDataplaneError as error:
            is_missing = isinstance(error, StateFileError) and {each.code for each in error.problems} == {NOT_FOUND}
            if self._on_disk is not None:
                return replace(self._on_disk, refusal=str(error), is_missing=is_missing, refused=source.generation)
            kept = self._last_good.load()
            origin = Origin.CLOSED if kept is None else Origin.LAST_GOOD
            return Policy(kept or NOTHING, origin, str(error), is_missing, refused=source.generation)

    def _bind(self, state: CloudState, rule: BindRule, heard: Heard) -> Discovery:
        """Bind the interfaces that name an ENI. If that fails, what is bound already is enforced all the same."""
        self._sights.quiet = heard.quiet_numbers
        try:
            return discover(self._registry, state, rule, self._sights)
        except (SgDataplaneError, OSError) as error:
            return Discovery(error=str(error))

    def _agenda(self, causes: Collection[Cause], manner: Manner, heard: Heard) -> Agenda:
        """Return what has to be looked at: everything if somebody asked for it or the manner changed.

        Otherwise quiet namespaces are skipped.
        """
        if ASKED & set(causes) or manner != self._manner:
            heard = Heard(pids=heard.pids)
        elif Cause.TIMER in causes:
            heard = replace(heard, quiet=frozenset(), quiet_numbers=frozenset(), links={})
        beside = self._beside
        return Agenda(
            self._previous,
            heard,
            beside.beat,
            cache=self._cache,
            helped=beside.helped,
            cleared=None if beside.clearer is None else beside.clearer.known,
            modes=self._modes,
            uplinks={} if ASKED & set(causes) else dict(self._previous.uplinks),  # who asks accepts what is there
        )

    def _enforce(
        self, state: CloudState, manner: Manner, agenda: Agenda, *, is_resync: bool
    ) -> tuple[HostReport | None, str]:
        """Enforce the state, namespace by namespace.

        Return the report and ""; or None, and why nothing could be done.
        """
        pids, wanted = agenda.heard.pids, replace(manner, settings=replace(manner.settings, resync=is_resync))
        try:
            host = reconcile(self._registry, state, wanted, agenda, lambda found: found.locate_by(pids))
        except (SgDataplaneError, OSError) as error:
            self._modes.until = None  # the cycle is tried again anyway
            return None, str(error)
        self._previous, self._manner = host, manner
        if self._beside.clearer is not None:
            self._beside.clearer.follow(duties(host))
        self._cache.forget_others(host.in_force.values())
        self._deferred = [each.build for each in host.in_force.values() if not each.build.is_done]
        return host, ""

    def _keep(self, policy: Policy, host: HostReport | None) -> None:
        """Store which audits have ended, the last good policy for a start without a state, and the policy for undoing.

        The policy is kept even if one ENI was refused, since the others obey it. A policy that is held isn't kept as
        the last good one: the next start finds it by the hold.
        """
        self._beside.aside(partial(self._write, policy, is_enforced=host is not None))

    def _write(self, policy: Policy, *, is_enforced: bool) -> None:
        """Write which audits are over, the last good policy, and that one among past policies."""
        if self._audit_file is not None:
            self._audit_file.store(self._modes.ended)
        if not is_enforced:
            return
        if policy.origin is Origin.STATE and not self._last_good.is_stored(policy.state):
            self._store(policy.state)
        if self._keeper is not None:
            self._keeper.note(policy, self._last_good.find_written(policy.state))

    def _store(self, state: CloudState) -> None:
        """Store a state as the last good one. If the disk is full, drop past policies to make room."""
        self._last_good.store(state)
        if self._last_good.error and self._keeper is not None and self._keeper.past.make_room():
            self._last_good.store(state)

    def remember(self) -> None:
        """Keep what the next start needs to build nothing. Call it once the cycle is reported."""
        summaries = None if self._proven_file is None else self._cache.summaries(self._previous.in_force.values())
        if self._proven_file is not None and summaries is not None:
            self._beside.aside(partial(self._proven_file.store, summaries))

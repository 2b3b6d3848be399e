"""The agenda of one reconcile: which namespaces need a look, in which order, and what they start from.

Owns that judgement. Its input is the previous report, what was heard since, and whose turn it is. Must not know how a
policy is put in force.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

from sgdataplane.attach.containers import STOPPED
from sgdataplane.attach.ends import Tampering
from sgdataplane.attach.modes import ModesNow
from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import EniOutcome, EniReport, HostReport, Key, NamespaceReport, Turn
from sgdataplane.enforce import Cache, Clearance, ClearedEpochs, Desired, Proven, Settings, TableSummary
from sgdataplane.errors import BindingError, HostError
from sgdataplane.model.state import CloudState
from sgdataplane.policy.reach import Reach

MAX_AT_ONCE = 2000  # sessions of a namespace that are looked through while others wait: up to 50 ms
SLICE_S = 0.025  # per reconcile, for namespaces of which something was heard; the rest of them have to wait


@dataclass(frozen=True, slots=True)
class Heard:
    """The kernel's events since the previous reconcile, by what they concern."""

    quiet: Collection[Key] = frozenset()
    """Namespaces without any event, for certain."""
    order: Sequence[Key] = ()
    """Namespaces with events, in the order of their looks: after all others, while time remains."""
    waiting: Collection[Key] = frozenset()
    """Namespaces with events whose turn hasn't come."""
    disturbed: Collection[Key] = frozenset()
    """Namespaces that were repaired already and may be wrong again."""
    pids: Mapping[str, int | BindingError] = field(default_factory=dict)
    """The process of each container that has started, or why there is none."""
    quiet_numbers: Collection[int] = frozenset()
    """The numbers of namespaces that were searched for interfaces to bind, and had no event, for certain."""
    links: Mapping[Key, Collection[Sequence[str]]] = field(default_factory=dict)
    """For each router that had link events only, the names of each of these links, the last one last."""
    stacked: Collection[tuple[int | None, int]] = frozenset()
    """Links that came or changed, and are on top of a router's.

    Each is the number of its namespace (None: ours) and its index.
    """


NOTHING_HEARD = Heard()


@dataclass
class Agenda:
    """The agenda of one reconcile, and what it notes."""

    report: HostReport = field(default_factory=lambda: HostReport(()))
    """The previous reconcile's report. Quiet namespaces are certainly as it says, and were made in the same manner."""
    heard: Heard = NOTHING_HEARD
    """The events since then."""
    between: Callable[[], None] = lambda: None
    """Called before each look."""
    clock: Callable[[], float] = time.monotonic
    """Returns seconds that never go back."""
    cache: Cache = field(default_factory=Cache)
    """What was built before, also in earlier reconciles."""
    helped: Callable[[int], None] | None = None
    """Called with the process number of a helper's commits.

    No other process can have that number yet. Without this, there is no helper.
    """
    noting: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext()
    """A context for commits in a namespace, if somebody else has to know that they are ours."""
    cleared: Mapping[Key, ClearedEpochs] | None = None
    """What was cleared ahead; None: nobody does that, so each apply looks through all sessions itself."""
    uplinks: dict[str, Mapping[str, int]] = field(default_factory=dict)
    """By router: the uplinks that were seen before or now, with their indices."""
    tampering: list[Tampering] = field(default_factory=list)
    """What others did to routers' links."""
    said: dict[str, BindingError] = field(default_factory=dict)
    """Why an ENI's container doesn't run, as the engine said now."""
    unrecorded: HostError | None = None
    """Why the record couldn't be written."""
    modes: ModesNow = field(default_factory=ModesNow)
    """The modes of ENIs, from one reconcile to the next."""
    _touched: dict[Key, bool] = field(default_factory=dict)
    _reaches: dict[int, tuple[CloudState, Reach]] = field(default_factory=dict)

    @property
    def in_force(self) -> Mapping[Key, Proven]:
        """What each namespace obeys, by the previous report."""
        return self.report.in_force

    def order(self, keys: Iterable[Key], state: CloudState) -> list[Key]:
        """Return the namespaces in the order in which to visit them.

        Policies that may refuse more than the old ones come first. Namespaces with events come last, unless their
        policy changes and they weren't disturbed.
        """
        places = {key: number for number, key in enumerate(self.heard.order, 1)}

        def place(key: Key) -> tuple[int, bool]:
            if not self._is_touched(key, state):
                return places.get(key, 0), True
            return 0 if self._comes_first(key, state) else places.get(key, 0), not self._is_narrowed(key, state)

        return sorted(keys, key=place)

    def _is_touched(self, key: Key, state: CloudState) -> bool:
        """Whether this state can mean another policy than what is in force there."""
        if key not in self._touched:
            previous = self.in_force.get(key)
            self._touched[key] = previous is not None and self._reach(previous, state).touches(
                previous.desired.interfaces
            )
        return self._touched[key]

    def _is_narrowed(self, key: Key, state: CloudState) -> bool:
        previous = self.in_force[key]
        return self._reach(previous, state).narrows(previous.desired.interfaces)

    def _comes_first(self, key: Key, state: CloudState) -> bool:
        return key not in self.heard.disturbed and self._is_touched(key, state)

    def due(self, keys: Iterable[Key], state: CloudState) -> tuple[list[Key], list[Key]]:
        """Return the namespaces that certainly need a look now, so that a second process may take some.

        The first list has those whose new policy may refuse more, the second one all others. Namespaces with events are
        in neither: this process looks at them itself, while there is time.
        """
        found: tuple[list[Key], list[Key]] = [], []
        for key in keys:
            is_touched = self._comes_first(key, state)
            if key not in self.heard.order and (is_touched or key not in self.heard.quiet):
                found[not (is_touched and self._is_narrowed(key, state))].append(key)
        return found

    def report_settled(
        self, key: Key, bindings: Sequence[Binding], state: CloudState, spent_s: float = 0.0
    ) -> NamespaceReport | None:
        """Return the report of a namespace that needs no look now; None if it needs one.

        It needs none if it is as it should be, or has to wait: then its turn says so. `spent_s` are the seconds that
        this reconcile's looks have taken because of events.
        """
        previous = self.report.by_key.get(key)
        if previous is None or tuple(eni.binding for eni in previous.enis) != tuple(bindings):
            return None
        if previous.is_gone:
            is_news = any(eni.binding.eni_id in self.said for eni in previous.enis)
            return _at_rest(previous) if key in self.heard.quiet and not is_news else None
        is_touched = self._is_touched(key, state)
        if key in self.heard.order and not self._comes_first(key, state):
            return self._report_waiting(previous, is_touched=is_touched, is_over=spent_s >= SLICE_S)
        if key not in self.heard.quiet or not previous.is_settled or previous.proven is None or is_touched:
            return None
        return _at_rest(previous, state)

    def _report_waiting(self, previous: NamespaceReport, *, is_touched: bool, is_over: bool) -> NamespaceReport | None:
        """Return the report of a namespace that has to wait; None if it needn't.

        One that gets another policy waits only if the time for looks because of events is over.
        """
        if not is_over and (is_touched or previous.key not in self.heard.waiting):
            return None
        rested = replace(_at_rest(previous), turn=Turn.OWED if is_touched else Turn.WAITS)
        return _mark_disturbed(rested) if previous.key in self.heard.disturbed else rested

    def look(self, key: Key, call: Callable[[], NamespaceReport]) -> NamespaceReport:
        """Make a namespace's report now. If events are the reason, the report says how long that took."""
        self.between()
        started = self.clock()
        report = call()
        return replace(report, looked_s=self.clock() - started) if key in self.heard.order else report

    def report_ended(self, binding: Binding) -> EniReport:
        """Return the report of an ENI whose namespace has ended.

        It is as the ENI's engine says, now or when it was asked last.
        """
        error, previous = self.said.get(binding.eni_id), self.report.by_key.get(binding.identity)
        if error is not None and error.problem.code == STOPPED:
            return EniReport(binding, EniOutcome.STOPPED)
        if error is not None:
            return EniReport(binding, EniOutcome.GONE, (error.problem.message,))
        enis = () if previous is None else previous.enis
        known = next((eni for eni in enis if eni.binding.eni_id == binding.eni_id and eni.outcome.is_ended), None)
        return EniReport(binding, EniOutcome.GONE) if known is None else replace(known, binding=binding)

    def is_known_gone(self, binding: Binding) -> bool:
        """Whether we know that a binding's namespace has ended, without a search."""
        previous = self.report.by_key.get(binding.identity)
        return binding.identity in self.heard.quiet and previous is not None and previous.is_gone

    def is_quiet(self, binding: Binding) -> bool:
        """Whether a binding's namespace is certainly as the previous report says."""
        return binding.identity in self.heard.quiet

    def certain_ends(self, report: NamespaceReport) -> frozenset[str] | None:
        """Return the host ends in a router that are certainly as this report of the previous reconcile says.

        It is None if nothing there is certain. A link whose last name isn't known may be a host end that was renamed.
        One that enters a router comes with its old name.
        """
        if report.desired is None or report.applied is None or report.error is not None:
            return None
        ends = frozenset(report.desired.interfaces.values())
        links = () if report.key in self.heard.quiet else self.heard.links.get(report.key)
        if links is None or not all(names[-1] in ends for names in links):
            return None
        return ends.difference(*links)

    def clearance(self, key: Key) -> Clearance:
        """Return what an apply there knows of its sessions, and how many it may look through."""
        if self.cleared is None:
            return Clearance()
        previous, known = self.report.by_key.get(key), self.cleared.get(key)
        ageing = None if previous is None else previous.ageing
        return Clearance.of(ageing, known, MAX_AT_ONCE)

    def _reach(self, previous: Proven, state: CloudState) -> Reach:
        old = previous.desired.state
        if id(old) not in self._reaches:
            self._reaches[id(old)] = old, Reach(old, state)
        return self._reaches[id(old)][1]

    def build(self, key: Key, desired: Desired, settings: Settings, known: TableSummary | None = None) -> Proven:
        """Return what a namespace has to obey.

        It is what is in force, if the new state means the same for it. Else it is built, now or, with `known`, when
        somebody asks for it. `known` is the summary of what another process has built.

        Raises:
            ProofError: The table doesn't do what the state says.
        """
        previous = self.in_force.get(key)
        if previous is None or not previous.is_of(desired, settings) or self._is_touched(key, desired.state):
            return self.cache.build(desired, settings, previous, known)
        return previous.on(desired.state)


def _at_rest(report: NamespaceReport, state: CloudState | None = None) -> NamespaceReport:
    """Return the report of a namespace where nothing was done, and the state means the same."""
    proven = report.proven if report.proven is None or state is None else report.proven.on(state)
    applied = report.applied and report.applied.at_rest
    is_same = proven is report.proven and applied is report.applied
    is_same &= report.turn is Turn.HAD and report.looked_s is None
    return report if is_same else replace(report, proven=proven, applied=applied, turn=Turn.HAD, looked_s=None)


def _mark_disturbed(report: NamespaceReport) -> NamespaceReport:
    """Return the report of a namespace where others may have replaced what was in force."""
    enis = (replace(e, outcome=EniOutcome.DISTURBED) if e.outcome.is_in_force else e for e in report.enis)
    return replace(report, enis=tuple(enis))

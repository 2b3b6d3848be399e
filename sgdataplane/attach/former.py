"""What the last reconcile of this host has left: which namespaces need no look now, and what the others start from.

Owns that judgement. Is given the last report, which namespaces nothing was heard of since, and whose turn it is among
the others. Must not know how a policy is put in force.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import HostReport, Key, NamespaceReport, Outcome
from sgdataplane.enforce import Cache, Desired, Proven, Settings
from sgdataplane.errors import BindingError
from sgdataplane.model.state import CloudState
from sgdataplane.policy.reach import Reach

SLICE_S = 0.025  # of one reconcile, for namespaces of which something was heard; then others have their turn


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard since the last reconcile. `quiet`: the namespaces of which certainly nothing was. `order`: those
    of which something was come in this order, after all others, and as far as there is time. `waiting`: those of them
    whose turn hasn't come. `disturbed`: those that were repaired already, and so may be other than they should. `pids`:
    processes of containers that have started, or why there is none."""

    quiet: Collection[Key] = frozenset()
    order: Sequence[Key] = ()
    waiting: Collection[Key] = frozenset()
    disturbed: Collection[Key] = frozenset()
    pids: Mapping[str, int | BindingError] = field(default_factory=dict)


NOTHING_HEARD = Heard()


@dataclass
class Former:
    """For one reconcile. `quiet`: namespaces that certainly are as the report says, made in the same manner. `between`:
    called before each that is looked at. It notes of those in `heard` which it `looked` at, with the seconds that this
    took, and which it `left`, to be looked at another time; `owed`: those of them that get another policy, so soon."""

    report: HostReport = field(default_factory=lambda: HostReport(()))
    quiet: Collection[Key] = frozenset()
    between: Callable[[], None] = lambda: None
    heard: Heard = NOTHING_HEARD
    clock: Callable[[], float] = time.monotonic
    looked: dict[Key, float] = field(default_factory=dict)
    left: set[Key] = field(default_factory=set)
    owed: set[Key] = field(default_factory=set)
    _cache: Cache = field(default_factory=Cache)
    _reaches: dict[int, tuple[CloudState, Reach]] = field(default_factory=dict)

    @property
    def in_force(self) -> Mapping[Key, Proven]:
        return self.report.in_force

    def ordered(self, keys: Iterable[Key], state: CloudState) -> list[Key]:
        """Those that are heard of last, but for those that are to be changed and weren't disturbed."""
        places = {key: number for number, key in enumerate(self.heard.order, 1)}
        return sorted(keys, key=lambda key: 0 if self._comes_first(key, state) else places.get(key, 0))

    def _comes_first(self, key: Key, state: CloudState) -> bool:
        before = self.in_force.get(key)
        return key not in self.heard.disturbed and before is not None and self.is_touched(before, state)

    def settled(self, key: Key, bindings: Sequence[Binding], state: CloudState) -> NamespaceReport | None:
        """The report of a namespace that needs no look, since it is as it has to be: nothing was done there. Or of one
        that has to wait for its look."""
        before = self.report.by_key.get(key)
        if before is None or tuple(eni.binding for eni in before.enis) != tuple(bindings):
            return None
        if before.is_gone:
            return before if key in self.quiet else None
        is_touched = before.proven is not None and self.is_touched(before.proven, state)
        if key in self.heard.order and not self._comes_first(key, state):
            return self._waiting(before, is_touched=is_touched)
        if key not in self.quiet or not before.is_settled or before.proven is None or is_touched:
            return None
        return _at_rest(before, state)

    def _waiting(self, before: NamespaceReport, *, is_touched: bool) -> NamespaceReport | None:
        """Its report, if it has to wait. For what is to change there it does so only until others had their turn."""
        is_over = sum(self.looked.values()) >= SLICE_S
        if not is_over and (is_touched or before.key not in self.heard.waiting):
            return None
        self.left.add(before.key)
        if is_touched:
            self.owed.add(before.key)
        rested = _at_rest(before)
        return _disturbed(rested) if before.key in self.heard.disturbed else rested

    def look(self, key: Key, call: Callable[[], NamespaceReport]) -> NamespaceReport:
        """Its report, made now."""
        self.between()
        started = self.clock()
        report = call()
        if key in self.heard.order:
            self.looked[key] = self.clock() - started
        return report

    def is_known_gone(self, binding: Binding) -> bool:
        """Whether its namespace had ended, so that it needs no search."""
        before = self.report.by_key.get(binding.identity)
        return binding.identity in self.quiet and before is not None and before.is_gone

    def is_quiet(self, binding: Binding) -> bool:
        """Whether its namespace is certainly as it was."""
        return binding.identity in self.quiet

    def is_touched(self, before: Proven, state: CloudState) -> bool:
        """Whether another state can mean another policy there."""
        known = before.desired.state
        if id(known) not in self._reaches:
            self._reaches[id(known)] = known, Reach(known, state)
        return self._reaches[id(known)][1].touches(before.desired.interfaces)

    def built(self, key: Key, desired: Desired, settings: Settings) -> Proven:
        """What is in force there, if `desired` is that but for what others have; else built now. ProofError."""
        before = self.in_force.get(key)
        if before is None or not before.is_of(desired, settings) or self.is_touched(before, desired.state):
            return self._cache.build(desired, settings, before)
        return before.on(desired.state)


def _at_rest(report: NamespaceReport, state: CloudState | None = None) -> NamespaceReport:
    """Nothing was done, and the state says the same there."""
    proven = report.proven if report.proven is None or state is None else report.proven.on(state)
    applied = report.applied and report.applied.at_rest
    is_same = proven is report.proven and applied is report.applied
    return report if is_same else replace(report, proven=proven, applied=applied)


def _disturbed(report: NamespaceReport) -> NamespaceReport:
    """What was in force there need not be any more."""
    enis = (replace(e, outcome=Outcome.DISTURBED) if e.outcome is Outcome.IN_FORCE else e for e in report.enis)
    return replace(report, enis=tuple(enis))

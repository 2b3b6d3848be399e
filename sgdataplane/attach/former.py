"""What the last reconcile of this host has left: which namespaces need no look, and what the others start from.

Owns that judgement. Is given the last report, and which namespaces nothing was heard of since. Must not know how a
policy is put in force.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import HostReport, Key, NamespaceReport
from sgdataplane.enforce import Desired, Settings
from sgdataplane.model.state import CloudState
from sgdataplane.policy.reach import Reach


@dataclass
class Former:
    """For one reconcile. `quiet`: namespaces that certainly are as the report says, made in the same manner. `between`:
    called before each that is looked at."""

    report: HostReport = field(default_factory=lambda: HostReport(()))
    quiet: Collection[Key] = frozenset()
    between: Callable[[], None] = lambda: None
    _prepared: dict[object, Desired] = field(default_factory=dict)
    _reaches: dict[int, tuple[CloudState, Reach]] = field(default_factory=dict)

    @property
    def in_force(self) -> Mapping[Key, Desired]:
        return self.report.in_force

    def settled(self, key: Key, bindings: Sequence[Binding], state: CloudState) -> NamespaceReport | None:
        """The report of a namespace that needs no look, since it is as it has to be: nothing was done there."""
        before = self.report.by_key.get(key)
        if before is None or key not in self.quiet or not before.is_settled:
            return None
        if before.desired is None or before.applied is None:
            return None
        if tuple(eni.binding for eni in before.enis) != tuple(bindings) or self.is_touched(before.desired, state):
            return None
        desired, applied = before.desired.on(state), before.applied.at_rest
        is_same = desired is before.desired and applied is before.applied
        return before if is_same else replace(before, desired=desired, applied=applied)

    def is_touched(self, before: Desired, state: CloudState) -> bool:
        """Whether another state can mean another policy there."""
        if id(before.state) not in self._reaches:
            self._reaches[id(before.state)] = before.state, Reach(before.state, state)
        return self._reaches[id(before.state)][1].touches(before.interfaces)

    def desired(self, key: Key, wanted: Desired) -> Desired:
        """`wanted`; if it is what is in force there but for what others have, with what is known of it."""
        before = self.in_force.get(key)
        if before is None or replace(before, state=wanted.state) != wanted or self.is_touched(before, wanted.state):
            return wanted
        return before.on(wanted.state)

    def prepare(self, key: Key, desired: Desired, settings: Settings) -> None:
        """Compile, prove and count it: from one with the same groups, if there was one already, since nearly all of
        both is the same; else from what is in force there, or from any. ProofError."""
        before = self.in_force.get(key)
        like = self._prepared.get(_groups(desired)) or before or self._prepared.get(None)
        desired.table(settings.time_scale, like)
        if settings.prove:
            desired.prove(settings.time_scale, before, like)
        desired.visits(settings.time_scale, like)
        self._prepared[_groups(desired)] = self._prepared[None] = desired


def _groups(desired: Desired) -> object:
    """What makes profiles the same."""
    enis = (desired.state.eni[eni_id] for eni_id in desired.interfaces)
    return frozenset((tuple(sorted(eni.security_group_ids)), eni.nic_type) for eni in enis)

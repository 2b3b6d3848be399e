"""Whether rules fit into the quotas, and which of them are made wider until they do.

Owns that choice. The slots that need the most rules of a group that has too many are widened first, step by step. At
last, what lets the flows pass today stays as it is, which fits. Is given plans of slots. Must not know ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sgdataplane.errors import InternalError
from sgdataplane.model.state import CloudState
from sgdataplane.statefile.quotas import (
    PROFILES,
    Use,
    count_members,
    excessive,
    group_costs,
    uses_of_eni,
    uses_of_group,
)
from sgdataplane.suggest.plan import Drafted, SlotPlan, Width

WHY_QUOTAS = "the quotas have no room for narrower rules"


@dataclass
class Unit:
    """Slots that are widened together: for example all rules that stand for one group's inner accept."""

    name: tuple[object, ...]
    group_ids: frozenset[str]
    """The groups whose rules become fewer."""
    plans: list[SlotPlan] = field(default_factory=list)
    """The ways to write the rules of each of its slots."""
    width: Width = Width.SEEN
    """How wide its rules are now."""
    reason: str = ""
    """Why it isn't narrower; "" if it is as narrow as can be."""

    @property
    def is_kept(self) -> bool:
        """Whether what lets the flows pass today stays as it is."""
        return self.width is Width.KEPT

    def draft(self) -> Iterator[Drafted]:
        """Yield the rules of all slots."""
        for plan in self.plans:
            yield from plan.rules(self.width)

    def keep(self, reason: str) -> None:
        """Let things stay as they are, if there is a reason."""
        if reason:
            self.width, self.reason = Width.KEPT, reason

    def widen(self) -> None:
        """Take the next width that the slots may have, to save rules."""
        self.reason = WHY_QUOTAS
        self.width = max((plan.wider(self.width) for plan in self.plans), default=Width.KEPT)


def fit(units: Sequence[Unit], made: Callable[[], CloudState], profile: str) -> CloudState:
    """Widen units until the state that `made` makes of them is within the quotas; return that state."""
    while True:
        state = made()
        crowded = find_crowded_groups(state, profile)
        if not crowded:
            return state
        open_units = [unit for unit in units if not unit.is_kept and unit.group_ids & crowded.keys()]
        if not open_units:
            raise InternalError(f"the quotas of {', '.join(sorted(crowded))} hold for the state, but not for its rules")
        max(open_units, key=lambda unit: (_weight(unit, crowded), str(unit.name))).widen()


def _weight(unit: Unit, crowded: Mapping[str, frozenset[str]]) -> int:
    """Return how many rules of a crowded group the unit has."""
    return sum(drafted.slot.group_id in crowded for drafted in unit.draft())


def find_crowded_groups(state: CloudState, profile: str) -> dict[str, frozenset[str]]:
    """Return the groups that take part in a quota that is passed, and what there is too much of."""
    limits, costs = PROFILES[profile], group_costs(state.security_groups, state)
    members, found = count_members(state.network_interfaces), dict[str, set[str]]()

    def add(group_ids: Sequence[str], uses: Sequence[Use]) -> None:
        for group_id in group_ids:
            found.setdefault(group_id, set()).update(use.what for use in uses)

    for group in state.security_groups:
        counts = costs[group.security_group_id], members.get(group.security_group_id, 0)
        uses = excessive(uses_of_group(group, limits, *counts, is_classic=False))
        uses = tuple(use for use in uses if use.field == "rules")
        add([group.security_group_id] if uses else [], uses)
    for groups, eni in {eni.security_group_ids: eni for eni in state.network_interfaces}.items():
        uses = tuple(use for use in excessive(uses_of_eni(eni, limits, costs)) if "rules" in use.what)
        add(groups if uses else (), uses)
    return {group_id: frozenset(some) for group_id, some in found.items()}

"""Walk from a profile's root to the chains for addresses, and check the rank that packets have there.

It must be the rank of the strongest permission on a group that holds for the packet. Owns this comparison. It is given
the permissions on groups, and what each rank stands for. It must not know leaves.

Thousands of group sets come to one end, each with another number. If a map has ranked them by just the permissions
that hold at that end, one look at the map shows that all are right (RankMaps). Where that doesn't show it, group sets
are compared as an axis like any other.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

from sgdataplane.contract.tables import is_address
from sgdataplane.nft.ir import MapPriority
from sgdataplane.proof.spec.axes import Atoms
from sgdataplane.proof.spec.kinds import GROUP_SET
from sgdataplane.proof.spec.order import Boxes, BoxOrder, Cell, indices
from sgdataplane.proof.spec.outcomes import Effect, Effects, Outcome
from sgdataplane.proof.walk.priority import Priorities, atoms_of
from sgdataplane.proof.walk.program import PRIORITY
from sgdataplane.proof.walk.ranks import RankMaps
from sgdataplane.proof.walk.walk import Mismatch, State, Walk

NOBODY_SAYS: Outcome = ((), "no permission on a group")


class GroupOrder(BoxOrder):
    """The permissions on groups, as boxes over headers and group sets. The last box says that none holds.

    Attributes:
        headers: The same boxes without the axis of group sets.
        nobody: The last box.
    """

    def __init__(self, full: Cell, regions: Sequence[Cell], outcomes: Sequence[Hashable]) -> None:
        super().__init__(full, [*regions, full], [*outcomes, NOBODY_SAYS])
        self.headers = BoxOrder(full[:GROUP_SET], [region[:GROUP_SET] for region in regions], outcomes)
        self.nobody: Boxes = 1 << len(regions)

    def relevant(self, cell: Cell, boxes: Boxes) -> Boxes:
        """Return the boxes that meet the headers of a cell.

        Which group sets they are about tells nothing yet, as a rule.
        """
        return self.headers.among(cell[:GROUP_SET], boxes & self.headers.all)[0] | self.nobody


@dataclass(kw_only=True)
class GroupsWalk(Walk):
    """A walk that ends at the chains for addresses, from which packets return to the base chain."""

    ranks: Mapping[int, Boxes]
    """The box that each rank stands for."""
    all_ranks: Container[int]
    """All ranks of the table, those of other profiles included."""
    strengths: Sequence[tuple[str, int]]
    """The group and the rank of each box."""
    order: GroupOrder
    numbered: Atoms
    """The group sets that have a number."""
    maps: RankMaps
    """The maps that give group sets ranks, and whether they are right."""
    others: set[int | None] = field(default_factory=set)
    """Priorities of packets for which no permission decides; filled by the walk."""
    entries: set[str] = field(default_factory=set)
    """The chains for addresses that packets came to; filled by the walk."""
    _parts: dict[Effects, tuple[tuple[Boxes, Atoms], ...]] = field(default_factory=dict)

    def _end(self, outcome: Outcome, state: State) -> None:
        """Compare an end, which must be at a chain for addresses from which packets return to the base chain."""
        effects, stop = outcome
        if not is_address(stop):
            self.cells += 1
            self._fail(state, f"packets come to {stop} before addresses are asked")
            return
        if any(self.program.steps[chain][index:] for chain, index in state.returns):
            self._fail(state, f"packets that return from {stop} don't come back to the base chain")
        self.entries.add(stop)
        if self._is_ranked(effects, state):
            self.cells += 1
            return
        for same, atoms in self._boxes_of_priority(effects):
            part = state.cell[GROUP_SET] & atoms
            if part:
                self._compare((*state.cell[:GROUP_SET], part), same, state)

    def _is_ranked(self, effects: Effects, state: State) -> bool:
        """Return whether packets are right because a map has ranked all group sets by just the boxes that hold there.

        If not, they may be right all the same.
        """
        maps = [effect.name for effect in effects if _is_by_priority(effect)]
        before = effects[: -len(maps)]
        if not maps or any(map(_is_by_priority, before)) or state.cell[GROUP_SET] != self.numbered:
            return False
        is_by_map = bool(before) and isinstance(before[-1], MapPriority)
        if not is_by_map or any(hole[GROUP_SET] & self.numbered != self.numbered for hole in state.holes):
            return False
        self._boxes_of_priority(before)
        meeting, holding = self.order.headers.among(state.cell[:GROUP_SET], state.boxes & ~self.order.nobody)
        if meeting & ~holding:
            return False
        strengths: dict[str, int] = {}
        for box in indices(meeting):
            strengths.setdefault(*self.strengths[box])
        return self.maps.are_right(maps, tuple(strengths.items()))

    def _compare(self, cell: Cell, same: Boxes, state: State) -> None:
        """Compare the packets of a cell with the boxes `same` that their priority stands for."""
        self.cells += 1
        found = self.order.differing(cell, state.holes, state.boxes, same)
        if found is not None:
            raise Mismatch(found[1], found[0], None, "")

    def _boxes_of_priority(self, effects: Effects) -> tuple[tuple[Boxes, Atoms], ...]:
        """Return the boxes that the priority stands for after these effects, each with its group sets."""
        if effects not in self._parts:
            assert isinstance(self.priorities, Priorities)
            view, nobody = self.priorities.view(effects), self.order.nobody
            self.others.update(value for value in view if value not in self.ranks)
            found: dict[Boxes, list[int]] = {}
            for index, value in enumerate(view):
                same = self.ranks.get(value, 0 if value in self.all_ranks else nobody)  # type: ignore[arg-type]
                found.setdefault(same, []).append(index)
            self._parts[effects] = tuple((same, atoms_of(some, len(view))) for same, some in found.items())
        return self._parts[effects]


def _is_by_priority(effect: Effect) -> TypeGuard[MapPriority]:
    """Return whether an effect replaces the priority by what a map has for it."""
    return isinstance(effect, MapPriority) and effect.field is PRIORITY

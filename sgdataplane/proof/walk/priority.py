"""Know the priority of packets on their way through a profile. Chains keep group sets' numbers and ranks there.

Owns what becomes of the priority. An atom of the axis of group sets stands for all far addresses that are in the same
groups and have the same number in the map of members. It is given these atoms, and maps. It must not know claims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

from sgdataplane.contract.fields import Field
from sgdataplane.nft.ir import Datum, MapKey, MapPriority, Match, SetPriority
from sgdataplane.proof.spec.axes import Atoms, is_in
from sgdataplane.proof.spec.outcomes import Effects

GroupSet = tuple[str, ...]  # the groups that an address is a member of, sorted; empty if it is no member's
GroupSetAtom = tuple[GroupSet, int | None]  # a group set, and its number in the map of members, if it is there
UNSET = None  # the priority that a packet came with, which may be any
View = tuple[int | None, ...]  # the priority of each atom
MapOf = Callable[[str], Mapping[MapKey, Datum]]


def atoms_of(found: Iterable[int], size: int) -> Atoms:
    """Return the set of these atoms, of an axis that has `size` atoms."""
    bits = bytearray(b"0" * size)
    for index in found:
        bits[-1 - index] = 49
    return int(bits or b"0", 2)


@dataclass
class Priorities:
    """The priority of packets by their group set, after any effects."""

    axis: int
    """The index of the axis of group sets."""
    atoms: Sequence[GroupSetAtom]
    """The atoms of far addresses by group set."""
    map_of: MapOf
    """Returns the elements of a map of priorities."""
    first: int | None = UNSET
    """The priority that packets come with."""
    _views: dict[Effects, View] = field(default_factory=dict)
    _asked: dict[tuple[tuple[Match, ...], Effects], tuple[Atoms, Atoms]] = field(default_factory=dict)

    def view(self, effects: Effects) -> View:
        """Return the priority of each atom after these effects."""
        found = self._views.get(effects)
        if found is None:
            found = self._views[effects] = reduce(self._after, effects, (self.first,) * len(self.atoms))
        return found

    def _after(self, view: View, effect: object) -> View:
        """Return the priority of each atom after one more effect."""
        if isinstance(effect, SetPriority):
            return (effect.value,) * len(self.atoms)
        if not isinstance(effect, MapPriority):
            return view
        if effect.field is Field.PACKET_PRIORITY:
            return tuple(map(self.map_of(effect.name).get, view, view))  # type: ignore[arg-type]
        return tuple(now if number is None else number for now, (_, number) in zip(view, self.atoms, strict=True))

    def select(self, matches: tuple[Match, ...], effects: Effects) -> tuple[int, Atoms, Atoms]:
        """Return the axis of group sets, the atoms without a priority, and those for which all matches hold."""
        key = (matches, effects)
        if key not in self._asked:
            known = [(index, value) for index, value in enumerate(self.view(effects)) if value is not UNSET]
            holding = [index for index, value in known if all(map(_holds, matches, [value] * len(matches)))]
            size = len(self.atoms)
            unset = ((1 << size) - 1) ^ atoms_of((index for index, _ in known), size)
            self._asked[key] = unset, atoms_of(holding, size)
        return self.axis, *self._asked[key]


@dataclass(frozen=True, slots=True)
class OnePriority:
    """The priority where all packets on a way have the same one, which the latest effect has written."""

    full: Atoms
    """All atoms of the first axis."""

    def value(self, effects: Effects) -> int | None:
        """Return the priority after these effects; None if it isn't known."""
        written = [effect for effect in effects if isinstance(effect, SetPriority | MapPriority)]
        return written[-1].value if written and isinstance(written[-1], SetPriority) else UNSET

    def select(self, matches: tuple[Match, ...], effects: Effects) -> tuple[int, Atoms, Atoms]:
        """Return the same as Priorities.select(), with the first axis in place of that of group sets."""
        value = self.value(effects)
        if value is UNSET:
            return 0, self.full, 0
        return 0, 0, self.full if all(_holds(match, value) for match in matches) else 0


def _holds(match: Match, value: int) -> bool:
    return is_in(value, match.ranges, match.mask) != match.negate

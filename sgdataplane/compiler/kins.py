"""Members of groups as numbers: an address's kin, which is the exact set of its groups, has one number everywhere.

Owns these numbers, the maps from addresses to them, and the maps from them to ranks. Is given members. Must not know
what ranks mean.

A number follows from the groups' names. So a member that joins or leaves is one element of one map, whatever the rules
are, and no rule that comes or goes changes an element.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from sgdataplane.contract import names
from sgdataplane.contract.fields import KeyType
from sgdataplane.contract.priority import IS_KIN, KINS
from sgdataplane.contract.tables import members_name
from sgdataplane.model.members import Kin, Members, Pages
from sgdataplane.net.values import Family
from sgdataplane.nft.ir import Map, MapPage, Paged

ADDRESS_TYPE = {Family.IPV4: KeyType.IPV4, Family.IPV6: KeyType.IPV6}
Strengths = tuple[tuple[str, int], ...]  # groups with ranks, strongest first


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a map from kins to ranks says: each kin's strongest group. It leaves out kins that are in one of the groups
    `but`, which another map ranks."""

    strengths: Strengths
    but: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the map. It doesn't depend on which kins there are."""
        return f"ranks-{names.digest(repr((self.strengths, self.but) if self.but else self.strengths))}"


@dataclass(frozen=True, eq=False)
class Kins:
    """The numbers of all kins that are in one of the `spoken` groups, and for each group those of its kins. Compared by
    identity."""

    known: AbstractSet[Kin]
    spoken: AbstractSet[str]
    numbers: Mapping[Kin, int]
    of_group: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, members: Members, spoken: AbstractSet[str], before: Kins | None) -> Kins:
        """`before`: those of a similar state; the same object if nothing has changed."""
        known = members.kins(Family.IPV4) | members.kins(Family.IPV6)
        if before is not None and before.known == known and before.spoken == spoken:
            return before
        numbers = _numbered(kin for kin in known if not spoken.isdisjoint(kin))
        of_group: dict[str, list[int]] = {group_id: [] for group_id in spoken}
        for kin, number in numbers.items():
            for group_id in kin:
                if group_id in of_group:
                    of_group[group_id].append(number)
        return cls(known, spoken, numbers, of_group)

    def ranked(self, ranking: Ranking) -> tuple[tuple[int, int], ...]:
        """The kins that a map ranks, with their ranks."""
        found: dict[int, int] = {}
        for group_id, rank in reversed(ranking.strengths):
            found.update(dict.fromkeys(self.of_group[group_id], rank))
        for number in self.of_groups(ranking.but):
            found.pop(number, None)
        return tuple(sorted(found.items()))

    def of_groups(self, group_ids: Iterable[str]) -> Iterator[int]:
        """The kins of these groups; those of several come several times."""
        return (number for group_id in group_ids for number in self.of_group[group_id])


NO_KINS = Kins(frozenset(), frozenset(), {}, {})


def _numbered(kins: Iterable[Kin]) -> dict[Kin, int]:
    found: dict[Kin, int] = {}
    taken: set[int] = set()
    for kin in sorted(kins):
        number = int(names.digest(repr(kin), 8), 16) % KINS
        while number in taken:
            number = (number + 1) % KINS
        taken.add(number)
        found[kin] = IS_KIN | number
    return found


@dataclass(frozen=True)
class MembersMap:
    """One family's map from addresses to the numbers of their kins, and what it was made from."""

    members: Pages = field(default_factory=dict)
    kins: Kins = NO_KINS
    elements: Paged = field(default_factory=lambda: Paged({}))

    def next(self, members: Pages, kins: Kins) -> MembersMap:
        """The map for a similar state. Pages are taken over where neither members nor their numbers have changed."""
        made = {}
        turned = set() if kins is self.kins else {kin for kin, _ in kins.numbers.items() ^ self.kins.numbers.items()}
        for number, page in members.items():
            if page is self.members.get(number) and (not turned or turned.isdisjoint(page.kins)):
                known = self.elements.pages.get(number)
            else:
                known = _page([(a, found) for a in page.addresses if (found := kins.numbers.get(page.kin[a]))])
            if known is not None:
                made[number] = known
        return MembersMap(members, kins, Paged(made))

    def map(self, family: Family) -> Map:
        return Map(members_name(family), ADDRESS_TYPE[family], self.elements, holds=KeyType.CLASSID)


def _page(elements: Sequence[tuple[int, int]]) -> MapPage | None:
    return MapPage(tuple(elements)) if elements else None


def ranks_map(ranking: Ranking, kins: Kins) -> Map:
    return Map(ranking.name, KeyType.CLASSID, kins.ranked(ranking), holds=KeyType.CLASSID)

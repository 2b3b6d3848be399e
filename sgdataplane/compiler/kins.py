"""Number the members of groups: an address's kin, the exact set of its groups, has one number everywhere.

Owns these numbers, the maps from addresses to them, and the maps from them to ranks. It is given members. It must not
know what ranks mean.

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
Strengths = tuple[tuple[str, int], ...]  # groups with their ranks, strongest first


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a map from kins to ranks says: the rank of each kin's strongest group."""

    strengths: Strengths
    """The groups with their ranks, strongest first."""
    but: tuple[str, ...] = ()
    """Groups that another map ranks; kins in one of them are left out."""

    @property
    def name(self) -> str:
        """The name of the map. It doesn't depend on which kins there are."""
        return f"ranks-{names.digest(repr((self.strengths, self.but) if self.but else self.strengths))}"


@dataclass(frozen=True, eq=False)
class Kins:
    """The numbers of all kins that are in a group which rules name. Two of them are compared by identity."""

    known: AbstractSet[Kin]
    """All kins of members."""
    spoken: AbstractSet[str]
    """The groups that rules name."""
    numbers: Mapping[Kin, int]
    """The number of each kin that is in such a group."""
    of_group: Mapping[str, Sequence[int]]
    """The numbers of each such group's kins."""

    @classmethod
    def of(cls, members: Members, spoken: AbstractSet[str], before: Kins | None) -> Kins:
        """Give numbers to the kins of these members.

        The result is `before`, those of a similar state, if nothing has changed.
        """
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
        """Return the kins that a map ranks, by number, with their ranks."""
        found: dict[int, int] = {}
        for group_id, rank in reversed(ranking.strengths):
            found.update(dict.fromkeys(self.of_group[group_id], rank))
        for number in self.of_groups(ranking.but):
            found.pop(number, None)
        return tuple(sorted(found.items()))

    def of_groups(self, group_ids: Iterable[str]) -> Iterator[int]:
        """Yield the kins of these groups by number; those in several groups come several times."""
        return (number for group_id in group_ids for number in self.of_group[group_id])


NO_KINS = Kins(frozenset(), frozenset(), {}, {})


def _numbered(kins: Iterable[Kin]) -> dict[Kin, int]:
    """Give each kin a number that follows from its groups' names, or the next free one."""
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
    """The members, in pages."""
    kins: Kins = NO_KINS
    elements: Paged = field(default_factory=lambda: Paged({}))
    """The elements of the map."""

    def next(self, members: Pages, kins: Kins) -> MembersMap:
        """Return the map for a similar state.

        Pages are taken over where neither members nor their numbers have changed.
        """
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
        """Return it as a map of the table."""
        return Map(members_name(family), ADDRESS_TYPE[family], self.elements, holds=KeyType.CLASSID)


def _page(elements: Sequence[tuple[int, int]]) -> MapPage | None:
    return MapPage(tuple(elements)) if elements else None


def ranks_map(ranking: Ranking, kins: Kins) -> Map:
    """Return a map from kins to ranks."""
    return Map(ranking.name, KeyType.CLASSID, kins.ranked(ranking), holds=KeyType.CLASSID)

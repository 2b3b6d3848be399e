"""Number the members of groups: an address's group set, the exact set of its groups, has one number everywhere.

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
from sgdataplane.contract.priority import FIRST_GROUP_SET, GROUP_SETS
from sgdataplane.contract.tables import members_name
from sgdataplane.model.members import GroupSet, Members, Pages
from sgdataplane.net.values import Family
from sgdataplane.nft.ir import Map, MapPage, Paged

ADDRESS_TYPE = {Family.IPV4: KeyType.IPV4, Family.IPV6: KeyType.IPV6}
Strengths = tuple[tuple[str, int], ...]  # groups with their ranks, strongest first


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a map from group sets to ranks says: the rank of each group set's strongest group."""

    strengths: Strengths
    """The groups with their ranks, strongest first."""
    except_groups: tuple[str, ...] = ()
    """Groups that another map ranks; group sets in one of them are left out."""

    @property
    def name(self) -> str:
        """The name of the map. It doesn't depend on which group sets there are."""
        content = (self.strengths, self.except_groups) if self.except_groups else self.strengths
        return f"ranks-{names.digest(repr(content))}"


@dataclass(frozen=True, eq=False)
class GroupSets:
    """The numbers of all group sets that are in a group which rules name. Two of them are compared by identity."""

    known: AbstractSet[GroupSet]
    """All group sets of members."""
    named_groups: AbstractSet[str]
    """The groups that rules name."""
    numbers: Mapping[GroupSet, int]
    """The number of each group set that is in such a group."""
    of_group: Mapping[str, Sequence[int]]
    """The numbers of each such group's group sets."""

    @classmethod
    def of(cls, members: Members, named_groups: AbstractSet[str], previous: GroupSets | None) -> GroupSets:
        """Give numbers to the group sets of these members.

        The result is `previous`, those of a similar state, if nothing has changed.
        """
        known = members.group_sets(Family.IPV4) | members.group_sets(Family.IPV6)
        if previous is not None and previous.known == known and previous.named_groups == named_groups:
            return previous
        numbers = _number_group_sets(group_set for group_set in known if not named_groups.isdisjoint(group_set))
        of_group: dict[str, list[int]] = {group_id: [] for group_id in named_groups}
        for group_set, number in numbers.items():
            for group_id in group_set:
                if group_id in of_group:
                    of_group[group_id].append(number)
        return cls(known, named_groups, numbers, of_group)

    def rank(self, ranking: Ranking) -> tuple[tuple[int, int], ...]:
        """Return the group sets that a map ranks, by number, with their ranks."""
        found: dict[int, int] = {}
        for group_id, rank in reversed(ranking.strengths):
            found.update(dict.fromkeys(self.of_group[group_id], rank))
        for number in self.of_groups(ranking.except_groups):
            found.pop(number, None)
        return tuple(sorted(found.items()))

    def of_groups(self, group_ids: Iterable[str]) -> Iterator[int]:
        """Yield the group sets of these groups by number; those in several groups come several times."""
        return (number for group_id in group_ids for number in self.of_group[group_id])


NO_GROUP_SETS = GroupSets(frozenset(), frozenset(), {}, {})


def _number_group_sets(group_sets: Iterable[GroupSet]) -> dict[GroupSet, int]:
    """Give each group set a number that follows from its groups' names, or the next free one."""
    found: dict[GroupSet, int] = {}
    taken: set[int] = set()
    for group_set in sorted(group_sets):
        number = int(names.digest(repr(group_set), 8), 16) % GROUP_SETS
        while number in taken:
            number = (number + 1) % GROUP_SETS
        taken.add(number)
        found[group_set] = FIRST_GROUP_SET | number
    return found


@dataclass(frozen=True)
class MembersMap:
    """One family's map from addresses to the numbers of their group sets, and what it was made from."""

    members: Pages = field(default_factory=dict)
    """The members, in pages."""
    group_sets: GroupSets = NO_GROUP_SETS
    elements: Paged = field(default_factory=lambda: Paged({}))
    """The elements of the map."""

    def next(self, members: Pages, group_sets: GroupSets) -> MembersMap:
        """Return the map for a similar state.

        Pages are taken over where neither members nor their numbers have changed.
        """
        made = {}
        changed = (
            set()
            if group_sets is self.group_sets
            else {group_set for group_set, _ in group_sets.numbers.items() ^ self.group_sets.numbers.items()}
        )
        for number, page in members.items():
            if page is self.members.get(number) and (not changed or changed.isdisjoint(page.group_sets)):
                known = self.elements.pages.get(number)
            else:
                known = _page(
                    [(a, found) for a in page.addresses if (found := group_sets.numbers.get(page.group_set[a]))]
                )
            if known is not None:
                made[number] = known
        return MembersMap(members, group_sets, Paged(made))

    def map(self, family: Family) -> Map:
        """Return it as a map of the table."""
        return Map(members_name(family), ADDRESS_TYPE[family], self.elements, holds=KeyType.CLASSID)


def _page(elements: Sequence[tuple[int, int]]) -> MapPage | None:
    return MapPage(tuple(elements)) if elements else None


def ranks_map(ranking: Ranking, group_sets: GroupSets) -> Map:
    """Return a map from group sets to ranks."""
    return Map(ranking.name, KeyType.CLASSID, group_sets.rank(ranking), holds=KeyType.CLASSID)

"""Know far addresses: the groups and the map's number of each, and the address blocks of remotes.

Owns an index of members that shares nothing with the compiler's. It is given the state's ENIs and the table's map of
members. It must not know claims.

A group set is the exact set of groups that an address is a member of. Members are kept in pages, like the map's
elements, so that nothing is worked out again for a page that is the same object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import repeat

from sgdataplane.model.state import CloudState, Eni, GroupRef, PrefixListRef, Remote
from sgdataplane.net.values import Address, Family, Prefix
from sgdataplane.nft.ir import Datum, MapKey, Range
from sgdataplane.proof.spec.axes import Atoms
from sgdataplane.proof.spec.claims import Ranges, unite
from sgdataplane.proof.walk.lookups import Lookup, LookupPage, page_of
from sgdataplane.proof.walk.priority import GroupSet, GroupSetAtom, atoms_of

NOBODY: GroupSet = ()  # the group set of an address that is no member's
GroupSetPage = Mapping[int, GroupSet]  # the group set of each address on a page
Owners = Mapping[Address, tuple[GroupSet, ...]]


@dataclass(frozen=True, eq=False)
class Kinships:
    """The group set of each member's address. Members are private interfaces (`semantics.is_member`).

    An address that several members have is in the groups of all of them.
    """

    enis: tuple[Eni, ...] = ()
    """The ENIs that this was made from."""
    pages: Mapping[Family, Mapping[int, GroupSetPage]] = field(
        default_factory=lambda: {family: {} for family in Family}
    )
    """The group set of each member's address, by family, page number and address."""
    shared: Owners = field(default_factory=dict)
    """The group set of each owner, for addresses that several members have."""
    carriers: tuple[Eni, ...] = ()
    """The members with delegated prefixes."""
    changed: frozenset[str] = frozenset()
    """The groups that got or lost members since the earlier state."""

    @classmethod
    def read(cls, state: CloudState, previous: Kinships | None = None) -> Kinships:
        """Return the kinships of a state. Pages without a change stay the objects that they were in `previous`."""
        previous = previous or cls()
        if previous.enis is state.network_interfaces:
            return replace(previous, changed=frozenset())
        gone, come = _difference(previous.enis, state.network_interfaces)
        change = _Change(previous)
        if len(gone) > len(state.network_interfaces) // 2:
            gone, come, change = list(previous.enis), list(state.network_interfaces), _Change(cls())
        else:
            for eni in gone:
                change.leave(eni)
        for eni in come:
            change.join(eni)
        changed = frozenset(group for eni in (*gone, *come) for group in eni.security_group_ids)
        return cls(state.network_interfaces, change.pages(), change.shared, tuple(change.carriers), changed)

    def of(self, address: Address) -> GroupSet:
        """Return the group set of an address."""
        return self.pages[address.family].get(page_of(address.value), {}).get(address.value, NOBODY)

    def list_delegated(self, group_id: str, family: Family) -> list[Prefix]:
        """Return the prefixes that are delegated to a group's members."""
        found = (p for eni in self.carriers if group_id in eni.security_group_ids for p in eni.delegated_prefixes)
        return [prefix for prefix in found if prefix.family is family]


class _Change:
    """Changes kinships while ENIs leave and join."""

    def __init__(self, previous: Kinships) -> None:
        self._previous, self.shared, self.carriers = previous.pages, dict(previous.shared), list(previous.carriers)
        self._pages: dict[Family, dict[int, dict[int, GroupSet]]] = {family: {} for family in Family}

    def leave(self, eni: Eni) -> None:
        """Remove an ENI's addresses from the index."""
        if not eni.is_member:
            return
        self.carriers = [other for other in self.carriers if other != eni]
        for address in eni.addresses:
            owners = list(self.shared.pop(address, (_group_set(eni),)))
            owners.remove(_group_set(eni))
            self._write(address, owners)

    def join(self, eni: Eni) -> None:
        """Add an ENI's addresses to the index."""
        if not eni.is_member:
            return
        self.carriers += [eni] if eni.delegated_prefixes else []
        for address in eni.addresses:
            page, owners = self._page(address), list(self.shared.get(address, ()))
            if not owners and address.value in page:
                owners = [page[address.value]]
            self._write(address, [*owners, _group_set(eni)])

    def pages(self) -> dict[Family, dict[int, GroupSetPage]]:
        """Return all pages. Those without a change are the same objects as before."""
        merged = {family: {**pages, **self._pages[family]} for family, pages in self._previous.items()}
        return {family: {number: page for number, page in pages.items() if page} for family, pages in merged.items()}

    def _write(self, address: Address, owners: Sequence[GroupSet]) -> None:
        """Store the group set of an address that has these owners, or remove an address without an owner."""
        page = self._page(address)
        if len(owners) > 1:
            self.shared[address] = tuple(owners)
            page[address.value] = _sort_ids(tuple(group for group_set in owners for group in group_set))
        elif owners:
            page[address.value] = owners[0]
        else:
            del page[address.value]

    def _page(self, address: Address) -> dict[int, GroupSet]:
        """Return the page of an address as a copy that may be changed."""
        made, number = self._pages[address.family], page_of(address.value)
        if number not in made:
            made[number] = dict(self._previous[address.family].get(number, {}))
        return made[number]


def _group_set(eni: Eni) -> GroupSet:
    return _sort_ids(eni.security_group_ids)


@lru_cache(maxsize=1 << 16)
def _sort_ids(group_ids: tuple[str, ...]) -> GroupSet:
    """Return the ids sorted, each once; always the same object for the same ids."""
    return tuple(sorted(set(group_ids)))


def _difference(previous: Sequence[Eni], after: Sequence[Eni]) -> tuple[list[Eni], list[Eni]]:
    """Return the ENIs that only the first list has, and those that only the second one has.

    States share records that stay, and comparing an object with itself costs next to nothing. An ENI that is equal but
    another object may be in both results.
    """
    most = min(len(previous), len(after))
    start = _alike(previous, after, most)
    end = _alike(previous, after, most - start, is_from_end=True)
    old, new = previous[start : len(previous) - end], after[start : len(after) - end]
    kept = set(map(id, old)) & set(map(id, new))
    return [eni for eni in old if id(eni) not in kept], [eni for eni in new if id(eni) not in kept]


def _alike(one: Sequence[Eni], other: Sequence[Eni], most: int, *, is_from_end: bool = False) -> int:
    """Return how many records at the beginning, or at the end, are equal; `most` at most."""
    found = 0
    for step in (512, 16, 1):
        while found + step <= most and _part(one, found, step, is_from_end) == _part(other, found, step, is_from_end):
            found += step
    return found


def _part(records: Sequence[Eni], done: int, size: int, is_from_end: bool) -> Sequence[Eni]:
    """Return the `size` records that come after those that are `done`, from either end."""
    first = len(records) - done - size if is_from_end else done
    return records[first : first + size]


def remote_ranges(state: CloudState, kinships: Kinships, remote: Remote, family: Family) -> Ranges:
    """Return the address blocks of a remote in one family.

    A group's blocks are the prefixes that are delegated to its members. Their single addresses are found by group set.
    """
    if isinstance(remote, Prefix):
        return (Range(remote.first, remote.last),) if remote.family is family else ()
    prefixes = _prefixes(state, kinships, remote, family)
    return unite((prefix.first, prefix.last) for prefix in prefixes if prefix.family is family)


def _prefixes(
    state: CloudState, kinships: Kinships, remote: GroupRef | PrefixListRef, family: Family
) -> Iterable[Prefix]:
    """Return the prefixes of a list, or those that are delegated to a group's members."""
    match remote:
        case PrefixListRef(prefix_list_id):
            return (entry.cidr for entry in state.prefix_list[prefix_list_id].entries)
        case GroupRef(group_id):
            return kinships.list_delegated(group_id, family)


NO_MEMBER: GroupSetAtom = (NOBODY, None)


@dataclass(frozen=True, eq=False, slots=True)
class GroupSetAtomPage:
    """The atoms that the addresses of one page are in."""

    group_set: GroupSetPage | None
    """The group sets that it was made from."""
    numbers: LookupPage | None
    """The map's page that it was made from."""
    atoms: Mapping[GroupSetAtom, int]
    """The atoms on this page, each with one address that is in it."""

    @classmethod
    def of(cls, group_set: GroupSetPage | None, numbers: LookupPage | None) -> GroupSetAtomPage:
        """Combine a page of group sets with the same page of the map of members."""
        group_sets, values = group_set or {}, numbers.values if numbers is not None else dict[MapKey, Datum]()
        addresses = group_sets if group_sets.keys() == values.keys() else dict.fromkeys((*group_sets, *values))
        atoms = zip(map(group_sets.get, addresses, repeat(NOBODY)), map(values.get, addresses), strict=True)  # type: ignore[arg-type]
        return cls(group_set, numbers, dict(zip(atoms, addresses, strict=True)))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class GroupSetAtoms:
    """The atoms that a family's far addresses are in: group set and number in the map of members."""

    pages: Mapping[int, GroupSetAtomPage] = field(default_factory=dict)
    counts: Mapping[GroupSetAtom, int] = field(default_factory=dict)  # how many pages have each atom
    all: Sequence[GroupSetAtom] = (NO_MEMBER,)
    """All atoms, those without a number first. It stays the same object while the atoms are the same."""

    @classmethod
    def read(
        cls, members: Mapping[int, GroupSetPage], numbers: Lookup, previous: GroupSetAtoms | None = None
    ) -> GroupSetAtoms:
        """Return the atoms of these members and numbers. Only pages that aren't the same as in `previous` are read."""
        previous = previous or cls()
        pages, counts = dict(previous.pages), Counter(previous.counts)
        for number in members.keys() | previous.pages.keys() | numbers.pages.keys():
            group_set, found, old = members.get(number), numbers.pages.get(number), pages.get(number)
            if old is not None and old.group_set is group_set and old.numbers is found:
                continue
            new = pages[number] = GroupSetAtomPage.of(group_set, found)
            counts.update(new.atoms.keys())
            counts.subtract(old.atoms.keys() if old is not None else ())
        counts = Counter({atom: pages_with for atom, pages_with in counts.items() if pages_with})
        is_same = counts.keys() == previous.counts.keys()
        return cls(pages, counts, previous.all if is_same else _in_order(counts))

    @property
    def full(self) -> Atoms:
        """The set of all atoms."""
        return (1 << len(self.all)) - 1

    @cached_property
    def numbered(self) -> Atoms:
        """The set of atoms whose addresses have a number."""
        first = next((index for index, (_, number) in enumerate(self.all) if number is not None), len(self.all))
        return self.full >> first << first

    @cached_property
    def by_group(self) -> Mapping[str, Atoms]:
        """For each group, the set of atoms whose addresses are its members."""
        found: dict[str, list[int]] = {}
        for index, (group_set, _) in enumerate(self.all):
            for group in group_set:
                found.setdefault(group, []).append(index)
        return {group: atoms_of(indices, len(self.all)) for group, indices in found.items()}

    def knows(self, address: int) -> bool:
        """Return whether the address is a member's, or in the map."""
        page = self.pages.get(page_of(address))
        return page is not None and (
            address in (page.group_set or ()) or (page.numbers is not None and address in page.numbers.values)
        )

    def examples(self, atom: GroupSetAtom) -> Iterator[int]:
        """Yield some addresses that are in the atom, one a page."""
        return (page.atoms[atom] for page in self.pages.values() if atom in page.atoms)


@dataclass(frozen=True, eq=False)
class GroupSetNumbers:
    """The numbers that the map of members has for the members of each group, in both families."""

    of_group: Mapping[str, Sequence[int]]
    """The numbers of each group's members."""
    is_clear: bool
    """Whether each number stands for one group set only."""
    atoms: Mapping[Family, Sequence[GroupSetAtom]] = field(default_factory=dict)
    """The atoms that this follows from."""

    @classmethod
    def of(cls, families: Mapping[Family, GroupSetAtoms]) -> GroupSetNumbers:
        """Read the numbers from the atoms of both families."""
        atoms = {
            (group_set, number) for found in families.values() for group_set, number in found.all if number is not None
        }
        found: dict[str, list[int]] = {}
        for group_set, number in atoms:
            for group in group_set:
                found.setdefault(group, []).append(number)
        is_clear = len({number for _, number in atoms}) == len(atoms)
        return cls(found, is_clear, {family: one.all for family, one in families.items()})

    def is_of(self, families: Mapping[Family, GroupSetAtoms]) -> bool:
        """Return whether it was read from just these atoms."""
        return all(self.atoms.get(family) is one.all for family, one in families.items())


def _in_order(atoms: Iterable[GroupSetAtom]) -> tuple[GroupSetAtom, ...]:
    """Return the atoms sorted, those without a number first."""
    return tuple(sorted({NO_MEMBER, *atoms}, key=lambda atom: (atom[1] is not None, atom[1] or 0, atom[0])))

"""Classes of far addresses that neither the rules nor the table tell apart: one address of each, with its claims.

Owns the classes of a family's addresses, and an index of members that shares nothing with the compiler's. Is given the
state's ENIs, claims, and the table's maps. Must not know the order of claims.

An address's class follows from the block around it that no range cuts, from the groups that it is a member of (its
kinship), and from what each map of single addresses has for it. The latter two stand in pages: nothing is worked out
again for a page that is the same object.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import chain, compress, count, repeat
from operator import is_not

from sgdataplane.model.state import CloudState, Eni, GroupRef, PrefixListRef, Remote
from sgdataplane.net.values import Address, Family, Prefix
from sgdataplane.proof.claims import Claim, Ranges, united
from sgdataplane.proof.lookups import Lookup, LookupPage, Sign, page_of
from sgdataplane.proof.order import Boxes

Kin = tuple[str, ...]  # the groups of an address, sorted; empty if it is no member's
NOBODY: Kin = ()
KinPage = Mapping[int, Kin]  # address -> its kinship
Owners = Mapping[Address, tuple[Kin, ...]]


@dataclass(frozen=True, eq=False)
class Kinships:
    """The kinship of every member's address. Members are private interfaces (`semantics.is_member`). An address that
    several of them have is in the groups of all. `shared`: for such addresses, the groups of each owner. `carriers`:
    members with delegated prefixes.

    `turned`: the groups with other members than in the earlier state.
    """

    enis: tuple[Eni, ...] = ()
    pages: Mapping[Family, Mapping[int, KinPage]] = field(default_factory=lambda: {family: {} for family in Family})
    shared: Owners = field(default_factory=dict)
    carriers: tuple[Eni, ...] = ()
    turned: frozenset[str] = frozenset()

    @classmethod
    def read(cls, state: CloudState, before: Kinships | None = None) -> Kinships:
        """The kinships of a state. `before`: those of an earlier state."""
        before = before or cls()
        if before.enis is state.network_interfaces:
            return replace(before, turned=frozenset())
        gone, come = _difference(before.enis, state.network_interfaces)
        change = _Change(before)
        if len(gone) > len(state.network_interfaces) // 2:
            gone, come, change = list(before.enis), list(state.network_interfaces), _Change(cls())
        else:
            for eni in gone:
                change.leave(eni)
        for eni in come:
            change.join(eni)
        turned = frozenset(group for eni in (*gone, *come) for group in eni.security_group_ids)
        return cls(state.network_interfaces, change.pages(), change.shared, tuple(change.carriers), turned)

    def of(self, address: Address) -> Kin:
        """The kinship of an address."""
        return self.pages[address.family].get(page_of(address.value), {}).get(address.value, NOBODY)

    def delegated(self, group_id: str, family: Family) -> list[Prefix]:
        """The prefixes that are delegated to a group's members."""
        found = (p for eni in self.carriers if group_id in eni.security_group_ids for p in eni.delegated_prefixes)
        return [prefix for prefix in found if prefix.family is family]


class _Change:
    """Kinships while ENIs leave and join."""

    def __init__(self, before: Kinships) -> None:
        self._before, self.shared, self.carriers = before.pages, dict(before.shared), list(before.carriers)
        self._pages: dict[Family, dict[int, dict[int, Kin]]] = {family: {} for family in Family}

    def leave(self, eni: Eni) -> None:
        if not eni.is_member:
            return
        self.carriers = [other for other in self.carriers if other is not eni]
        for address in eni.addresses:
            owners = list(self.shared.pop(address, (_kin(eni),)))
            owners.remove(_kin(eni))
            self._write(address, owners)

    def join(self, eni: Eni) -> None:
        if not eni.is_member:
            return
        self.carriers += [eni] if eni.delegated_prefixes else []
        for address in eni.addresses:
            page, owners = self._page(address), list(self.shared.get(address, ()))
            if not owners and address.value in page:
                owners = [page[address.value]]
            self._write(address, [*owners, _kin(eni)])

    def pages(self) -> dict[Family, dict[int, KinPage]]:
        """All pages; those without a change are the same objects as before."""
        merged = {family: {**pages, **self._pages[family]} for family, pages in self._before.items()}
        return {family: {number: page for number, page in pages.items() if page} for family, pages in merged.items()}

    def _write(self, address: Address, owners: Sequence[Kin]) -> None:
        page = self._page(address)
        if len(owners) > 1:
            self.shared[address] = tuple(owners)
            page[address.value] = _sorted(tuple(group for kin in owners for group in kin))
        elif owners:
            page[address.value] = owners[0]
        else:
            del page[address.value]

    def _page(self, address: Address) -> dict[int, Kin]:
        made, number = self._pages[address.family], page_of(address.value)
        if number not in made:
            made[number] = dict(self._before[address.family].get(number, {}))
        return made[number]


def _kin(eni: Eni) -> Kin:
    return _sorted(eni.security_group_ids)


@lru_cache(maxsize=1 << 16)
def _sorted(group_ids: tuple[str, ...]) -> Kin:
    """Always the same object for the same ids."""
    return tuple(sorted(set(group_ids)))


def _difference(before: Sequence[Eni], after: Sequence[Eni]) -> tuple[list[Eni], list[Eni]]:
    """The ENIs that only the first list has, and those that only the second has. Records are compared by identity,
    since states share those that stay; one that is equal but another object may leave and join."""
    start = _alike(before, after)
    end = min(_alike(before[::-1], after[::-1]), min(len(before), len(after)) - start)
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    kept = set(map(id, old)) & set(map(id, new))
    return [eni for eni in old if id(eni) not in kept], [eni for eni in new if id(eni) not in kept]


def _alike(one: Sequence[Eni], other: Sequence[Eni]) -> int:
    """How many records at the beginning are the same objects."""
    return next(compress(count(), map(is_not, one, other)), min(len(one), len(other)))


def remote_ranges(state: CloudState, kinships: Kinships, remote: Remote, family: Family) -> Ranges:
    """The blocks of a remote. A group's blocks are the prefixes delegated to its members; their single addresses are
    found by kinship."""
    prefixes = _prefixes(state, kinships, remote, family)
    return united((prefix.first, prefix.last) for prefix in prefixes if prefix.family is family)


def _prefixes(state: CloudState, kinships: Kinships, remote: Remote, family: Family) -> Iterable[Prefix]:
    match remote:
        case Prefix():
            return (remote,)
        case PrefixListRef(prefix_list_id):
            return (entry.cidr for entry in state.prefix_list[prefix_list_id].entries)
        case GroupRef(group_id):
            return kinships.delegated(group_id, family)


Word = tuple[Kin, tuple[Sign | None, ...]]  # the kinship of an address, and what each map has for it


@dataclass(frozen=True)
class Side:
    """The claims of one direction in one family, and the address blocks of their remotes."""

    claims: Sequence[Claim]
    family: Family
    blocks: Mapping[Remote, tuple[tuple[int, int], ...]]

    @classmethod
    def of(
        cls, state: CloudState, kinships: Kinships, claims: Sequence[Claim], family: Family, before: Side | None = None
    ) -> Side:
        """`before`: a side with the same claims, of a state that differs in members of groups only."""
        remotes = dict.fromkeys(claim.remote for claim in claims if claim.remote is not None)
        known = {} if before is None else {r: b for r, b in before.blocks.items() if not isinstance(r, GroupRef)}
        asked = (remote for remote in remotes if remote not in known)
        made = {remote: remote_ranges(state, kinships, remote, family) for remote in asked}
        blocks = known | {r: tuple((int(item.first), int(item.last)) for item in found) for r, found in made.items()}
        return before if before is not None and before.blocks == blocks else cls(claims, family, blocks)

    @cached_property
    def located(self) -> tuple[tuple[Claim, tuple[tuple[int, int], ...] | None], ...]:
        """The claims that hold for addresses whoever has them, with their blocks; None for any address."""
        found = ((claim, self.blocks[claim.remote] if claim.remote is not None else None) for claim in self.claims)
        return tuple((claim, blocks) for claim, blocks in found if blocks != ())

    def cuts(self) -> Iterator[int]:
        for intervals in self.blocks.values():
            for first, last in intervals:
                yield first
                yield last + 1

    @cached_property
    def by_remote(self) -> dict[Remote | None, Boxes]:
        """The claims with each remote."""
        found: dict[Remote | None, Boxes] = {}
        for box, claim in enumerate(self.claims):
            found[claim.remote] = found.get(claim.remote, 0) | 1 << box
        return found

    def at_blocks(self, starts: Sequence[int]) -> list[Boxes]:
        """For each block, the claims that hold for all its addresses. `starts`: where blocks begin, which has all
        cuts."""
        of = self.by_remote
        turns: dict[int, Boxes] = {}
        for remote, intervals in self.blocks.items():
            for first, last in intervals:
                turns[first] = turns.get(first, 0) ^ of[remote]
                turns[last + 1] = turns.get(last + 1, 0) ^ of[remote]
        holding, found = of.get(None, 0), []
        for start in starts:
            holding ^= turns.get(start, 0)
            found.append(holding)
        return found

    def of_kinships(self, kins: Iterable[Kin]) -> dict[Kin, Boxes]:
        """For each kinship, the claims that hold for its members by their groups."""
        of = {ref.security_group_id: boxes for ref, boxes in self.by_remote.items() if isinstance(ref, GroupRef)}
        found: dict[Kin, Boxes] = {}
        for kin in kins:
            boxes = 0
            for group in kin:
                boxes |= of.get(group, 0)
            found[kin] = boxes
        return found


@dataclass(frozen=True, slots=True)
class FarClass:
    """An address, the claims that hold for it, and those that do so whoever its owner is: by its block."""

    address: int
    holding: Boxes
    by_block: Boxes


@dataclass(frozen=True, eq=False, slots=True)
class WordPage:
    """The words for the addresses on one page, and the pages that they follow from."""

    kin: KinPage | None
    pages: tuple[LookupPage | None, ...]
    words: Mapping[int, Word]

    @classmethod
    def of(cls, kin: KinPage | None, pages: tuple[LookupPage | None, ...]) -> WordPage:
        of_kin, signs = kin or {}, [page.signs if page is not None else {} for page in pages]
        addresses = [int(address) for address in dict.fromkeys(chain(of_kin, *signs))]
        says = zip(*(map(said.get, addresses) for said in signs), strict=True) if signs else repeat(())
        kins = map(of_kin.get, addresses, repeat(NOBODY))
        return cls(kin, pages, dict(zip(addresses, zip(kins, says, strict=False), strict=True)))

    def is_of(self, kin: KinPage | None, pages: tuple[LookupPage | None, ...]) -> bool:
        """Whether it follows from the same pages."""
        return self.kin is kin and all(one is other for one, other in zip(self.pages, pages, strict=True))


@dataclass(frozen=True, eq=False)
class Words:
    """The words for all members of groups and all keys of some maps. `addresses`: sorted, for each word."""

    maps: tuple[str, ...] = ()
    pages: Mapping[int, WordPage] = field(default_factory=dict)
    addresses: Mapping[Word, Sequence[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, members: Mapping[int, KinPage], maps: Mapping[str, Lookup], before: Words | None = None) -> Words:
        """`before`: the words of an earlier state and table."""
        if before is None or before.maps != tuple(maps):
            before = cls(tuple(maps))
        pages, asked = dict(before.pages), [lookup.pages for lookup in maps.values()]
        gone: dict[Word, set[int]] = {}
        come: dict[Word, list[int]] = {}
        for number in members.keys() | before.pages.keys() | {number for known in asked for number in known}:
            place = members.get(number), tuple(known.get(number) for known in asked)
            old = pages.get(number)
            if old is None or not old.is_of(*place):
                new = pages[number] = WordPage.of(*place)
                words = old.words if old is not None else {}
                for address, word in words.items() - new.words.items():
                    gone.setdefault(word, set()).add(address)
                for address, word in new.words.items() - words.items() if words else new.words.items():
                    come.setdefault(word, []).append(address)
        addresses = dict(before.addresses)
        for word in gone.keys() | come.keys():
            out = gone.get(word, set())
            kept = addresses.pop(word, ()) if not out else [a for a in addresses.pop(word) if a not in out]
            if kept or word in come:
                addresses[word] = sorted([*kept, *come.get(word, ())])
        return cls(before.maps, pages, addresses)

    def of(self, address: int) -> Word:
        page = self.pages.get(page_of(address))
        return page.words.get(address, self.nothing) if page is not None else self.nothing

    @property
    def nothing(self) -> Word:
        """The word for all other addresses."""
        return NOBODY, (None,) * len(self.maps)

    def in_blocks(self, word: Word, starts: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """The blocks that have addresses with this word, by number: how many addresses, and the first one."""
        found, begin = self.addresses[word], 0
        while begin < len(found):
            block = bisect_right(starts, found[begin]) - 1
            end = bisect_left(found, starts[block + 1], begin) if block + 1 < len(starts) else len(found)
            yield block, end - begin, found[begin]
            begin = end


def far_classes(words: Words, side: Side, cuts: Iterable[int]) -> list[FarClass]:
    """The classes of all addresses of a family. `words`: for the maps that the table asks for far addresses; `cuts`:
    where its ranges begin, and where they have ended."""
    last = side.family.last
    starts = sorted(start for start in {0, *cuts, *side.cuts()} if start <= last)
    blocks = side.at_blocks(starts)
    kins = side.of_kinships({kin for kin, _ in words.addresses})
    special = [word for word in words.addresses if kins[word[0]] or word[1] != words.nothing[1]]
    found, taken = [], [0] * len(starts)
    for word in special:
        for block, number, address in words.in_blocks(word, starts):
            found.append(FarClass(address, blocks[block] | kins[word[0]], blocks[block]))
            taken[block] += number
    is_special = set(special)
    for block, (start, end) in enumerate(zip(starts, [*starts[1:], last + 1], strict=True)):
        if taken[block] < end - start:
            address = start if words.of(start) not in is_special else _first_gap(words, special, start, end)
            found.append(FarClass(address, blocks[block], blocks[block]))
    return found


def _first_gap(words: Words, special: Iterable[Word], start: int, end: int) -> int:
    """The first address of a block without a special word; there is one."""
    every = (words.addresses[word] for word in special)
    taken = sorted(a for some in every for a in some[bisect_left(some, start) : bisect_left(some, end)])
    return start + bisect_left(range(len(taken)), 1, key=lambda index: taken[index] - index - start)

"""Far addresses that neither the rules nor the table tell apart: one of each, with the claims that hold there.

Owns the classes of a family's addresses. Is given the state's members, claims and the table's maps. Must not know the
order of claims.

An address is known by the block of it that no range cuts, the groups it is a member of, and what each map of single
addresses says of it. The latter two are read page by page, and a page that is the same isn't read again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, repeat

from sgdataplane.model.state import CloudState, GroupRef, Remote
from sgdataplane.net.values import Family
from sgdataplane.proof.claims import Claim, remote_ranges
from sgdataplane.proof.kinships import NOBODY, Kin, Kinships, Page
from sgdataplane.proof.lookups import Lookup, LookupPage, Sign, page_of
from sgdataplane.proof.order import Boxes

Word = tuple[Kin, tuple[Sign | None, ...]]  # the kinship of an address, and what each map says of it


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
        """`before`: of the same claims, and of the same state but for the members of groups."""
        remotes = dict.fromkeys(claim.remote for claim in claims if claim.remote is not None)
        known = {} if before is None else {r: b for r, b in before.blocks.items() if not isinstance(r, GroupRef)}
        asked = (remote for remote in remotes if remote not in known)
        made = {remote: remote_ranges(state, kinships, remote, family) for remote in asked}
        blocks = known | {r: tuple((int(item.first), int(item.last)) for item in found) for r, found in made.items()}
        return before if before is not None and before.blocks == blocks else cls(claims, family, blocks)

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
        """For each block the claims that hold for whoever is in it. `starts` has all cuts."""
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
        """For each kinship the claims that hold for its members, wherever they are."""
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
    """An address, and the claims that hold for it."""

    address: int
    holding: Boxes


@dataclass(frozen=True, eq=False, slots=True)
class WordPage:
    """What is said of the addresses of one page, and what says so."""

    kin: Page | None
    pages: tuple[LookupPage | None, ...]
    words: Mapping[int, Word]

    @classmethod
    def of(cls, kin: Page | None, pages: tuple[LookupPage | None, ...]) -> WordPage:
        of_kin, signs = kin or {}, [page.signs if page is not None else {} for page in pages]
        addresses = [int(address) for address in dict.fromkeys(chain(of_kin, *signs))]
        says = zip(*(map(said.get, addresses) for said in signs), strict=True) if signs else repeat(())
        kins = map(of_kin.get, addresses, repeat(NOBODY))
        return cls(kin, pages, dict(zip(addresses, zip(kins, says, strict=False), strict=True)))

    def is_of(self, kin: Page | None, pages: tuple[LookupPage | None, ...]) -> bool:
        """Whether the same is said by the same."""
        return self.kin is kin and all(one is other for one, other in zip(self.pages, pages, strict=True))


@dataclass(frozen=True, eq=False)
class Words:
    """All members of groups and all keys of some maps by what is said of them. `addresses`: sorted, of each word."""

    maps: tuple[str, ...] = ()
    pages: Mapping[int, WordPage] = field(default_factory=dict)
    addresses: Mapping[Word, Sequence[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, members: Mapping[int, Page], maps: Mapping[str, Lookup], before: Words | None = None) -> Words:
        """`before`: what was said in a state before."""
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
        """What is said of all others."""
        return NOBODY, (None,) * len(self.maps)

    def in_blocks(self, word: Word, starts: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """The blocks that it is said in, by number: how often, and of whom."""
        found, begin = self.addresses[word], 0
        while begin < len(found):
            block = bisect_right(starts, found[begin]) - 1
            end = bisect_left(found, starts[block + 1], begin) if block + 1 < len(starts) else len(found)
            yield block, end - begin, found[begin]
            begin = end


def far_classes(words: Words, side: Side, cuts: Iterable[int]) -> list[FarClass]:
    """Of all addresses of a family. `words`: of the maps that the table asks of far addresses; `cuts`: where its ranges
    begin, and after their ends."""
    last = side.family.last
    starts = sorted(start for start in {0, *cuts, *side.cuts()} if start <= last)
    blocks = side.at_blocks(starts)
    kins = side.of_kinships({kin for kin, _ in words.addresses})
    special = [word for word in words.addresses if kins[word[0]] or word[1] != words.nothing[1]]
    found, taken = [], [0] * len(starts)
    for word in special:
        for block, number, address in words.in_blocks(word, starts):
            found.append(FarClass(address, blocks[block] | kins[word[0]]))
            taken[block] += number
    is_special = set(special)
    for block, (start, end) in enumerate(zip(starts, [*starts[1:], last + 1], strict=True)):
        if taken[block] < end - start:
            address = start if words.of(start) not in is_special else _first_gap(words, special, start, end)
            found.append(FarClass(address, blocks[block]))
    return found


def _first_gap(words: Words, special: Iterable[Word], start: int, end: int) -> int:
    """The first address of a block that nothing special is said of; there is one."""
    every = (words.addresses[word] for word in special)
    taken = sorted(a for some in every for a in some[bisect_left(some, start) : bisect_left(some, end)])
    return start + bisect_left(range(len(taken)), 1, key=lambda index: taken[index] - index - start)

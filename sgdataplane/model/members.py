"""Which addresses are members of which groups: the addresses of ENIs, by family, in pages.

Owns the index, and how it is made from the index of the state before. Is given ENIs. Must not know rules or nftables.

An address is on the page of its rest by PAGES, so its page depends on nothing else. When an ENI joins or leaves, the
pages of its addresses are made anew, and all others stay the same objects: what was derived from such a page is found
again by the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeVar

from sgdataplane.net.values import Family

if TYPE_CHECKING:
    from sgdataplane.model.state import Eni

Record = TypeVar("Record")
PAGES = 251  # a prime spreads neighbours evenly, and also addresses that differ only in their network

GroupSet = tuple[str, ...]  # a set of groups: the ids of all that an address is a member of, sorted


@dataclass(frozen=True, eq=False)
class MemberPage:
    """The members whose addresses are equal modulo PAGES. Pages are compared by identity."""

    owners: Mapping[int, tuple[Eni, ...]]
    """The ENIs that have an address, by the address as an integer."""

    @cached_property
    def group_set(self) -> dict[int, GroupSet]:
        """The groups that each address is a member of, by the address."""
        return {address: _group_set_of(owners) for address, owners in self.owners.items()}

    @cached_property
    def group_sets(self) -> frozenset[GroupSet]:
        """Every set of groups that some address of the page has."""
        return frozenset(self.group_set.values())

    @cached_property
    def addresses(self) -> tuple[int, ...]:
        """The addresses of the page, sorted."""
        return tuple(sorted(self.owners))


Pages = Mapping[int, MemberPage]


class Members:
    """The members of all groups of a state.

    Internet interfaces aren't members, because their address isn't private.
    """

    def __init__(self, enis: tuple[Eni, ...]) -> None:
        self._enis = enis
        self._index: _Index | None = None

    def follow(self, before: Members) -> None:
        """Make the index from that of a similar state, unless it is made already.

        The result is the same either way; this way it costs as much as what differs.
        """
        if self._index is not None or before._index is None:
            return
        if before._enis is self._enis:
            self._index = before._index
            return
        gone, come = difference(before._enis, self._enis)
        if len(gone) + len(come) < len(self._enis) // 2:
            self._index = before._index.after(gone, come)

    def pages(self, family: Family) -> Pages:
        """Return the pages of a family by number (address modulo PAGES); a page without members is absent."""
        return self._made.pages[family]

    def group_sets(self, family: Family) -> frozenset[GroupSet]:
        """Return every set of groups that some address of the family has."""
        return self._made.group_sets[family]

    def list_delegated(self, group_id: str, family: Family) -> tuple[tuple[int, int], ...]:
        """Return the prefixes delegated to a group's ENIs, as first and last address."""
        found = (p for eni in self._made.carriers if group_id in eni.security_group_ids for p in eni.delegated_prefixes)
        return tuple((prefix.first, prefix.last) for prefix in found if prefix.family is family)

    @property
    def _made(self) -> _Index:
        if self._index is None:
            empty = _Index({family: {} for family in Family}, ())
            self._index = empty.after((), self._enis)
        return self._index


@dataclass(frozen=True, eq=False)
class _Index:
    """The pages of both families, and what is counted over them."""

    pages: Mapping[Family, Pages]
    carriers: tuple[Eni, ...]
    """The members with delegated prefixes."""

    @cached_property
    def counts(self) -> dict[Family, Counter[GroupSet]]:
        """The number of pages that each set of groups is on."""
        return {
            f: Counter(group_set for page in pages.values() for group_set in page.group_sets)
            for f, pages in self.pages.items()
        }

    @cached_property
    def group_sets(self) -> dict[Family, frozenset[GroupSet]]:
        """Every set of groups that some address has."""
        return {family: frozenset(counts) for family, counts in self.counts.items()}

    def after(self, gone: Iterable[Eni], come: Iterable[Eni]) -> _Index:
        """Return the index after some ENIs have gone and others have come.

        If the counts of this one are known, those of the new one are derived from them.
        """
        gone, come = ([eni for eni in some if eni.is_member] for some in (gone, come))
        carriers = list(self.carriers)
        for eni in gone:
            if eni.delegated_prefixes:
                carriers.remove(eni)
        carriers += [eni for eni in come if eni.delegated_prefixes]
        pages = {family: _change_pages(self.pages[family], family, gone, come) for family in Family}
        made = _Index(pages, tuple(carriers))
        if "counts" in self.__dict__:
            made.__dict__["counts"] = {family: self._recount(pages[family], family) for family in Family}
        return made

    def _recount(self, pages: Pages, family: Family) -> Counter[GroupSet]:
        """Return the counts of these pages, most of which are the same objects as here."""
        before, found = self.pages[family], Counter(self.counts[family])
        for number in before.keys() | pages.keys():
            old, new = before.get(number), pages.get(number)
            if old is not new:
                found.subtract(old.group_sets if old is not None else ())
                found.update(new.group_sets if new is not None else ())
        return +found


def _change_pages(pages: Pages, family: Family, gone: Iterable[Eni], come: Iterable[Eni]) -> Pages:
    """Return the pages after some ENIs have gone and others have come; unchanged pages stay the same objects."""
    owners: dict[int, dict[int, tuple[Eni, ...]]] = {}  # by page, for the pages that change
    for some, is_gone in ((gone, True), (come, False)):
        for eni in some:
            for address in eni.private_ip_addresses if family is Family.IPV4 else eni.ipv6_addresses:
                number = address.value % PAGES
                if number not in owners:
                    owners[number] = dict(pages[number].owners) if number in pages else {}
                page, value = owners[number], address.value
                page[value] = _less(page[value], eni) if is_gone else (*page.get(value, ()), eni)
                if not page[value]:
                    del page[value]
    made = {number: MemberPage(page) for number, page in owners.items() if page}
    return {**{number: page for number, page in pages.items() if number not in owners}, **made}


def _less(owners: tuple[Eni, ...], eni: Eni) -> tuple[Eni, ...]:
    place = owners.index(eni)
    return (*owners[:place], *owners[place + 1 :])


def _group_set_of(owners: tuple[Eni, ...]) -> GroupSet:
    if len(owners) == 1:
        return _sort_ids(owners[0].security_group_ids)
    return _sort_ids(tuple(group_id for eni in owners for group_id in eni.security_group_ids))


@lru_cache(maxsize=1 << 16)
def _sort_ids(group_ids: tuple[str, ...]) -> GroupSet:
    """Return the ids sorted and without repetition, as one object for equal ids."""
    return tuple(sorted(set(group_ids)))


def difference(before: tuple[Record, ...], after: tuple[Record, ...]) -> tuple[list[Record], list[Record]]:
    """Return the records that are only in the first tuple, and those that are only in the second.

    Where equal records are the same objects (state.py: sharing), this costs next to nothing, as comparing an object
    with itself does.
    """
    most = min(len(before), len(after))
    start = _alike(before, after, most)
    end = _alike_at_end(before, after, most - start)
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    kept = {id(record) for record in old} & {id(record) for record in new}
    return [record for record in old if id(record) not in kept], [record for record in new if id(record) not in kept]


STRIDES = (1024, 32, 1)  # how many records are compared at once, while they are equal


def _alike(one: tuple[Record, ...], other: tuple[Record, ...], most: int) -> int:
    """Count the records at the beginning that are equal in both, up to `most`."""
    at = 0
    for stride in STRIDES:
        while at + stride <= most and one[at : at + stride] == other[at : at + stride]:
            at += stride
    return at


def _alike_at_end(one: tuple[Record, ...], other: tuple[Record, ...], most: int) -> int:
    """Count the records at the end that are equal in both, up to `most`."""
    at, last, last_other = 0, len(one), len(other)
    for stride in STRIDES:
        while at + stride <= most and (
            one[last - at - stride : last - at] == other[last_other - at - stride : last_other - at]
        ):
            at += stride
    return at

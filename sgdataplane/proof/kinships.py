"""Who is a member of which groups, as the proof sees it: from the ENIs of a state, or what differs from one before.

Owns this index, which shares nothing with the compiler's. Is given states. Must not know tables.

Kinships stand in pages, an address on the page of its rest, so that who has derived something from a page needn't do so
again while the page is the same object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import compress, count
from operator import is_not

from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.values import Address, Family, Prefix
from sgdataplane.proof.lookups import page_of

Kin = tuple[str, ...]  # the groups of an address, sorted; of no member: none
NOBODY: Kin = ()
Page = Mapping[int, Kin]  # address -> its kinship
Owners = Mapping[Address, tuple[Kin, ...]]


@dataclass(frozen=True, eq=False)
class Kinships:
    """A member's addresses are those of its private interfaces (`semantics.is_member`); an address that several have is
    in the groups of all of them. `shared`: what each of these owners is in. `carriers`: members with delegated
    prefixes.

    `turned`: the groups whose members are others than in the state before.
    """

    enis: tuple[Eni, ...] = ()
    pages: Mapping[Family, Mapping[int, Page]] = field(default_factory=lambda: {family: {} for family in Family})
    shared: Owners = field(default_factory=dict)
    carriers: tuple[Eni, ...] = ()
    turned: frozenset[str] = frozenset()

    @classmethod
    def read(cls, state: CloudState, before: Kinships | None = None) -> Kinships:
        """Of a state; `before`: of one that it follows."""
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
        """The groups that an address is in."""
        return self.pages[address.family].get(page_of(address.value), {}).get(address.value, NOBODY)

    def delegated(self, group_id: str, family: Family) -> list[Prefix]:
        """The prefixes that are delegated to a group's members."""
        found = (p for eni in self.carriers if group_id in eni.security_group_ids for p in eni.delegated_prefixes)
        return [prefix for prefix in found if prefix.family is family]


class _Change:
    """Kinships as ENIs leave and join."""

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

    def pages(self) -> dict[Family, dict[int, Page]]:
        """All of them; those that nothing happened to are the same objects."""
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
    """The same object for the same ids."""
    return tuple(sorted(set(group_ids)))


def _difference(before: Sequence[Eni], after: Sequence[Eni]) -> tuple[list[Eni], list[Eni]]:
    """Who is among the first only, and who among the second only. Records are told apart by identity: states share
    those that stay, and one that is equal to another may leave and join."""
    start = _alike(before, after)
    end = min(_alike(before[::-1], after[::-1]), min(len(before), len(after)) - start)
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    kept = set(map(id, old)) & set(map(id, new))
    return [eni for eni in old if id(eni) not in kept], [eni for eni in new if id(eni) not in kept]


def _alike(one: Sequence[Eni], other: Sequence[Eni]) -> int:
    """How many at the beginning are the same."""
    return next(compress(count(), map(is_not, one, other)), min(len(one), len(other)))

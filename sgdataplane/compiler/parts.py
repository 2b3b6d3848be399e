"""Parts of a table, each with a hash: equal parts are taken over from one compile to the next as objects.

Owns the hash, and when the part that profiles make can be taken over. Must not know how any part is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from sgdataplane.contract import names
from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import TABLE
from sgdataplane.model.members import Members
from sgdataplane.model.state import Remote
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft import pages
from sgdataplane.nft.ir import Chain, Counter, Map, Table, Timeout
from sgdataplane.nft.text import render_table
from sgdataplane.policy.resolve import HostPolicy, Profile, RemoteAddresses

Named = TypeVar("Named", Chain, Map, Counter, Timeout)


@dataclass(frozen=True)
class Part:
    """Some of a table's objects, sorted by name."""

    chains: tuple[Chain, ...]
    maps: tuple[Map, ...]
    counters: tuple[Counter, ...]
    timeouts: tuple[Timeout, ...]

    @classmethod
    def of(
        cls,
        chains: Iterable[Chain],
        maps: Iterable[Map],
        counters: Iterable[Counter] = (),
        timeouts: Iterable[Timeout] = (),
    ) -> Part:
        return cls(by_name(chains), by_name(maps), by_name(counters), by_name(timeouts))

    @cached_property
    def digest(self) -> str:
        """A hash of 128 bits over all of it. A chain that is named after its content counts by its name alone. The
        elements of maps, which can be very many, aren't made into nft text for it."""
        bare = tuple(replace(entry, elements=()) for entry in self.maps)
        spelled = tuple(chain for chain in self.chains if not chain.texts)
        text = render_table(Table(TABLE, spelled, bare, self.counters, self.timeouts))
        named = "\n".join(chain.name for chain in self.chains if chain.texts)
        return names.digest("\n".join([text, named, *map(_elements, self.maps)]), 32)


def by_name(items: Iterable[Named]) -> tuple[Named, ...]:
    return tuple(sorted(items, key=lambda item: item.name))


def _elements(entry: Map) -> str:
    """A text that only equal elements share. Most values of a large map are one object."""
    if isinstance(entry.elements, pages.Paged):
        return f"{entry.name} {entry.elements.digest}"
    values = {id(value): value for _, value in entry.elements}
    texts = {known: repr(value) for known, value in values.items()}
    return f"{entry.name} " + ",".join([f"{key!r}:{texts[id(value)]}" for key, value in entry.elements])


@dataclass(frozen=True)
class Rules:
    """The part that profiles make, what it was made from, and the roots of each profile."""

    site: Site
    profiles: tuple[Profile, ...]
    remotes: Mapping[Remote, Mapping[Family, RemoteAddresses]]
    members: Members
    roots: Sequence[dict[Direction, str]]
    part: Part

    def is_for(self, policy: HostPolicy, site: Site) -> bool:
        """Whether this policy's part is the same."""
        is_same = self.site is site and self.members is policy.members
        return is_same and self.remotes == policy.remotes and self.profiles == policy.profiles

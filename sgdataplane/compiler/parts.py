"""Divide a table into parts, each with a hash: equal parts are taken over from one compile to the next as objects.

Owns the hash, and when the part that profiles make can be taken over. It must not know how any part is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter, is_
from typing import TypeVar

from sgdataplane.contract import names
from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import TABLE
from sgdataplane.model.members import Members
from sgdataplane.model.state import Remote
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft import pages
from sgdataplane.nft.changes import changes
from sgdataplane.nft.ir import Chain, Counter, Map, Table, Timeout
from sgdataplane.nft.text import render_table
from sgdataplane.policy.resolve import HostPolicy, Profile, RemoteAddresses

NAME = attrgetter("name")
Named = TypeVar("Named", Chain, Map, Counter, Timeout)


@dataclass(frozen=True)
class Part:
    """Some of a table's objects, sorted by name."""

    chains: tuple[Chain, ...]
    maps: tuple[Map, ...]
    counters: tuple[Counter, ...]
    timeouts: tuple[Timeout, ...] = ()
    sources: tuple[str, ...] = ()
    """Hashes of all that it follows from, if these are known."""

    @classmethod
    def of(
        cls,
        chains: Iterable[Chain],
        maps: Iterable[Map],
        counters: Iterable[Counter] = (),
        timeouts: Iterable[Timeout] = (),
    ) -> Part:
        """Make a part of these objects, in any order."""
        return cls(by_name(chains), by_name(maps), by_name(counters), by_name(timeouts))

    @cached_property
    def digest(self) -> str:
        """A hash of 128 bits over all of it.

        A chain that is named after its content counts by its name alone. The elements of maps, which can be very many,
        aren't made into nft text for it.
        """
        if self.sources:
            return names.digest(" ".join(self.sources), 32)
        bare = tuple(replace(entry, elements=()) for entry in self.maps)
        spelled = tuple(chain for chain in self.chains if not chain.texts)
        text = render_table(Table(TABLE, spelled, bare, self.counters, self.timeouts))
        named = "\n".join(chain.name for chain in self.chains if chain.texts)
        return names.digest("\n".join([text, named, *map(_elements, self.maps)]), 32)


@dataclass(frozen=True, eq=False)
class Joined:
    """All parts of a table in one, except chains that name the epoch, and the stamp."""

    parts: tuple[Part, ...]
    table: Table

    @classmethod
    def of(cls, parts: tuple[Part, ...], previous: Joined | None) -> Joined:
        """Join parts. If all of a kind are the same objects as in `previous`, so is the table's tuple of them."""
        held = previous or NOTHING
        return cls(
            parts,
            Table(
                TABLE,
                _together([p.chains for p in parts], [p.chains for p in held.parts], held.table.chains),
                _together([p.maps for p in parts], [p.maps for p in held.parts], held.table.maps),
                _together([p.counters for p in parts], [p.counters for p in held.parts], held.table.counters),
                _together([p.timeouts for p in parts], [p.timeouts for p in held.parts], held.table.timeouts),
            ),
        )


NOTHING = Joined((), Table(TABLE))


def _together(
    some: Sequence[tuple[Named, ...]], previous: Sequence[tuple[Named, ...]], held: tuple[Named, ...]
) -> tuple[Named, ...]:
    """Return all objects of a kind, sorted.

    `held` is what came of the parts before. Where most parts are the same, it is edited.
    """
    if are_same(some, previous):
        return held
    if len(some) != len(previous):
        return by_name(entry for part in some for entry in part)
    changed = [changes(old, new) for old, new in zip(previous, some, strict=True) if old is not new]
    gone = {name for found in changed for name in found.gone}
    kept = [entry for entry in held if entry.name not in gone]
    for found in changed:
        kept += found.come.values()
    return by_name(kept)


def are_same(some: Sequence[object], others: Sequence[object]) -> bool:
    """Return whether both have the same objects."""
    return len(some) == len(others) and all(map(is_, some, others))


def by_name(items: Iterable[Named]) -> tuple[Named, ...]:
    """Return these sorted by name."""
    return tuple(sorted(items, key=NAME))


def _elements(entry: Map) -> str:
    """Return a text that only equal elements share."""
    return f"{entry.name} {pages.digest(entry.elements)}"


@dataclass(frozen=True)
class Rules:
    """The part that profiles make, and what it was made from."""

    site: Site
    profiles: tuple[Profile, ...]
    remotes: Mapping[Remote, Mapping[Family, RemoteAddresses]]
    members: Members
    numbers: Sequence[dict[Direction, int]]
    """The numbers of each profile's sides."""
    sides: Sequence[object]
    """The compiled sides."""
    fixed: Part
    """The part without the maps of members."""
    part: Part
    """The whole part."""

    def is_for(self, policy: HostPolicy, site: Site) -> bool:
        """Return whether this policy's part is the same."""
        is_same = self.site is site and self.members is policy.members
        return is_same and self.remotes == policy.remotes and self.profiles == policy.profiles

"""Check what any table must be for the kernel to accept it, before packets are followed through it.

Owns base chains, where chains lead, and which chains have changed since an earlier table. It is given tables. It must
not know what chains are for.

Only chains whose rules differ from the earlier table's, and chains that lead to such ones, are looked into. All others
are equal, and mostly the same objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache

from sgdataplane.contract.fields import PAIRED, Field, Hook, KeyType
from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import DELIVERED, SENT
from sgdataplane.net.values import Direction
from sgdataplane.nft.changes import ById, changes
from sgdataplane.nft.ir import (
    Chain,
    Count,
    Key,
    Map,
    Match,
    OfMap,
    Range,
    Statement,
    Table,
    Verdict,
    VerdictMap,
)
from sgdataplane.nft.order import targets_first
from sgdataplane.proof.walk.lookups import Lookup

MAX_DEPTH = 16  # NFT_JUMP_STACK_SIZE: so many chains may follow one another, gotos counted (nft_chain_validate)
INTERFACES = (Field.IIFNAME, Field.OIFNAME)
NONE: frozenset[str] = frozenset()


class StructureError(Exception):
    """The kernel would refuse the table; str() says why."""


@dataclass(frozen=True, slots=True)
class Mentions:
    """The chains, named maps and sets, counters and interfaces that a chain's rules name."""

    chains: frozenset[str]
    maps: frozenset[str]
    counters: frozenset[str]
    interfaces: frozenset[str]

    @classmethod
    def of(cls, chain: Chain) -> Mentions:
        """Read the rules of a chain."""
        statements = [statement for rule in chain.rules for statement in rule.statements]
        return cls(
            _set(_targets(statements)),
            _set(entry.name for entry in statements if isinstance(entry, OfMap) and entry.name),
            _set(entry.counter for entry in statements if isinstance(entry, Count)),
            _set(_interfaces(statements)),
        )


@lru_cache(maxsize=1 << 12)
def _mentions_of(chain: ById[Chain]) -> Mentions:
    """Read the rules of a chain, once for each object: ENIs with the same groups share most of their chains."""
    return Mentions.of(chain.value)


@dataclass(frozen=True)
class Structure:
    """A table's chains and maps, and what has changed in them since the earlier table.

    What is deleted has changed, too. Without an earlier table, all chains are changed.
    """

    table: Table
    facts: Mapping[str, Mentions]
    """What each chain names."""
    lookups: Mapping[str, Lookup]
    """Each map as the proof reads it, except maps from group sets to ranks."""
    targets: Mapping[str, frozenset[str]]
    """Where each chain can lead, by its rules or by maps."""
    depth: Mapping[str, int]
    """How many chains a packet can go through from each chain on. A chain comes after all that it leads to."""
    changed: AbstractSet[str]
    """The chains with other rules, or with a counter that is gone."""
    changed_maps: AbstractSet[str]
    """The maps that changed, except those that hold numbers."""
    touched_maps: AbstractSet[str]
    """All maps that changed."""
    dirty: AbstractSet[str]
    """The chains that changed, ask a changed map, or lead to a dirty chain.

    All other chains are the same, with all that they lead to, as long as `touched_maps` have none of their maps.
    """
    interfaces: AbstractSet[str]
    """All interfaces that the table names. It stays the same object while nothing changes that names any."""
    gone: Mapping[str, Chain] = field(default_factory=dict)
    """The earlier version of chains that have changed."""

    @classmethod
    def empty(cls, name: str) -> Structure:
        """Return the structure of an empty table."""
        return cls(Table(name), {}, {}, {}, {}, NONE, NONE, NONE, NONE, NONE)

    @classmethod
    def read(cls, table: Table, site: Site, previous: Structure | None = None) -> Structure:
        """Read a table, as far as it differs from the earlier one.

        Raises:
            StructureError: The kernel would refuse the table, or its base chains are at other hooks.
        """
        _check_hooks(table, site)
        previous = previous or cls.empty(table.name)
        maps, chains = changes(previous.table.maps, table.maps), changes(previous.table.chains, table.chains)
        lookups = dict(previous.lookups)
        for name in maps.names:
            old = lookups.pop(name, None)
            if name in maps.come and not _is_of_ranks(maps.come[name]):
                lookups[name] = Lookup.of(maps.come[name], old)
        changed_maps = maps.names - (_of_numbers(maps.gone, maps.names) & _of_numbers(maps.come, maps.names))
        changed: set[str] = chains.names
        counters = changes(previous.table.counters, table.counters)
        gone = counters.gone.keys() - counters.come.keys()
        if not changed and not changed_maps and not gone:
            same = previous.facts, lookups, previous.targets, previous.depth
            return cls(table, *same, NONE, NONE, maps.names, NONE, previous.interfaces)
        _check_counters(table)
        if gone:
            changed |= {name for name, facts in previous.facts.items() if not facts.counters.isdisjoint(gone)}
        facts = dict(previous.facts)
        for name in changed:
            facts.pop(name, None)
            if name in table.chain:
                facts[name] = _mentions_of(ById(table.chain[name]))
        targets = _targets_of(facts, lookups, previous, changed, changed_maps)
        dirty = changed.union(previous.asking(changed_maps))
        for name in previous.depth:
            if name not in dirty and not targets.get(name, NONE).isdisjoint(dirty):
                dirty.add(name)
        depth = _depths(targets, {name: deep for name, deep in previous.depth.items() if name not in dirty})
        is_named = any(f[name].interfaces for f in (previous.facts, facts) for name in changed if name in f)
        is_named |= any(_has_interfaces(e) for some in (maps.gone, maps.come) for e in some.values())
        interfaces = _interfaces_of(facts, table) if is_named else previous.interfaces
        return cls(
            table, facts, lookups, targets, depth, changed, changed_maps, maps.names, dirty, interfaces, chains.gone
        )

    def asking(self, maps: AbstractSet[str]) -> Iterator[str]:
        """Yield the chains that ask any of these maps."""
        facts = self.facts.items() if maps else ()
        return (name for name, of_chain in facts if of_chain.maps and not of_chain.maps.isdisjoint(maps))


def _has_interfaces(entry: Map) -> bool:
    return entry.key_type is KeyType.IFNAME or entry.key_type in PAIRED


def _interfaces_of(facts: Mapping[str, Mentions], table: Table) -> set[str]:
    """Return all interfaces that a table's rules and maps name."""
    found: set[str] = set().union(*(of_chain.interfaces for of_chain in facts.values() if of_chain.interfaces))
    for entry in table.maps:
        if entry.key_type is KeyType.IFNAME:
            found.update(str(key) for key, _ in entry.elements)
        elif entry.key_type in PAIRED:
            found.update(key[1] for key, _ in entry.elements if isinstance(key, tuple))
    return found


@dataclass(frozen=True, slots=True)
class Paired:
    """What a set of pairs has beside the name of an interface, sorted."""

    values: tuple[Range, ...]


def map_value(structure: Structure, name: str, key: Key) -> object:
    """Return the value of a key in a map, with the lifetime of the map's elements.

    Return what is Paired with the key, if it is a set; None if there is no such map.
    """
    entry = structure.table.map.get(name)
    if entry is None:
        return None
    if entry.holds is KeyType.NOTHING:
        return Paired(structure.lookups[name].at(str(key)))
    return structure.lookups[name].get(key), entry.lifetime


def _check_hooks(table: Table, site: Site) -> None:
    """Check that base chains stand where the site has them, and nowhere else.

    Raises:
        StructureError: They don't.
    """
    wanted = {side.value: site.hooks[side] for side in Direction}
    found = _hooks(ById(table.chains))
    if site.delivery is not None and DELIVERED in found:
        wanted[DELIVERED] = site.delivery
    if site.origin is not None:
        wanted[SENT] = site.origin
    if found != wanted:
        raise StructureError(f"base chains stand at {found}, not at {wanted}")


@lru_cache(maxsize=4)
def _hooks(chains: ById[tuple[Chain, ...]]) -> dict[str, Hook]:
    return {chain.name: chain.hook for chain in chains.value if chain.hook is not None}


def _check_counters(table: Table) -> None:
    """Check that all counters exist that maps hold.

    Raises:
        StructureError: One doesn't.
    """
    for entry in (entry for entry in table.maps if entry.holds is KeyType.COUNTER):
        missing = sorted({held.counter for _, held in entry.elements if isinstance(held, Count)} - table.counter.keys())
        if missing:
            raise StructureError(f"map {entry.name}: there is no counter {missing[0]}")


def _of_numbers(maps: Mapping[str, Map], names: Iterable[str]) -> set[str]:
    """Return those maps that hold priorities or marks, or don't exist: no chain leads elsewhere by them."""
    return {name for name in names if name not in maps or maps[name].holds in (KeyType.CLASSID, KeyType.MARK)}


def _is_of_ranks(entry: Map) -> bool:
    """Return whether a map is from group sets to ranks. There are many; they are read where they are asked for."""
    return entry.holds is KeyType.CLASSID is entry.key_type


def _targets_of(
    facts: Mapping[str, Mentions],
    lookups: Mapping[str, Lookup],
    previous: Structure,
    changed: Iterable[str],
    changed_maps: AbstractSet[str],
) -> dict[str, frozenset[str]]:
    """Return where each chain leads. A map that doesn't exist leads nowhere."""
    found = dict(previous.targets)
    asked = facts.items() if changed_maps else ()
    asking = [name for name, of_chain in asked if of_chain.maps and not of_chain.maps.isdisjoint(changed_maps)]
    for name in (*changed, *asking):
        found.pop(name, None)
        if name in facts:
            ways = (lookups[entry].targets for entry in facts[name].maps if entry in lookups)
            found[name] = facts[name].chains.union(*ways)
    return found


def _maps(facts: Mapping[str, Mentions], name: str) -> frozenset[str]:
    return facts[name].maps if name in facts else NONE


def _depths(targets: Mapping[str, frozenset[str]], known: dict[str, int]) -> dict[str, int]:
    """Return the depths of all chains. `known` has those of chains that are the same, with all that they lead to.

    Raises:
        StructureError: A chain is missing, chains lead in a cycle, or too many follow one another.
    """
    new = {name: targets[name] for name in targets.keys() - known.keys()}
    missing = sorted({name for names in new.values() for name in names} - targets.keys())
    if missing:
        raise StructureError(f"there is no chain {missing[0]}")
    order = targets_first({name: names & new.keys() for name, names in new.items()})
    if len(order) < len(new):
        raise StructureError(f"chains lead in a cycle at {min(new.keys() - set(order))}")
    found = known
    for name in order:
        found[name] = 1 + max((found[other] for other in targets[name]), default=0)
    deepest = max(found.values(), default=0)
    if deepest > MAX_DEPTH:
        raise StructureError(f"{deepest} chains follow one another, the kernel takes {MAX_DEPTH}")
    return found


def _set(names: Iterable[str]) -> frozenset[str]:
    """Return a frozen set. All empty ones are one object."""
    return frozenset(names) or NONE


def _targets(statements: Sequence[Statement]) -> Iterator[str]:
    for statement in statements:
        if isinstance(statement, Verdict) and statement.chain:
            yield statement.chain
        elif isinstance(statement, VerdictMap):
            yield from (verdict.chain for _, verdict in statement.entries if verdict.chain)


def _interfaces(statements: Sequence[Statement]) -> Iterator[str]:
    for statement in statements:
        if isinstance(statement, Match) and statement.field in INTERFACES:
            yield from (str(item.first) for item in statement.ranges)

"""What any table must be, since the kernel would refuse it otherwise: before packets are followed through it.

Owns base chains, where chains lead, and which chains have changed since an earlier table. Is given tables. Must not
know what chains are for.

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
from sgdataplane.proof.lookups import Lookup

MAX_DEPTH = 16  # NFT_JUMP_STACK_SIZE: chains one after the other, gotos counted (nft_chain_validate)
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
        statements = [statement for rule in chain.rules for statement in rule.statements]
        return cls(
            _set(_targets(statements)),
            _set(entry.name for entry in statements if isinstance(entry, OfMap) and entry.name),
            _set(entry.counter for entry in statements if isinstance(entry, Count)),
            _set(_interfaces(statements)),
        )


@lru_cache(maxsize=1 << 12)
def _mentions_of(chain: ById[Chain]) -> Mentions:
    """Tables of ENIs with the same groups have mostly the same chains."""
    return Mentions.of(chain.value)


@dataclass(frozen=True)
class Structure:
    """`facts`, `lookups`: for all chains and maps. `targets`: where each chain can lead, by its rules or by maps.
    `depth`: how many chains a packet can go through from there on; each chain comes after all that it leads to.

    Compared with the earlier table, deleted ones included: `changed` are chains with other rules, or with a counter
    that is gone; `changed_maps`, but for those that hold numbers, and `touched_maps` with these; `turned` are chains
    that are changed, ask a changed map, or lead to a turned one. All other chains are the same, with all that they lead
    to, as long as these maps are. Without an earlier table, all chains are changed.

    `gone`: the earlier version of chains that have changed. `interfaces`: all that the table names; the same object as
    long as nothing changed that names any."""

    table: Table
    facts: Mapping[str, Mentions]
    lookups: Mapping[str, Lookup]
    targets: Mapping[str, frozenset[str]]
    depth: Mapping[str, int]
    changed: AbstractSet[str]
    changed_maps: AbstractSet[str]
    touched_maps: AbstractSet[str]
    turned: AbstractSet[str]
    interfaces: AbstractSet[str]
    gone: Mapping[str, Chain] = field(default_factory=dict)

    @classmethod
    def empty(cls, name: str) -> Structure:
        """The structure of an empty table."""
        return cls(Table(name), {}, {}, {}, {}, NONE, NONE, NONE, NONE, NONE)

    @classmethod
    def read(cls, table: Table, site: Site, before: Structure | None = None) -> Structure:
        """StructureError if the kernel would refuse the table, or if it stands at other hooks."""
        _check_hooks(table, site)
        before = before or cls.empty(table.name)
        maps, chains = changes(before.table.maps, table.maps), changes(before.table.chains, table.chains)
        lookups = dict(before.lookups)
        for name in maps.names:
            old = lookups.pop(name, None)
            if name in maps.come and not _is_of_ranks(maps.come[name]):
                lookups[name] = Lookup.of(maps.come[name], old)
        changed_maps = maps.names - (_of_numbers(maps.gone, maps.names) & _of_numbers(maps.come, maps.names))
        changed: set[str] = chains.names
        counters = changes(before.table.counters, table.counters)
        gone = counters.gone.keys() - counters.come.keys()
        if not changed and not changed_maps and not gone:
            same = before.facts, lookups, before.targets, before.depth
            return cls(table, *same, NONE, NONE, maps.names, NONE, before.interfaces)
        _check_counters(table)
        if gone:
            changed |= {name for name, facts in before.facts.items() if not facts.counters.isdisjoint(gone)}
        facts = dict(before.facts)
        for name in changed:
            facts.pop(name, None)
            if name in table.chain:
                facts[name] = _mentions_of(ById(table.chain[name]))
        targets = _targets_of(facts, lookups, before, changed, changed_maps)
        turned = changed.union(before.asking(changed_maps))
        for name in before.depth:
            if name not in turned and not targets.get(name, NONE).isdisjoint(turned):
                turned.add(name)
        depth = _depths(targets, {name: deep for name, deep in before.depth.items() if name not in turned})
        is_named = any(f[name].interfaces for f in (before.facts, facts) for name in changed if name in f)
        is_named |= any(_has_interfaces(e) for some in (maps.gone, maps.come) for e in some.values())
        interfaces = _interfaces_of(facts, table) if is_named else before.interfaces
        return cls(
            table, facts, lookups, targets, depth, changed, changed_maps, maps.names, turned, interfaces, chains.gone
        )

    def asking(self, maps: AbstractSet[str]) -> Iterator[str]:
        """The chains that ask any of these maps."""
        facts = self.facts.items() if maps else ()
        return (name for name, of_chain in facts if of_chain.maps and not of_chain.maps.isdisjoint(maps))


def _has_interfaces(entry: Map) -> bool:
    return entry.key_type is KeyType.IFNAME or entry.key_type in PAIRED


def _interfaces_of(facts: Mapping[str, Mentions], table: Table) -> set[str]:
    found: set[str] = set().union(*(of_chain.interfaces for of_chain in facts.values() if of_chain.interfaces))
    for entry in table.maps:
        if entry.key_type is KeyType.IFNAME:
            found.update(str(key) for key, _ in entry.elements)
        elif entry.key_type in PAIRED:
            found.update(key[1] for key, _ in entry.elements if isinstance(key, tuple))
    return found


@dataclass(frozen=True, slots=True)
class Paired:
    """What a set has beside the name of an interface, sorted."""

    values: tuple[Range, ...]


def said(structure: Structure, name: str, key: Key) -> object:
    """The value of a key in a map, and the lifetime of the map's elements. Of a set: what is Paired with that name."""
    entry = structure.table.map.get(name)
    if entry is None:
        return None
    if entry.holds is KeyType.NOTHING:
        return Paired(structure.lookups[name].at(str(key)))
    return structure.lookups[name].get(key), entry.lifetime


def _check_hooks(table: Table, site: Site) -> None:
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
    for entry in (entry for entry in table.maps if entry.holds is KeyType.COUNTER):
        missing = sorted({held.counter for _, held in entry.elements if isinstance(held, Count)} - table.counter.keys())
        if missing:
            raise StructureError(f"map {entry.name}: there is no counter {missing[0]}")


def _of_numbers(maps: Mapping[str, Map], names: Iterable[str]) -> set[str]:
    """Those that hold priorities or marks, or don't exist: no chain leads elsewhere by them."""
    return {name for name in names if name not in maps or maps[name].holds in (KeyType.CLASSID, KeyType.MARK)}


def _is_of_ranks(entry: Map) -> bool:
    """Whether it is from kins to ranks. Many are, and what they hold is read where it is asked for."""
    return entry.holds is KeyType.CLASSID is entry.key_type


def _targets_of(
    facts: Mapping[str, Mentions],
    lookups: Mapping[str, Lookup],
    before: Structure,
    changed: Iterable[str],
    changed_maps: AbstractSet[str],
) -> dict[str, frozenset[str]]:
    """Where each chain leads. A map that doesn't exist leads nowhere."""
    found = dict(before.targets)
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
    """The depths of all chains. `known`: those of chains that are the same, with all that they lead to."""
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
    """A frozen set; all empty ones are one object."""
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

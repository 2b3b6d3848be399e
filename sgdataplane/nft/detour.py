"""Make the intermediate tables of an update that one switch can't make.

Owns the two kinds: a detour, which asks other maps, and a copy under other names. It is pure. It must not know clouds,
or the order of changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from sgdataplane.contract.fields import Field, KeyType, Nfproto
from sgdataplane.nft import pages
from sgdataplane.nft.inflight import ADDRESSES, edit, is_kept, is_moved
from sgdataplane.nft.ir import (
    Chain,
    Counter,
    InSet,
    Map,
    MapCount,
    MapPriority,
    Match,
    OfMap,
    Range,
    Rule,
    SetPriority,
    Statement,
    Table,
    Timeout,
    Verdict,
    VerdictMap,
)


def copy_table(table: Table, suffix: str) -> Table:
    """Return the same table with other names for all chains but base chains, and for all maps but the kept ones.

    References have these names, too. So a switch to it changes the base chains alone.
    """
    names = {chain.name: chain.name + suffix for chain in table.chains if chain.hook is None}
    names |= {entry.name: entry.name + suffix for entry in table.maps if not is_kept(entry)}
    return replace(
        table,
        chains=tuple(_rename_chain(chain, names) for chain in table.chains),
        maps=tuple(_rename_map(entry, names) for entry in table.maps),
    )


def _rename_chain(chain: Chain, names: Mapping[str, str]) -> Chain:
    rules = tuple(
        Rule(tuple(_rename_targets(entry, names) for entry in rule.statements), rule.comment) for rule in chain.rules
    )
    return replace(chain, name=names.get(chain.name, chain.name), rules=rules)


def _rename_map(entry: Map, names: Mapping[str, str]) -> Map:
    elements = tuple(
        (key, _target(value, names) if isinstance(value, Verdict) else value) for key, value in entry.elements
    )
    return replace(entry, name=names.get(entry.name, entry.name), elements=elements)


def _rename_targets(statement: Statement, names: Mapping[str, str]) -> Statement:
    """Return a statement that refers to the new names."""
    match statement:
        case Verdict():
            return _target(statement, names)
        case VerdictMap(asked, entries, name):
            renamed = tuple((item, _target(verdict, names)) for item, verdict in entries)
            return VerdictMap(asked, renamed, names.get(name, name))
        case MapPriority() | MapCount() | InSet():
            return replace(statement, name=names.get(statement.name, statement.name))
        case _:
            return statement


def _target(verdict: Verdict, names: Mapping[str, str]) -> Verdict:
    return replace(verdict, chain=names.get(verdict.chain, verdict.chain))


# For each field, a match that holds for every packet that has the field.
_FAMILIES: Mapping[Field, Match] = {
    asked: Match(Field.NFPROTO, (Range.of(family),))
    for family, fields in (
        (Nfproto.IPV4, (Field.IP_SADDR, Field.IP_DADDR)),
        (Nfproto.IPV6, (Field.IP6_SADDR, Field.IP6_DADDR)),
    )
    for asked in fields
}
Named = TypeVar("Named", bound=Chain | Map | Counter | Timeout)


def detour(held: Table, desired: Table, suffix: str) -> Table:
    """Return the table on the way from one table to another, for changes that one switch can't make.

    These are changes of rules and elements together. `suffix` ends names that neither table has.

    It does what the desired table does, and the held one becomes it by rules alone. Maps that are to change stay as
    they are, with all that they lead to; rules ask other maps instead, under new names. From there to the desired table
    rules and elements change at once, since whatever the rules ask then says the same before and after. So only maps
    that change are made twice.

    A large map is made twice only as far as it differs, in two cases. If the rule after the look-up is one verdict,
    rules first ask what differs, where that verdict stands for elements that are gone, and then the map as it is held.
    If one priority was written right before the look-up in a map of priorities, that priority stands for what is gone,
    and what differs is asked last. Other maps by priority hold the elements of both tables.
    """
    moved = {entry.name: entry for entry in desired.maps if is_moved(held, desired, entry)}
    rests = {name: rest for name in moved if (rest := _rest(desired, name)) is not None}
    others = [replace(_instead(held.map[name], moved[name], rests.get(name)), name=name + suffix) for name in moved]
    names = {name: name + suffix for name in moved}
    chains = tuple(
        chain if names.keys().isdisjoint(chain.ways.maps) else _replace_maps(chain, names, rests)
        for chain in desired.chains
    )
    kept = (held.map[entry.name] if entry.name in moved else _with_late(held, desired, entry) for entry in desired.maps)
    maps = (*kept, *others)
    return replace(
        desired,
        chains=_with_gone(chains, held.chains),
        maps=_with_gone(maps, held.maps),
        counters=_with_gone(desired.counters, held.counters),
        timeouts=_with_gone(desired.timeouts, held.timeouts),
    )


def _with_late(held: Table, desired: Table, entry: Map) -> Map:
    """Return the map with the elements that go after the switch."""
    if is_kept(entry) or entry.name not in held.map or entry.key_type is not KeyType.CLASSID:
        return entry
    late = edit(held, desired, entry.name).late.elements
    return replace(entry, elements=tuple(sorted((*entry.elements, *late), key=lambda e: e[0]))) if late else entry


def _rest(table: Table, name: str) -> Verdict | int | None:
    """Return what stands for all that a map doesn't hold; None if nothing does.

    That is the one verdict that follows every look-up in it, alone in its rule, or the one priority that is written
    right before.
    """
    found = {rest for chain in table.chains if name in chain.ways.maps for rest in _rests(chain.rules, name)}
    return found.pop() if len(found) == 1 else None


def _rests(rules: Sequence[Rule], name: str) -> Iterator[Verdict | int | None]:
    """Yield, for each look-up in the map, what stands for all that the map doesn't hold."""
    for index, entry in enumerate(rules):
        for asked in entry.statements:
            if isinstance(asked, VerdictMap | MapPriority) and asked.name == name:
                yield _rest_of(asked, rules[:index], rules[index + 1 :]) if len(entry.statements) == 1 else None


def _rest_of(asked: VerdictMap | MapPriority, before: Sequence[Rule], after: Sequence[Rule]) -> Verdict | int | None:
    if isinstance(asked, MapPriority):
        return _priority(asked.field.key_type, before)
    *conditions, last = after[0].statements if after else (None,)
    is_sure = all(condition == _FAMILIES.get(asked.field) for condition in conditions)
    return last if is_sure and isinstance(last, Verdict) else None


def _priority(kind: KeyType, rules: Sequence[Rule]) -> int | None:
    """Return the priority of every packet that has come through the rules and has an address of that kind."""
    for entry in reversed(rules):
        match entry.statements:
            case (SetPriority(value),):
                return value
            case (MapPriority(asked, _),) if {kind, asked.key_type} == ADDRESSES:
                continue
            case _:
                return None
    return None


def _instead(before: Map, after: Map, rest: Verdict | int | None) -> Map:
    """Return the map that is asked instead: with all elements that it will hold, or with those that differ."""
    if rest is None:
        return after
    kept = pages.find_missing(after.elements, before.elements)
    known = {key for key, _ in kept}
    gone = [(key, rest) for key, _ in pages.find_missing(before.elements, after.elements) if key not in known]
    return replace(after, elements=(*kept, *gone))


def _replace_maps(chain: Chain, names: dict[str, str], rests: Mapping[str, Verdict | int]) -> Chain:
    """Return the chain with other maps in its rules.

    Where these hold only differences, the old look-up comes after a new look-up that ends the rules, and before a new
    one that writes the priority.
    """
    rules: list[Rule] = []
    for entry in chain.rules:
        asked = [s for s in entry.statements if isinstance(s, OfMap)]
        statements = tuple(
            replace(s, name=names[s.name]) if isinstance(s, OfMap) and s.name in names else s for s in entry.statements
        )
        other = replace(entry, statements=statements)
        if not any(one.name in rests for one in asked):
            rules.append(other)
        else:
            rules += (entry, other) if isinstance(asked[0], MapPriority) else (other, entry)
    return replace(chain, rules=tuple(rules))


def _with_gone(entries: Sequence[Named], held: Sequence[Named]) -> tuple[Named, ...]:
    """Return these entries, and those that only the held table has."""
    known = {entry.name for entry in entries}
    found = [*entries, *(entry for entry in held if entry.name not in known)]
    return tuple(sorted(found, key=lambda entry: entry.name))

"""A table on the way from one to another, for changes of rules and elements together that one switch can't make.

Owns that table. Is given both ends; pure. Must not know clouds, nor order.

It does what the desired one does, and the held one becomes it by rules alone: maps that are to change stay as they are,
and all that they lead to; rules ask others instead, under new names. From there to the desired one, rules and elements
change at once, since whatever the rules ask on the way says the same before and after.
So only maps that change are made twice. Of a large one not even that, if what follows the rule that asks it is one
verdict: rules first ask what differs, where that verdict stands for what is gone, and then the map as it is held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from sgdataplane.contract.fields import Field, Nfproto
from sgdataplane.nft import pages
from sgdataplane.nft.inflight import is_moved
from sgdataplane.nft.ir import Chain, Counter, Map, Match, Range, Rule, Table, Timeout, Verdict, VerdictMap, rule

# What holds for every packet that has the field.
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
    """The table in between. `suffix`: of names that neither table has."""
    moved = {entry.name: entry for entry in desired.maps if is_moved(held, entry)}
    rests = {name: rest for name in moved if (rest := _rest(desired, name)) is not None}
    others = [replace(_instead(held.map[name], moved[name], rests.get(name)), name=name + suffix) for name in moved]
    names = {name: name + suffix for name in moved}
    chains = tuple(
        chain if names.keys().isdisjoint(chain.ways.maps) else _asking(chain, names, rests) for chain in desired.chains
    )
    maps = (*(held.map[entry.name] if entry.name in moved else entry for entry in desired.maps), *others)
    return replace(
        desired,
        chains=_with_gone(chains, held.chains),
        maps=_with_gone(maps, held.maps),
        counters=_with_gone(desired.counters, held.counters),
        timeouts=_with_gone(desired.timeouts, held.timeouts),
    )


def _rest(table: Table, name: str) -> Verdict | None:
    """The one verdict that follows wherever the map is asked, and nothing else beside it in its rule; or None."""
    found = {rest for chain in table.chains if name in chain.ways.maps for rest in _rests(chain.rules, name)}
    return found.pop() if len(found) == 1 else None


def _rests(rules: Sequence[Rule], name: str) -> Iterator[Verdict | None]:
    for entry, after in zip(rules, (*rules[1:], rule()), strict=True):
        for asked in entry.statements:
            if isinstance(asked, VerdictMap) and asked.name == name:
                *conditions, last = after.statements or (None,)
                is_sure = len(entry.statements) == 1 and all(s == _FAMILIES.get(asked.field) for s in conditions)
                yield last if is_sure and isinstance(last, Verdict) else None


def _instead(before: Map, after: Map, rest: Verdict | None) -> Map:
    """What is asked instead of a map: all that it will hold, or what differs."""
    if rest is None:
        return after
    kept = pages.missing(after.elements, before.elements)
    known = {key for key, _ in kept}
    gone = [(key, rest) for key, _ in pages.missing(before.elements, after.elements) if key not in known]
    return replace(after, elements=(*kept, *gone))


def _asking(chain: Chain, names: dict[str, str], rests: dict[str, Verdict]) -> Chain:
    """The chain with other maps in its rules, and behind them those that they don't replace."""
    rules: list[Rule] = []
    for entry in chain.rules:
        asked = [statement.name for statement in entry.statements if isinstance(statement, VerdictMap)]
        statements = tuple(
            replace(s, name=names[s.name]) if isinstance(s, VerdictMap) and s.name in names else s
            for s in entry.statements
        )
        rules.append(replace(entry, statements=statements))
        if any(name in rests for name in asked):
            rules.append(entry)
    return replace(chain, rules=tuple(rules))


def _with_gone(entries: Sequence[Named], held: Sequence[Named]) -> tuple[Named, ...]:
    """These, and what is held besides."""
    known = {entry.name for entry in entries}
    found = [*entries, *(entry for entry in held if entry.name not in known)]
    return tuple(sorted(found, key=lambda entry: entry.name))

"""Places in a table, and tables with one place changed: what kinds of mutants are made of (mutate.py).

Owns how a place is found and replaced. Must not know the kinds of change.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sgdataplane.contract.fields import KeyType
from sgdataplane.nft.ir import Chain, Datum, Map, MapKey, Rule, Statement, Table


@dataclass(frozen=True, slots=True)
class Mutant:
    """`touched`: the chain whose rules were changed, or the map whose elements were; `what` for people."""

    table: Table
    touched: str
    what: str


class Unfit(Exception):  # noqa: N818  # a kind of change that this place has no room for
    """The place chosen can't be changed in this way."""


def with_rules(table: Table, chain: Chain, rules: Sequence[Rule], what: str) -> Mutant:
    changed = replace(chain, rules=tuple(rules))
    chains = tuple(changed if other is chain else other for other in table.chains)
    return Mutant(replace(table, chains=chains), chain.name, f"{what} in chain {chain.name}")


def with_elements(table: Table, entry: Map, elements: Sequence[tuple[MapKey, Datum]], what: str) -> Mutant:
    changed = replace(entry, elements=tuple(sorted(elements, key=lambda element: str(element[0]))))
    maps = tuple(changed if other is entry else other for other in table.maps)
    return Mutant(replace(table, maps=maps), entry.name, f"{what} of map {entry.name}")


def with_statement(table: Table, place: Place, new: Sequence[Statement], what: str) -> Mutant:
    """In place of the statement there, these."""
    chain, rule, statement = place
    old = chain.rules[rule].statements
    rules = list(chain.rules)
    rules[rule] = replace(rules[rule], statements=(*old[:statement], *new, *old[statement + 1 :]))
    return with_rules(table, chain, rules, f"{what} in rule {rule + 1}")


Place = tuple[Chain, int, int]  # chain, rule, statement


def places(table: Table, wanted: Callable[[Statement], bool]) -> list[Place]:
    return [
        (chain, r, s)
        for chain in table.chains
        for r, rule in enumerate(chain.rules)
        for s, statement in enumerate(rule.statements)
        if wanted(statement)
    ]


def one(chance: random.Random, table: Table, wanted: Callable[[Statement], bool]) -> tuple[Place, Statement]:
    found = places(table, wanted)
    if not found:
        raise Unfit
    chain, rule, statement = place = chance.choice(found)
    return place, chain.rules[rule].statements[statement]


def maps(table: Table) -> list[Map]:
    """Those of verdicts, priorities and counters whose elements don't go by themselves."""
    return of_kinds(table, None, KeyType.CLASSID, KeyType.COUNTER)


def of_kinds(table: Table, *kinds: KeyType | None) -> list[Map]:
    return [entry for entry in table.maps if entry.holds in kinds and not entry.lifetime and entry.elements]

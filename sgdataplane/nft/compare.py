"""What a table that was read back has otherwise than the one that should be there.

Owns when two rules are the same: nft adds what a field takes (`ip saddr` asks for IPv4 first), puts neighbouring ranges
together, and leaves conditions in any order. Is given two tables. Must not know the kernel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import groupby

from sgdataplane.contract.stamp import GENERATION_KEY, STAMP_MAP
from sgdataplane.nft.ir import (
    Chain,
    Key,
    Log,
    Map,
    Match,
    Range,
    Rule,
    Statement,
    Table,
    Verdict,
    VerdictMap,
)
from sgdataplane.nft.layout import TAKES
from sgdataplane.nft.snapshot import MapShape
from sgdataplane.nft.spans import joined

Same = tuple[object, ...]


def differences(wanted: Table, held: Table) -> Iterator[str]:
    """A line for each chain, map, counter or timeout that isn't there, is another, or is one too many. Elements that go
    by themselves, comments, and the generation in the stamp are nobody's difference."""
    yield from _chains(wanted.chain, held.chain, logs=_has_logs(held))
    yield from _maps(wanted.map, held.map)
    yield from _names("counter", wanted.counter, held.counter)
    names = ({entry.name for entry in table.timeouts} for table in (wanted, held))
    yield from _names("timeout", *names)


def _has_logs(table: Table) -> bool:
    return any(isinstance(part, Log) for chain in table.chains for rule in chain.rules for part in rule.statements)


def _chains(wanted: Mapping[str, Chain], held: Mapping[str, Chain], *, logs: bool) -> Iterator[str]:
    yield from _names("chain", wanted, held)
    for name in sorted(wanted.keys() & held.keys()):
        if wanted[name].hook != held[name].hook:
            yield f"chain {name} stands at another hook"
        if wanted[name].rules != held[name].rules:  # mostly they aren't even equal
            mine, theirs = ([same(rule, logs=logs) for rule in chain.rules] for chain in (wanted[name], held[name]))
            if mine != theirs:
                yield f"chain {name} has other rules"


def _maps(wanted: Mapping[str, Map], held: Mapping[str, Map]) -> Iterator[str]:
    yield from _names("map", wanted, held)
    for name in sorted(wanted.keys() & held.keys()):
        mine, theirs = wanted[name], held[name]
        if MapShape.of(mine) != MapShape.of(theirs):
            yield f"map {name} is of another kind"
        elif not mine.lifetime and set(_elements(mine)) != set(_elements(theirs)):
            yield f"map {name} has other elements"


def _elements(entry: Map) -> Iterable[tuple[Key, Verdict | int]]:
    if entry.name != STAMP_MAP:
        return entry.elements
    return (element for element in entry.elements if element[0] != GENERATION_KEY)


def _names(what: str, wanted: Collection[str], held: Collection[str]) -> Iterator[str]:
    mine, theirs = set(wanted), set(held)
    yield from (f"{what} {name} is missing" for name in sorted(mine - theirs))
    yield from (f"{what} {name} is not ours" for name in sorted(theirs - mine))


def same(rule: Rule, *, logs: bool = True) -> Same:
    """Equal for rules that do the same in the same order; conditions that follow each other have none. `logs`: whether
    logs count."""
    statements = (statement for statement in rule.statements if logs or not isinstance(statement, Log))
    parts = groupby(_explicit(statements), key=lambda statement: isinstance(statement, Match))
    return tuple(frozenset(group) if is_match else tuple(group) for is_match, group in parts)


def _explicit(statements: Iterable[Statement]) -> Iterator[Statement]:
    """With what each field takes, in front of it."""
    for statement in statements:
        if isinstance(statement, (Match, VerdictMap)):
            for asked, value in TAKES.get(statement.field, ()):
                yield Match(asked, (Range.of(value),))
        yield _plain(statement)


def _plain(statement: Statement) -> Statement:
    if isinstance(statement, Match):
        together = tuple(span for span, _ in joined((span, None) for span in statement.ranges))
        return Match(statement.field, together, statement.negate, statement.mask)
    if isinstance(statement, VerdictMap) and not statement.name:
        return VerdictMap(statement.field, tuple(joined(statement.entries)))
    return statement

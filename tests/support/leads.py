"""Where a table's chains lead, and what can be asked of a packet on the way.

Owns walks of the graph of chains, for those that try out whole tables. Must not know packets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from sgdataplane.contract.fields import Field
from sgdataplane.nft.ir import InSet, Match, OfMap, Table, Verdict, VerdictKind, VerdictMap

ALL = slice(None)


def asking(table: Table, chain: str, part: slice = ALL) -> Iterator[Match | OfMap]:
    for rule in table.chain[chain].rules[part]:
        yield from (s for s in rule.statements if isinstance(s, Match | OfMap))


def maps_of(table: Table, chain: str) -> set[str]:
    return {s.name for s in asking(table, chain) if isinstance(s, OfMap) and s.name}


def next_chains(table: Table, chain: str, kind: VerdictKind | None = None, part: slice = ALL) -> set[str]:
    """Where its rules, or some of them, can go; by that kind of verdict, if one is given."""
    found: set[Verdict] = set()
    for rule in table.chain[chain].rules[part]:
        for statement in rule.statements:
            if isinstance(statement, Verdict):
                found.add(statement)
            elif isinstance(statement, VerdictMap) and statement.name:
                found |= {v for v in table.elements_of(statement.name).values() if isinstance(v, Verdict)}
            elif isinstance(statement, VerdictMap):
                found |= {verdict for _, verdict in statement.entries}
    return {verdict.chain for verdict in found if verdict.chain in table.chain and kind in (None, verdict.kind)}


def reached(table: Table, starts: Iterable[str], but: Collection[str] = ()) -> set[str]:
    """The chains that can be come to from these, themselves included; without entering some."""
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in but:
            found.add(name)
            waiting.extend(next_chains(table, name))
    return found


def leading_to(table: Table, wanted: Collection[str]) -> frozenset[str]:
    """The chains from which one of these can be come to, themselves included."""
    following = {name: next_chains(table, name) for name in table.chain}
    found, more = set(wanted), set(wanted)
    while more:
        more = {name for name, targets in following.items() if name not in found and not found.isdisjoint(targets)}
        found |= more
    return frozenset(found)


def read_from(*tables: Table) -> dict[str, frozenset[Field]]:
    """The fields that can be asked for from each chain on, in any of the tables; and protocols, which others need."""
    reads: dict[str, set[Field]] = {}
    for table in tables:
        for name in table.chain:
            asked = list(asking(table, name))
            reads.setdefault(name, {Field.L4PROTO}).update(s.field for s in asked)
            reads[name].update(s.interface for s in asked if isinstance(s, InSet))
    following = [(name, next_chains(table, name)) for table in tables for name in table.chain]
    before = -1
    while before != (before := sum(map(len, reads.values()))):
        for name, targets in following:
            reads[name].update(*(reads[target] for target in targets))
    return {name: frozenset(asked) for name, asked in reads.items()}

"""Sets and maps without a name: which chains have them, and how such a chain is replaced.

Owns the rule that these chains never change in place (delta.py says why). Is given tables; pure.
Must not know clouds, nor what the kernel holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sgdataplane.errors import InternalError
from sgdataplane.nft.ir import Chain, Map, Match, Rule, Statement, Table, Verdict, VerdictMap


def has_nameless_set(chain: Chain) -> bool:
    """Whether nft makes a set or map of its own for one of the rules: a map's entries, or several ranges to match."""
    return any(
        (isinstance(entry, VerdictMap) and not entry.name) or (isinstance(entry, Match) and len(entry.ranges) > 1)
        for rule in chain.rules
        for entry in rule.statements
    )


def check_in_place(chains: Iterable[Chain]) -> None:
    """InternalError if one of these chains must not change in place."""
    for chain in chains:
        if has_nameless_set(chain):
            raise InternalError(f"chain {chain.name} has a set without a name, but its rules change in place")


def with_copies(table: Table, suffix: str) -> Table:
    """The same table, but chains that have sets without a name, and all that leads to them, say name + suffix."""
    names = {chain.name: chain.name + suffix for chain in table.chains if has_nameless_set(chain)}
    return replace(
        table,
        chains=tuple(_renamed_chain(chain, names) for chain in table.chains),
        maps=tuple(_renamed_map(entry, names) for entry in table.maps),
    )


def _renamed_chain(chain: Chain, names: Mapping[str, str]) -> Chain:
    rules = tuple(
        Rule(tuple(_renamed(entry, names) for entry in rule.statements), rule.comment) for rule in chain.rules
    )
    return replace(chain, name=names.get(chain.name, chain.name), rules=rules)


def _renamed_map(entry: Map, names: Mapping[str, str]) -> Map:
    elements = tuple(
        (key, _target(value, names) if isinstance(value, Verdict) else value) for key, value in entry.elements
    )
    return replace(entry, elements=elements)


def _renamed(statement: Statement, names: Mapping[str, str]) -> Statement:
    match statement:
        case Verdict():
            return _target(statement, names)
        case VerdictMap(field, entries, name):
            return VerdictMap(field, tuple((item, _target(verdict, names)) for item, verdict in entries), name)
        case _:
            return statement


def _target(verdict: Verdict, names: Mapping[str, str]) -> Verdict:
    return replace(verdict, chain=names.get(verdict.chain, verdict.chain))

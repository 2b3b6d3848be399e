"""What a packet on its way sees of a commit, and so which changes one commit can make.

Owns the facts (delta.py tells them) as questions about tables. Is given tables; pure. Must not know clouds, nor order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from sgdataplane.contract.fields import Field
from sgdataplane.contract.stamp import STAMP_MAP
from sgdataplane.errors import InternalError
from sgdataplane.nft import pages
from sgdataplane.nft.ir import Chain, Map, Match, Rule, SetMark, Statement, Table, Verdict, VerdictMap


def can_switch_at_once(held: Table, desired: Table) -> bool:
    """Whether every packet on its way during the switch is judged as by one of the two tables.

    It is if it sees all old rules and look-ups that haven't changed; or rules that haven't changed, and at most one
    look-up that has. Not if old rules meet new elements, or old and new elements follow each other.
    """
    moved = [entry.name for entry in desired.maps if is_moved(held, entry)]
    if not moved:
        return True
    kept = [chain for chain in desired.chains if chain.name in held.chain]
    changed = [(before, chain) for chain in kept if (before := held.chain[chain.name]).rules != chain.rules]
    if any(_judgement(before) != _judgement(chain) for before, chain in changed):
        return False
    return not any(_maps_behind(table, name) & set(moved) for table in (held, desired) for name in moved)


def is_kept(entry: Map) -> bool:
    """Whether the map stays through everything: the stamp; and those whose elements go by themselves, which are only
    added together with what asks for them."""
    return entry.name == STAMP_MAP or entry.lifetime > 0


def is_moved(held: Table, entry: Map) -> bool:
    """Whether the map is to hold other elements than it does."""
    return not is_kept(entry) and entry.name in held.map and held.map[entry.name].elements != entry.elements


def _judgement(chain: Chain) -> tuple[tuple[Statement, ...], ...]:
    """The rules without the conntrack mark: a packet on its way may well meet or leave the one from before."""
    return tuple(
        tuple(
            entry
            for entry in rule.statements
            if not isinstance(entry, SetMark) and not (isinstance(entry, Match) and entry.field is Field.CT_MARK)
        )
        for rule in chain.rules
    )


def _maps_behind(table: Table, name: str) -> set[str]:
    """The named maps that a packet may ask after it was sent on by this one."""
    maps: set[str] = set()
    chains: set[str] = set()
    ahead = list(_chains_of(table.map[name]))
    while ahead:
        chain = ahead.pop()
        if chain in chains:
            continue
        chains.add(chain)
        ways = table.chain[chain].ways
        ahead += ways.chains
        for asked in ways.maps:
            if asked not in maps:
                maps.add(asked)
                ahead += _chains_of(table.map[asked])
    return maps


def _chains_of(entry: Map) -> Iterator[str]:
    return (value.chain for value in pages.values(entry.elements) if isinstance(value, Verdict) and value.chain)


def check_in_place(chains: Iterable[Chain]) -> None:
    """InternalError if one of these chains must not change in place: a set or map without a name goes with its rule,
    and is empty from then on for packets that are still in the old rules."""
    for chain in chains:
        if any(has_nameless_set(rule) for rule in chain.rules):
            raise InternalError(f"chain {chain.name} has a set without a name, but its rules change in place")


def has_nameless_set(rule: Rule) -> bool:
    """Whether it asks a set or map without a name."""
    return any(_is_nameless_set(entry) for entry in rule.statements)


def _is_nameless_set(statement: Statement) -> bool:
    if isinstance(statement, Match):
        return statement.is_set
    return isinstance(statement, VerdictMap) and not statement.name


def copied(table: Table, suffix: str) -> Table:
    """The same table under other names: those of all maps but the kept ones, and of all chains but base chains, and
    everything that refers to them. So one can switch to it by the base chains alone."""
    names = {chain.name: chain.name + suffix for chain in table.chains if chain.hook is None}
    names |= {entry.name: entry.name + suffix for entry in table.maps if not is_kept(entry)}
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
    return replace(entry, name=names.get(entry.name, entry.name), elements=elements)


def _renamed(statement: Statement, names: Mapping[str, str]) -> Statement:
    match statement:
        case Verdict():
            return _target(statement, names)
        case VerdictMap(asked, entries, name):
            renamed = tuple((item, _target(verdict, names)) for item, verdict in entries)
            return VerdictMap(asked, renamed, names.get(name, name))
        case _:
            return statement


def _target(verdict: Verdict, names: Mapping[str, str]) -> Verdict:
    return replace(verdict, chain=names.get(verdict.chain, verdict.chain))

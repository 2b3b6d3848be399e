"""Wrong compiles on purpose: one small change to a table, of the kinds that a compiler's bug makes.

Owns the kinds of change. Is given a table and a stream of random choices. Must not know what the table is for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice

from sgdataplane.contract.fields import KeyType
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    MEMBER,
    RETURN,
    Count,
    Datum,
    InSet,
    Map,
    MapCount,
    MapPriority,
    SetMark,
    SetPacketMark,
    SetPriority,
    Statement,
    Table,
    Verdict,
    VerdictKind,
    VerdictMap,
    goto,
)
from tests.support.inputs.mutants import (
    Mutant,
    Place,
    Unfit,
    maps,
    of_kinds,
    one,
    with_elements,
    with_rules,
    with_statement,
)
from tests.support.inputs.mutate_asked import (
    LAST,
    change_asked_mark,
    change_value,
    drop_match,
    in_order,
    last_of,
    move_bound,
    move_match,
    moved_range,
    negate_match,
    swap_fields,
)

MAX_TRIES = 10  # for a mutant, on average


def mutants(table: Table, chance: random.Random, count: int, kinds: Sequence[Change] | None = None) -> Iterator[Mutant]:
    """So many, each one change away from the table; these kinds of change, or all, in turn."""
    for change in islice(cycle(kinds or CHANGES), MAX_TRIES * count):
        try:
            mutant = change(table, chance)
        except Unfit:
            continue
        if mutant.table != table:
            count -= 1
            yield mutant
        if not count:
            return
    raise AssertionError(f"{count} mutants are missing: the table has no room for them")


def drop_element(table: Table, chance: random.Random) -> Mutant:
    """A missing member or rank, say; or what a set has at an interface."""
    entry = chance.choice(of_kinds(table, None, KeyType.CLASSID, KeyType.NOTHING))
    elements = list(entry.elements)
    key, _ = elements.pop(chance.randrange(len(elements)))
    return with_elements(table, entry, elements, f"element {key} dropped")


def add_pair(table: Table, chance: random.Random) -> Mutant:
    """In a set: the value of one interface for another one, too; or a value beside it."""
    sets = of_kinds(table, KeyType.NOTHING)
    if not sets:
        raise Unfit
    entry = chance.choice(sets)
    pairs = [key for key, _ in entry.elements if isinstance(key, tuple)]
    (value, ifname), (_, other) = chance.choice(pairs), chance.choice(pairs)
    new = chance.choice([(value, other), (value + (value & -value or 1), ifname)])
    if new in pairs:
        raise Unfit
    return with_elements(table, entry, [*entry.elements, (new, MEMBER)], f"element {new} added")


def change_set(table: Table, chance: random.Random) -> Mutant:
    """It isn't asked; or everything else is; or another set is, or another part of the field."""
    place, asked = one(chance, table, lambda s: isinstance(s, InSet))
    assert isinstance(asked, InSet)
    others = of_kinds(table, KeyType.NOTHING)
    if not others:
        raise Unfit
    other = chance.choice(others).name
    kinds: list[tuple[Statement, ...]] = [(), (replace(asked, negate=not asked.negate),), (replace(asked, name=other),)]
    if asked.mask is not None:
        kinds.append((replace(asked, mask=asked.mask << 16 & 0xFFFFFFFF | asked.mask >> 16),))
    return with_statement(table, place, chance.choice(kinds), f"{asked} changed")


def add_element(table: Table, chance: random.Random) -> Mutant:
    """An address beside another one, with the value of the other."""
    entry = chance.choice([entry for entry in maps(table) if entry.key_type in LAST] or [None])
    if entry is None:
        raise Unfit
    key, value = chance.choice(list(entry.elements))
    assert isinstance(key, int)
    other = key + chance.choice((-1, 1))
    if other in dict(entry.elements):
        raise Unfit
    return with_elements(table, entry, [*entry.elements, (other, value)], f"element {other} added")


def retarget_element(table: Table, chance: random.Random) -> Mutant:
    """A member with the group set of another one, a group set with another rank, a number beside it; or a key that
    leads to any chain."""
    entry = chance.choice(maps(table))
    elements = dict(entry.elements)
    key = chance.choice(list(elements))
    usual = _usual(table, entry, elements[key], chance)
    others = [value for value in elements.values() if value != elements[key]]
    elements[key] = chance.choice([*others, usual]) if entry.holds else chance.choice(others or [usual])
    return with_elements(table, entry, list(elements.items()), f"element {key} has another value")


def _usual(table: Table, entry: Map, value: Datum, chance: random.Random) -> Datum:
    """Another value of that kind."""
    if entry.holds is None:
        return goto(chance.choice(table.chains).name)
    return Count(chance.choice(table.counters).name) if isinstance(value, Count) else int(str(value)) ^ 1


def change_priority(table: Table, chance: random.Random) -> Mutant:
    """It isn't written; or another number is, or what another map has."""
    place, old = one(chance, table, lambda s: isinstance(s, SetPriority | MapPriority))
    maps = [entry.name for entry in table.maps if entry.holds is KeyType.CLASSID]
    if isinstance(old, MapPriority):
        kinds: list[tuple[Statement, ...]] = [(), (replace(old, name=chance.choice(maps)),)]
    else:
        assert isinstance(old, SetPriority)
        kinds = [(), (SetPriority(old.value ^ 1),)]
    return with_statement(table, place, chance.choice(kinds), f"{old} changed")


def drop_rule(table: Table, chance: random.Random) -> Mutant:
    chain = chance.choice(table.chains)
    rules = list(chain.rules)
    if not rules:
        raise Unfit
    index = chance.randrange(len(rules))
    del rules[index]
    return with_rules(table, chain, rules, f"rule {index + 1} dropped")


def swap_rules(table: Table, chance: random.Random) -> Mutant:
    chain = chance.choice([chain for chain in table.chains if len(chain.rules) > 1])
    index = chance.randrange(len(chain.rules) - 1)
    rules = list(chain.rules)
    rules[index], rules[index + 1] = rules[index + 1], rules[index]
    return with_rules(table, chain, rules, f"rules {index + 1} and {index + 2} swapped")


def retarget_verdict(table: Table, chance: random.Random) -> Mutant:
    """Any chain; so circles and chains for other packets are among them."""
    place, verdict = one(chance, table, lambda s: isinstance(s, Verdict) and bool(s.chain))
    assert isinstance(verdict, Verdict)
    other = chance.choice(table.chains)
    if other.hook is not None:
        raise Unfit
    return with_statement(table, place, (replace(verdict, chain=other.name),), f"goes to {other.name}")


def retarget_to_like(table: Table, chance: random.Random) -> Mutant:
    """A chain whose name begins alike: of the same kind, for other packets."""
    place, verdict = one(chance, table, lambda s: isinstance(s, Verdict) and bool(s.chain))
    assert isinstance(verdict, Verdict)
    kind = verdict.chain[:6]
    alike = [c.name for c in table.chains if c.name.startswith(kind) and c.name != verdict.chain]
    if not alike:
        raise Unfit
    other = chance.choice(alike)
    return with_statement(table, place, (replace(verdict, chain=other),), f"goes to {other}")


def change_verdict(table: Table, chance: random.Random) -> Mutant:
    """Accept for drop and the other way round; return for either."""
    place, verdict = one(chance, table, lambda s: s in (ACCEPT, DROP))
    return with_statement(
        table, place, (chance.choice([v for v in (ACCEPT, DROP, RETURN) if v != verdict]),), "verdict"
    )


def goto_for_jump(table: Table, chance: random.Random) -> Mutant:
    """(The other way round hardly ever matters: nearly all chains end in a verdict for every packet.)"""
    place, verdict = one(chance, table, lambda s: isinstance(s, Verdict) and s.kind is VerdictKind.JUMP)
    assert isinstance(verdict, Verdict)
    return with_statement(table, place, (goto(verdict.chain),), f"goto {verdict.chain}, not jump")


def drop_count(table: Table, chance: random.Random) -> Mutant:
    place, count = one(chance, table, lambda s: isinstance(s, Count | MapCount))
    return with_statement(table, place, (), f"{count} dropped")


def change_count(table: Table, chance: random.Random) -> Mutant:
    place, count = one(chance, table, lambda s: isinstance(s, Count | MapCount))
    kinds: list[Statement] = [Count(chance.choice(table.counters).name)]
    if isinstance(count, MapCount):
        kinds.append(replace(count, name=chance.choice([e.name for e in table.maps if e.holds is KeyType.COUNTER])))
    other = chance.choice(kinds)
    return with_statement(table, place, (other,), f"{count} became {other}")


def change_mark(table: Table, chance: random.Random) -> Mutant:
    """The other half, another ENI's slot, an older epoch, another secret, or nothing."""
    place, mark = one(chance, table, lambda s: isinstance(s, SetMark | SetPacketMark))
    if isinstance(mark, SetPacketMark):
        return with_statement(table, place, chance.choice([(), (SetPacketMark(mark.value ^ 1),)]), "packet mark")
    assert isinstance(mark, SetMark)
    half = ~mark.keep & 0xFFFFFFFF
    other = replace(mark, keep=half, value=mark.value << 16 & 0xFFFFFFFF | mark.value >> 16)
    kinds = [(), (other,), (replace(mark, keep=0),), (replace(mark, value=mark.value ^ (half & -half)),)]
    return with_statement(table, place, chance.choice(kinds), "session mark")


def _entries_place(table: Table, chance: random.Random, least: int) -> tuple[Place, VerdictMap]:
    place, vmap = one(chance, table, lambda s: isinstance(s, VerdictMap) and len(s.entries) >= least)
    assert isinstance(vmap, VerdictMap)
    return place, vmap


def drop_entry(table: Table, chance: random.Random) -> Mutant:
    place, vmap = _entries_place(table, chance, 1)
    index = chance.randrange(len(vmap.entries))
    entries = vmap.entries[:index] + vmap.entries[index + 1 :]
    return with_statement(table, place, (replace(vmap, entries=entries),) if entries else (), "entry dropped")


def move_entry(table: Table, chance: random.Random) -> Mutant:
    place, vmap = _entries_place(table, chance, 1)
    index = chance.randrange(len(vmap.entries))
    item, verdict = vmap.entries[index]
    moved = moved_range(item, last_of(vmap.field), chance)
    entries = (*vmap.entries[:index], (moved, verdict), *vmap.entries[index + 1 :])
    in_order([entry for entry, _ in entries])
    return with_statement(table, place, (replace(vmap, entries=entries),), f"{item} became {moved}")


def swap_entries(table: Table, chance: random.Random) -> Mutant:
    """Two verdicts for one another."""
    place, vmap = _entries_place(table, chance, 2)
    one, other = chance.sample(range(len(vmap.entries)), 2)
    entries = list(vmap.entries)
    entries[one], entries[other] = (entries[one][0], entries[other][1]), (entries[other][0], entries[one][1])
    return with_statement(table, place, (replace(vmap, entries=tuple(entries)),), "two verdicts swapped")


def retarget_entry(table: Table, chance: random.Random) -> Mutant:
    place, vmap = _entries_place(table, chance, 1)
    index = chance.randrange(len(vmap.entries))
    other = chance.choice([chain.name for chain in table.chains if chain.hook is None])
    entries = (*vmap.entries[:index], (vmap.entries[index][0], goto(other)), *vmap.entries[index + 1 :])
    return with_statement(table, place, (replace(vmap, entries=entries),), f"an entry goes to {other}")


Change = Callable[[Table, random.Random], Mutant]
CHANGES: tuple[Change, ...] = (
    drop_element,
    add_element,
    add_pair,
    change_set,
    retarget_element,
    change_priority,
    move_bound,
    drop_rule,
    swap_rules,
    retarget_verdict,
    retarget_to_like,
    change_verdict,
    goto_for_jump,
    drop_match,
    negate_match,
    swap_fields,
    drop_count,
    change_count,
    change_mark,
    change_asked_mark,
    change_value,
    move_match,
    drop_entry,
    move_entry,
    swap_entries,
    retarget_entry,
)

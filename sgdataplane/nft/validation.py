"""Estimate what a commit costs: how many chains the kernel visits to validate a table, and how fast it does so.

Owns the count, and the measurement of a kernel's pace. It is given tables, and sockets of empty namespaces. It must not
know what chains are for, or how sockets are made.

What Linux 6.1 does (net/netfilter/nf_tables_api.c):

- A commit that adds a rule of ours, or an element that leads to a chain, validates (`nf_tables_validate`): before Linux
  6.4 every table of the namespace, since then those that it adds to. A commit that only deletes doesn't.
- From each base chain (`nft_table_validate`) it goes through all rules: a goto or jump leads to its chain
  (`nft_immediate_validate`), a look-up in a verdict map to the chain of each element (`nft_lookup_validate`,
  `nft_setelem_validate`), at once, and as often as it comes by. So it walks every path, not every chain.
- **A visit** is a chain entered (a call of `nft_chain_validate`), base chains included. Rules, and elements that lead
  nowhere, are looked at on a visit and are none; in our tables a visit is some two rules and one element.
- What no base chain leads to, such as what is only staged, is not visited.
- Besides, what a rule leads to is walked as the rule is added (`nft_validate_register_store`, `nf_tables_bind_set`;
  until 6.1.104 `nf_tables_check_loops`), and so is what an element leads to that is added to a map which a rule asks.
  So a base chain whose rules are written anew costs its visits once more, whatever differs. (`nf_tables_bind_set` means
  to leave out a map that the chain asks already, but compares with a field that isn't set yet.) All else that is walked
  so is left out: rules come in the order of their chains' names, so that what they lead to is mostly empty yet. It's at
  most two fifths of a small table's visits (tests/property/test_visits.py), and less where paths multiply.

Kernels since upstream commit 8e1a1bc4f5a4 (6.12.66) go through the rules of each chain once, and since a67fd55f6a09
through none when a rule is added. `remembered` is how many chains they enter. (They go through a chain once more for
another hook, or where it stands deeper than before, which isn't counted.)

To measure the pace, the same commit is made where a base chain leads into a lattice of very many paths (`deep`), into
another table of that namespace (`beside`), and where nothing but one chain is (`flat`). Only ratios of times decide
whether the kernel remembers: whatever makes a machine slow does it to all three. The shortest times say how long a
visit takes, since other work on the machine only makes them longer.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Protocol

from sgdataplane.contract.fields import Field, Hook
from sgdataplane.nft import pages
from sgdataplane.nft.changes import changes
from sgdataplane.nft.delta import Plan
from sgdataplane.nft.ir import (
    ACCEPT,
    Chain,
    Elements,
    Map,
    MapPage,
    Match,
    Paged,
    Range,
    Table,
    Verdict,
    VerdictMap,
    goto,
    rule,
)
from sgdataplane.nft.order import targets_first
from sgdataplane.nft.transaction import Kind, Operation, Subject, Transaction, Verb

Exits = Mapping[str, int]  # how often something leads to each chain
NOWHERE: Exits = MappingProxyType({})


@dataclass(frozen=True)
class Visits:
    """The visits of one table. Chains in a cycle and missing ones, which the kernel refuses, are left out."""

    table: Table
    exits: Mapping[str, Exits]
    """Where each chain leads."""
    of_maps: Mapping[str, Exits]
    """Where each verdict map leads."""
    by_chain: Mapping[str, int]
    """How many visits follow from one that enters a chain, itself included.

    Each chain comes after all that it leads to.
    """

    @classmethod
    def of(cls, table: Table, previous: Visits | None = None) -> Visits:
        """Count the visits of a table. Objects that it shares with `previous`, a similar one, aren't counted again."""
        previous = previous or NOTHING
        changed_maps = changes(previous.table.maps, table.maps)
        found = {
            name: _exits_of_map(entry, previous) for name, entry in changed_maps.come.items() if entry.holds is None
        }
        of_maps = {name: exits for name, exits in previous.of_maps.items() if name not in changed_maps.gone} | found
        moved = {name for name in changed_maps.names if of_maps.get(name) is not previous.of_maps.get(name)}
        changed_chains = changes(previous.table.chains, table.chains)
        anew = dict(changed_chains.come)
        if moved:
            anew |= {chain.name: chain for chain in table.chains if not moved.isdisjoint(chain.ways.maps)}
        if not anew and not changed_chains.gone:
            return cls(table, previous.exits, of_maps, previous.by_chain)
        exits = {**previous.exits, **{name: _exits_of_chain(chain, of_maps) for name, chain in anew.items()}}
        gone = changed_chains.gone.keys() - changed_chains.come.keys()
        changed = {name for name in anew if exits[name] != previous.exits.get(name)}
        for name in gone:
            del exits[name]
        return cls(table, exits, of_maps, _count_visits(exits, previous.by_chain, changed | gone))

    @cached_property
    def every_path(self) -> int:
        """How many visits a kernel takes to validate the table if it walks every path."""
        return sum(self.by_chain.get(chain.name, 0) for chain in self.table.chains if chain.hook is not None)

    @cached_property
    def remembered(self) -> int:
        """How many visits a kernel takes that goes through each chain once."""
        ahead = [chain.name for chain in self.table.chains if chain.hook is not None]
        reached, found = set(ahead), len(ahead)
        for name in ahead:  # grows on the way
            found += sum(self.exits[name].values())
            new = [target for target in self.exits[name] if target not in reached and target in self.exits]
            reached.update(new)
            ahead += new
        return found

    def of_plan(self, plan: Plan, held: Visits | None) -> int:
        """Return how many visits all commits of a plan to this table take, in a kernel that walks every path.

        Intermediate tables count as this one, and so does the table there, unless its visits are known (`held`).
        """
        now, found = held or self, 0
        for change in plan.changes:
            found += now.every_path * _count_validated(change.stage) + self.every_path * _is_validated(change.switch)
            found += sum(self.by_chain.get(name, 0) for name in _chains_with_rules(change.switch))
            now = self
        return found


NOTHING = Visits(Table(""), {}, {}, {})


def count_validations(plan: Plan) -> int:
    """Return how many commits of a plan the kernel validates."""
    return sum(_count_validated(change.stage) + _is_validated(change.switch) for change in plan.changes)


def _count_validated(stage: Transaction) -> int:
    return sum(map(_is_validated, stage.parts()))


def _is_validated(transaction: Transaction) -> bool:
    """Return whether the transaction adds a rule, or an element that leads to a chain."""
    added = (entry for entry in transaction.operations if entry.verb is Verb.ADD)
    return any(entry.kind is Kind.RULES or (entry.kind is Kind.ELEMENTS and _leads(entry.subject)) for entry in added)


def _leads(subject: Subject) -> bool:
    return isinstance(subject, Map) and any(isinstance(value, Verdict) and value.chain for _, value in subject.elements)


def _chains_with_rules(transaction: Transaction) -> Iterator[str]:
    added = (entry for entry in transaction.operations if entry.verb is Verb.ADD and entry.kind is Kind.RULES)
    return (entry.subject.name for entry in added)


def _exits_of_map(entry: Map, previous: Visits) -> Exits:
    """Return where a map leads: the same object as before where nothing differs."""
    old = previous.table.map.get(entry.name)
    if old is None or entry.name not in previous.of_maps:
        return _exits_of_elements(entry.elements)
    known = previous.of_maps[entry.name]
    if old.elements is entry.elements:
        return known
    if isinstance(old.elements, pages.Paged) and isinstance(entry.elements, pages.Paged):
        found = _adjust(known, old.elements, entry.elements)
    else:
        found = _exits_of_elements(entry.elements)
    return known if found == known else found


def _adjust(known: Exits, old: Paged, new: Paged) -> Exits:
    """Return where the new pages lead, from where the old ones led: only pages that differ are looked into."""
    found = Counter(known)
    for number in old.pages.keys() | new.pages.keys():
        gone, come = old.pages.get(number), new.pages.get(number)
        if gone is not come:
            found.subtract(_exits_of_page(gone))
            found.update(_exits_of_page(come))
    return +found


def _exits_of_elements(elements: Elements) -> Exits:
    """Return how often the elements of a map lead to each chain."""
    if not isinstance(elements, pages.Paged):
        return Counter([value.chain for _, value in elements if isinstance(value, Verdict) and value.chain])
    found: Counter[str] = Counter()
    for page in elements.pages.values():
        found.update(_exits_of_page(page))
    return found


def _exits_of_page(page: MapPage | None) -> Exits:
    found: Counter[str] = Counter()
    for value, count in page.tally if page is not None else ():
        if isinstance(value, Verdict) and value.chain:
            found[value.chain] += count
    return found


def _exits_of_chain(chain: Chain, of_maps: Mapping[str, Exits]) -> Exits:
    """Return how often the rules of a chain lead to each chain, maps included."""
    found: dict[str, int] = {}
    for entry in chain.rules:
        for statement in entry.statements:
            if isinstance(statement, Verdict):
                if statement.chain:
                    found[statement.chain] = found.get(statement.chain, 0) + 1
            elif isinstance(statement, VerdictMap):
                for _, verdict in statement.entries:
                    if verdict.chain:
                        found[verdict.chain] = found.get(verdict.chain, 0) + 1
                for name, count in of_maps.get(statement.name, NOWHERE).items():
                    found[name] = found.get(name, 0) + count
    return found


def _count_visits(exits: Mapping[str, Exits], known: Mapping[str, int], changed: AbstractSet[str]) -> Mapping[str, int]:
    """Return the visits of all chains.

    `known` are those of earlier chains. Chains that changed, or lead to one that did, are counted anew.
    """
    anew = set(changed)
    for name in known if changed else ():
        if name not in anew and not anew.isdisjoint(exits[name]):
            anew.add(name)
    found = {**known}
    for name in anew & found.keys():
        del found[name]
    todo = {name: exits[name] for name in exits.keys() - found.keys()}
    for name in targets_first({name: targets.keys() & todo.keys() for name, targets in todo.items()}):
        found[name] = 1 + sum([count * found.get(target, 0) for target, count in todo[name].items()])
    return found


LEVELS, ROUNDS = 12, 5
SLOW = 3.0  # a deep commit takes 1 time as long as a flat one if the kernel remembers, else 10 to 40 times
DEEP, BESIDE = Table("sgdataplane-pace"), Table("sgdataplane-pace-beside")
PROBE, END = Chain("probe", (rule(goto("end")),)), Chain("end", (rule(ACCEPT),))


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a kernel validates."""

    remembers: bool
    """Whether it goes through each chain once."""
    ns_per_visit: float = 0.0
    """How many nanoseconds a visit takes, if it doesn't remember."""
    is_wide: bool = False
    """Whether it validates all tables of the namespace at each commit."""

    def seconds(self, visits: int) -> float:
        """Return how many seconds so many visits take; 0 if the kernel remembers."""
        return 0.0 if self.remembers else visits * self.ns_per_visit / 1e9


REMEMBERING = Pace(remembers=True)


@dataclass(frozen=True, slots=True)
class Times:
    """How many seconds the same commit took at each of the three places, one right after the other."""

    deep: float
    """Where a base chain leads into the lattice."""
    beside: float
    """In another table of the namespace with the lattice."""
    flat: float
    """In a namespace without it."""


class Committer(Protocol):
    """Runs commits in one namespace."""

    def run(self, transaction: Transaction, /) -> None:
        """Make all changes of a transaction in one commit."""


def judge(times: Sequence[Times], visits: int) -> Pace:
    """Return the pace that the times show. `visits` is how many the lattice takes."""
    if statistics.median(entry.deep / entry.flat for entry in times) < SLOW:
        return REMEMBERING
    longer = min(entry.deep for entry in times) - min(entry.flat for entry in times)
    is_wide = statistics.median(entry.beside / entry.flat for entry in times) >= SLOW
    return Pace(remembers=False, ns_per_visit=1e9 * longer / visits, is_wide=is_wide)


def measure(deep: Committer, flat: Committer) -> Pace:
    """Measure the pace in two empty namespaces; the tables stay there."""
    lattice = lattice_of(LEVELS)
    deep.run(_create_table(lattice))
    deep.run(_create_table(Table(BESIDE.name, (END, PROBE))))
    flat.run(_create_table(Table(DEEP.name, (END, PROBE))))
    times = []
    for _ in range(ROUNDS):
        took = (_time_commit(deep, DEEP), _time_commit(deep, BESIDE), _time_commit(flat, DEEP))
        times.append(Times(*took))
    return judge(times, Visits.of(lattice).every_path)


def lattice_of(levels: int) -> Table:
    """Return a table in which each level leads to the next one three times.

    It does so by a rule and by two elements of a map, about as in our tables. Levels are loaded in the order of their
    names, in which they lead on. So a rule's target is empty when the rule is added, and the kernel walks only at the
    commit.
    """
    chains = [_level(number) for number in range(levels)]
    last = Chain(f"level-{levels:02}", (rule(Match(Field.CT_MARK, (Range.of(1),)), ACCEPT), rule(ACCEPT)))
    return Table(DEEP.name, (END, *chains, last, PROBE))


def _level(number: int) -> Chain:
    ahead = goto(f"level-{number + 1:02}")
    asked = VerdictMap(Field.CT_MARK, tuple((Range.of(key), ahead) for key in (1, 2)))
    hook = Hook("prerouting", -150) if number == 0 else None
    return Chain(f"level-{number:02}", (rule(asked), rule(ahead)), hook)


def _create_table(table: Table) -> Transaction:
    chains = [Operation(Verb.ADD, Kind.CHAIN, chain) for chain in table.chains]
    rules = [Operation(Verb.ADD, Kind.RULES, chain) for chain in table.chains]
    return Transaction.of(table, [Operation(Verb.ADD, Kind.TABLE, table), *chains, *rules])


def _time_commit(kernel: Committer, table: Table) -> float:
    """Return how many seconds a commit takes by the clock.

    Some kernels count a thread's processor time in steps of 10 ms, so that isn't used.
    """
    more = Transaction.of(table, [Operation(Verb.ADD, Kind.RULES, PROBE)])
    began = time.perf_counter()
    kernel.run(more)
    return time.perf_counter() - began

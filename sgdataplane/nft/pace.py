"""How fast a kernel validates chains: a small table with very many paths, and what follows from the time it takes.

Owns that table, the commits that are timed, and the judgement of their times. Is given doors to namespaces where
nothing else is. Must not know what is to be validated later, nor how doors are made.

The same commit is made where a base chain leads into the lattice (`deep`), into another table of that namespace
(`beside`), and where nothing but one chain is (`flat`). Only ratios of times decide whether it remembers: whatever
makes a machine slow does it to all three, in turns. The shortest times say how long a visit takes: what else the
machine does only makes them longer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sgdataplane.contract.fields import Field, Hook
from sgdataplane.nft.ir import ACCEPT, Chain, Match, Range, Table, VerdictMap, goto, rule
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.nft.visits import Visits

LEVELS, ROUNDS = 12, 5
SLOW = 3.0  # times the flat commit: of a kernel that remembers it is 1, of one that doesn't 10 to 40
DEEP, BESIDE = Table("sgdataplane-pace"), Table("sgdataplane-pace-beside")
PROBE, END = Chain("probe", (rule(goto("end")),)), Chain("end", (rule(ACCEPT),))


@dataclass(frozen=True, slots=True)
class Pace:
    """`remembers`: it goes through each chain once. `ns_per_visit`: nanoseconds of a visit (nft/visits.py), if it
    doesn't. `is_wide`: a commit to one table has all tables of the namespace validated."""

    remembers: bool
    ns_per_visit: float = 0.0
    is_wide: bool = False

    def seconds(self, visits: int) -> float:
        """What so many visits of every path take."""
        return 0.0 if self.remembers else visits * self.ns_per_visit / 1e9


REMEMBERING = Pace(remembers=True)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that the same commit took at the three places, one right after the other."""

    deep: float
    beside: float
    flat: float


class Door(Protocol):
    """To one namespace's nftables."""

    def run(self, transaction: Transaction) -> None: ...


def judge(times: Sequence[Times], visits: int) -> Pace:
    """What the times say, if the lattice takes so many visits."""
    if statistics.median(entry.deep / entry.flat for entry in times) < SLOW:
        return REMEMBERING
    longer = min(entry.deep for entry in times) - min(entry.flat for entry in times)
    is_wide = statistics.median(entry.beside / entry.flat for entry in times) >= SLOW
    return Pace(remembers=False, ns_per_visit=1e9 * longer / visits, is_wide=is_wide)


def measure(deep: Door, flat: Door) -> Pace:
    """By doors to two empty namespaces of their own; the tables stay there."""
    lattice = lattice_of(LEVELS)
    deep.run(_created(lattice))
    deep.run(_created(Table(BESIDE.name, (END, PROBE))))
    flat.run(_created(Table(DEEP.name, (END, PROBE))))
    times = []
    for _ in range(ROUNDS):
        took = (_timed(deep, DEEP), _timed(deep, BESIDE), _timed(flat, DEEP))
        times.append(Times(*took))
    return judge(times, Visits.of(lattice).every_path)


def lattice_of(levels: int) -> Table:
    """Each level leads to the next one three times: by a rule, and by two elements of a map, as tables of ours do in
    about these parts. Levels are named in the order in which they lead on, and loaded in this order: so what a rule
    leads to is empty when it comes, and nothing is walked but at the commit."""
    chains = [_level(number) for number in range(levels)]
    last = Chain(f"level-{levels:02}", (rule(Match(Field.CT_MARK, (Range.of(1),)), ACCEPT), rule(ACCEPT)))
    return Table(DEEP.name, (END, *chains, last, PROBE))


def _level(number: int) -> Chain:
    ahead = goto(f"level-{number + 1:02}")
    asked = VerdictMap(Field.CT_MARK, tuple((Range.of(key), ahead) for key in (1, 2)))
    hook = Hook("prerouting", -150) if number == 0 else None
    return Chain(f"level-{number:02}", (rule(asked), rule(ahead)), hook)


def _created(table: Table) -> Transaction:
    chains = [Operation(Verb.ADD, Kind.CHAIN, chain) for chain in table.chains]
    rules = [Operation(Verb.ADD, Kind.RULES, chain) for chain in table.chains]
    return Transaction.of(table, [Operation(Verb.ADD, Kind.TABLE, table), *chains, *rules])


def _timed(door: Door, table: Table) -> float:
    """By the clock: what a thread took of a processor is told in steps of 10 ms by some kernels."""
    more = Transaction.of(table, [Operation(Verb.ADD, Kind.RULES, PROBE)])
    began = time.perf_counter()
    door.run(more)
    return time.perf_counter() - began

"""A model of packets on their way during a commit (delta.py says what they see), and a kernel that keeps each commit.

Owns the mixture of two tables that such a packet is judged by. Must not know what is planned.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sgdataplane.nft.fake import FakeKernel
from sgdataplane.nft.ir import Chain, Map, Match, Rule, Statement, Table, VerdictMap
from sgdataplane.nft.transaction import Kind, Transaction, Verb


@dataclass(frozen=True)
class Commit:
    """One transaction on a table that was there before."""

    before: Table
    transaction: Transaction
    after: Table

    def mixture(self, chance: random.Random) -> Table:
        """The table as a packet on its way meets it. Each look-up is before or after the commit, by chance; the rules
        are the old ones."""
        ops = self.transaction.operations
        dying = {o.subject.name for o in ops if o.kind in (Kind.RULES, Kind.CHAIN) and o.verb is not Verb.ADD}
        chains = [_with_empty_sets(c) if c.name in dying and chance.random() < 0.7 else c for c in self.before.chains]
        born = [replace(c, rules=()) for c in self.after.chains if c.name not in self.before.chain]
        return replace(self.before, chains=(*chains, *born), maps=tuple(self._maps(chance)))

    def _maps(self, chance: random.Random) -> Iterator[Map]:
        for entry in self.before.maps:
            later = self.after.map.get(entry.name, replace(entry, elements=()))
            yield later if chance.random() < 0.7 else entry
        yield from (entry for entry in self.after.maps if entry.name not in self.before.map)


def _with_empty_sets(chain: Chain) -> Chain:
    return replace(chain, rules=tuple(Rule(tuple(_emptied(s) for s in rule.statements)) for rule in chain.rules))


def _emptied(statement: Statement) -> Statement:
    if isinstance(statement, VerdictMap) and not statement.name:
        return VerdictMap(statement.field)
    if isinstance(statement, Match) and statement.is_set:
        return replace(statement, ranges=())
    return statement


class RecordingKernel(FakeKernel):
    """Keeps each commit on a table that exists, in order; `on_the_way` says whether packets could span two commits."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.commits: list[Commit] = []
        self.settled_at: list[int] = []

    def run(self, transaction: Transaction) -> None:
        existed = self.inventory(self.name).exists
        before = self.table(self.name) if existed else None
        super().run(transaction)
        if before is not None and transaction.operations and self.inventory(self.name).exists:
            self.commits.append(Commit(before, transaction, self.table(self.name)))

    def settle(self) -> None:
        super().settle()
        self.settled_at.append(len(self.commits))

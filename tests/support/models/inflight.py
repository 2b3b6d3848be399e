"""A model of packets on their way during a commit (delta.py says what they see), and a kernel that keeps each commit.

Owns the mixture of two tables that such a packet is judged by. Must not know what is planned.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from sgdataplane.contract.fields import Field
from sgdataplane.contract.stamp import STAMP_MAP
from sgdataplane.nft.ir import Chain, Map, MapKey, Match, Rule, Statement, Table, VerdictMap
from sgdataplane.nft.transaction import Kind, Transaction, Verb
from tests.support.models.fakekernel import FakeKernel


@dataclass(frozen=True)
class Commit:
    """One transaction on a table, which may not have been there before (empty then)."""

    before: Table
    transaction: Transaction
    after: Table

    def on_the_way(self, chance: random.Random, *, may_miss: bool = False) -> Table:
        """The table as a packet on its way meets it. Each look-up is before or after the commit, by chance; the rules
        are the old ones. A base chain that is born lets it pass, as if it were not there. `may_miss`: as on a kernel
        where a look-up may find neither element of a key that the commit deletes and adds."""
        dying = self._dying
        chains = [dying[c.name] if c.name in dying and chance.random() < 0.7 else c for c in self.before.chains]
        maps = [self._missed(m) if may_miss and chance.random() < 0.5 else m for m in self._maps(chance)]
        return replace(self.before, chains=(*chains, *self._unborn), maps=tuple(maps))

    @property
    def has_replaced(self) -> bool:
        """Whether it gives a key that packets may ask for another element."""
        return any(self._replaced.get(entry.name) for entry in self.before.maps if entry.name != STAMP_MAP)

    def at_once_after(self, chance: random.Random) -> Table:
        """The table as the first packets after the commit meet it: sets without a name may not be filled yet."""
        born = self._born
        chains = (born[c.name] if c.name in born and chance.random() < 0.7 else c for c in self.after.chains)
        return replace(self.after, chains=tuple(chains))

    @cached_property
    def _dying(self) -> dict[str, Chain]:
        """The chains whose rules this commit takes away, emptied, by name."""
        return self._all_emptied(self.before, {Verb.FLUSH, Verb.DELETE})

    @cached_property
    def _born(self) -> dict[str, Chain]:
        """The chains whose rules it adds, emptied, by name."""
        return self._all_emptied(self.after, {Verb.ADD})

    @cached_property
    def _replaced(self) -> dict[str, set[MapKey]]:
        """The keys that it deletes and adds, by map."""
        gone, come = self._keys(Verb.DELETE, Verb.FLUSH), self._keys(Verb.ADD)
        return {name: gone[name] & come.get(name, set()) for name in gone}

    def _keys(self, *verbs: Verb) -> dict[str, set[MapKey]]:
        """The keys of elements that it adds or deletes, by map."""
        found: dict[str, set[MapKey]] = {}
        for entry in self.transaction.operations:
            if entry.verb in verbs and entry.kind is Kind.ELEMENTS and isinstance(entry.subject, Map):
                held = self.before.map[entry.subject.name] if entry.verb is Verb.FLUSH else entry.subject
                found.setdefault(held.name, set()).update(key for key, _ in held.elements)
        return found

    def _missed(self, entry: Map) -> Map:
        """The map as a look-up finds it that comes between the old element and the new one."""
        replaced = self._replaced.get(entry.name, set())
        return replace(entry, elements=tuple(e for e in entry.elements if e[0] not in replaced)) if replaced else entry

    @cached_property
    def _unborn(self) -> list[Chain]:
        """The chains that it adds, without rules. No packet on its way meets a new base chain."""
        return [replace(c, rules=()) for c in self.after.chains if c.name not in self.before.chain and not c.hook]

    def _all_emptied(self, table: Table, verbs: set[Verb]) -> dict[str, Chain]:
        ops = self.transaction.operations
        names = {o.subject.name for o in ops if o.verb in verbs and o.kind in (Kind.RULES, Kind.CHAIN)}
        return {name: _emptied(table.chain[name]) for name in names & table.chain.keys()}

    def _maps(self, chance: random.Random) -> Iterator[Map]:
        for entry in self.before.maps:
            later = self.after.map.get(entry.name, replace(entry, elements=()))
            yield later if chance.random() < 0.7 else entry
        yield from (entry for entry in self.after.maps if entry.name not in self.before.map)


def _emptied(chain: Chain) -> Chain:
    """Its sets and maps without a name hold nothing."""
    return replace(chain, rules=tuple(Rule(tuple(_hollow(s) for s in rule.statements)) for rule in chain.rules))


def _hollow(statement: Statement) -> Statement:
    if isinstance(statement, VerdictMap) and not statement.name:
        return VerdictMap(statement.field)
    if isinstance(statement, Match) and len(statement.ranges) > 1 and statement.field is not Field.CT_STATE:
        return replace(statement, ranges=())
    return statement


class RecordingKernel(FakeKernel):
    """Keeps each commit on one table, in order."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.commits: list[Commit] = []

    def run(self, *transactions: Transaction) -> None:
        before = self._held()
        super().run(*transactions)
        self.commits += [Commit(before, entry, self._held()) for entry in transactions if entry.operations]

    def _held(self) -> Table:
        return self.table(self.name) if self.inventory(self.name).exists else Table(self.name)

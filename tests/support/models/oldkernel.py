"""A kernel in memory that counts the chains it enters, as Linux 6.1 does: step by step, and nothing is remembered.

Owns when Linux 6.1 walks, and through what (net/netfilter/nf_tables_api.c). Shares nothing with the product, which
counts without walking (nft/validation.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from sgdataplane.nft.ir import Chain, Datum, Map, MapKey, Rule, Table, Verdict, VerdictMap
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.nft.validation import Pace
from tests.support.models.fakekernel import FakeKernel


@dataclass
class _Tables:
    """One table as it will be after the commit. `bindings`: how many rules ask a map; one that is deleted still counts
    until the commit."""

    rules: dict[str, list[Rule]] = field(default_factory=dict)
    bases: set[str] = field(default_factory=set)
    elements: dict[str, dict[MapKey, Datum]] = field(default_factory=dict)
    bindings: Counter[str] = field(default_factory=Counter)

    def enter(self, chain: str, known: dict[str, int]) -> int:
        """nft_chain_validate(). `known`: what was found at this moment; it saves time, and nothing else."""
        if chain not in known:
            known[chain] = 1 + sum(self.enter(t, known) for rule in self.rules[chain] for t in self.targets(rule))
        return known[chain]

    def targets(self, rule: Rule) -> Iterator[str]:
        for statement in rule.statements:
            if isinstance(statement, Verdict) and statement.chain:
                yield statement.chain
            elif isinstance(statement, VerdictMap):
                yield from _chains(verdict for _, verdict in statement.entries)
                yield from _chains(iter(self.elements[statement.name].values() if statement.name else ()))

    def validate(self) -> int:
        """nft_table_validate()."""
        known: dict[str, int] = {}
        return sum(self.enter(chain, known) for chain in self.bases)

    def add_rule(self, chain: str, rule: Rule) -> int:
        """nft_validate_register_store() for its own targets, nf_tables_bind_set() for those of maps that it asks."""
        known: dict[str, int] = {}
        self.bindings.update(_maps(rule))
        self.rules[chain].append(rule)
        return sum(self.enter(target, known) for target in self.targets(rule))

    def add_elements(self, entry: Map) -> int:
        """nft_add_set_elem()."""
        known: dict[str, int] = {}
        self.elements[entry.name].update(entry.elements)
        walked = sum(self.enter(target, known) for target in _chains(value for _, value in entry.elements))
        return self.bindings[entry.name] * walked

    def prune(self, wanted: Table) -> None:
        """What the table hasn't goes."""
        self.rules = {chain: rules for chain, rules in self.rules.items() if chain in wanted.chain}
        self.bases &= wanted.chain.keys()
        self.elements = {name: elements for name, elements in self.elements.items() if name in wanted.map}

    def commit(self) -> None:
        self.bindings = Counter(name for rules in self.rules.values() for rule in rules for name in _maps(rule))


@dataclass
class _Counted:
    visits: int = 0
    is_needed: bool = False


class OldKernel(FakeKernel):
    """`walked`: chains entered since it was made. `told`: the pace that it says it has. All tables are validated, if
    any is to be: so it is before Linux 6.4."""

    def __init__(self, told: Pace, interfaces: tuple[str, ...] = ()) -> None:
        super().__init__(interfaces)
        self.walked, self._told = 0, told
        self._seen: dict[tuple[str, str], _Tables] = {}

    def pace(self) -> Pace:
        return self._told

    def run(self, *transactions: Transaction) -> None:
        super().run(*transactions)
        counted = _Counted()
        for transaction in transactions:
            for operation in transaction.operations:
                self._do((transaction.family, transaction.name), operation, counted)
        if counted.is_needed:
            counted.visits += sum(table.validate() for table in self._seen.values())
        for table in self._seen.values():
            table.commit()
        self.walked += counted.visits

    def _do(self, name: tuple[str, str], operation: Operation, counted: _Counted) -> None:
        is_add = operation.verb is Verb.ADD
        match operation.subject:
            case Table() as table if operation.verb is Verb.PRUNE:
                self._seen[name].prune(table)
            case Table():
                self._seen.pop(name, None)
                if is_add:
                    self._seen[name] = _Tables()
            case Chain() as chain:
                self._do_chain(self._seen[name], operation, chain, counted)
            case Map() as entry:
                self._do_map(self._seen[name], operation, entry, counted)
            case _:
                pass

    def _do_map(self, table: _Tables, operation: Operation, entry: Map, counted: _Counted) -> None:
        match operation.verb, operation.kind:
            case Verb.ADD, Kind.MAP:
                table.elements.setdefault(entry.name, {})
            case _, Kind.MAP:
                del table.elements[entry.name]
            case Verb.ADD, _:
                counted.is_needed |= any(_chains(value for _, value in entry.elements))
                counted.visits += table.add_elements(entry)
            case Verb.FLUSH, _:
                table.elements[entry.name].clear()
            case _:
                for key, _ in entry.elements:
                    del table.elements[entry.name][key]

    def _do_chain(self, table: _Tables, operation: Operation, chain: Chain, counted: _Counted) -> None:
        match operation.verb, operation.kind:
            case Verb.ADD, Kind.CHAIN:
                table.rules.setdefault(chain.name, [])
                table.bases |= {chain.name} if chain.hook else set()
            case Verb.ADD, Kind.RULES:
                counted.is_needed = True
                counted.visits += sum(table.add_rule(chain.name, rule) for rule in chain.rules)
            case Verb.FLUSH, _:
                table.rules[chain.name].clear()
            case Verb.DELETE, Kind.CHAIN:
                del table.rules[chain.name]
                table.bases.discard(chain.name)
            case _:
                pass


def _chains(values: Iterator[Datum]) -> Iterator[str]:
    return (value.chain for value in values if isinstance(value, Verdict) and value.chain)


def _maps(rule: Rule) -> list[str]:
    return [entry.name for entry in rule.statements if isinstance(entry, VerdictMap) and entry.name]

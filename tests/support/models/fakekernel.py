"""FakeKernel: a Kernel in memory, held to the same contract tests as the real one.

Owns the references between objects, as the kernel judges them. Is given transactions. Must not know packets.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from sgdataplane.contract.fields import KeyType
from sgdataplane.contract.stamp import STAMP_MAP, Stamp, next_generation
from sgdataplane.errors import BusyError, ExistsError, KernelError, NotFoundError
from sgdataplane.nft.counters import Counted
from sgdataplane.nft.ir import (
    Chain,
    Count,
    Counter,
    Datum,
    InSet,
    Map,
    MapCount,
    MapKey,
    MapPriority,
    Rule,
    SetTimeout,
    Table,
    Timeout,
    Verdict,
    VerdictMap,
)
from sgdataplane.nft.outline import Outline, stamp_of
from sgdataplane.nft.snapshot import Inventory, MapShape
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.nft.validation import REMEMBERING, Pace

Elements = dict[MapKey, Datum]
Reference = tuple[Kind, str]
TableKey = tuple[str, str]  # family, name
K = TypeVar("K")
V = TypeVar("V")


@dataclass
class _Held:
    """One table. Chains hold their rules; maps are kept without elements, these beside them. `dropping`: the base
    chains whose policy is drop."""

    chains: dict[str, Chain] = field(default_factory=dict)
    dropping: set[str] = field(default_factory=set)
    maps: dict[str, Map] = field(default_factory=dict)
    elements: dict[str, Elements] = field(default_factory=dict)
    counters: dict[str, Counter] = field(default_factory=dict)
    timeouts: dict[str, Timeout] = field(default_factory=dict)
    packets: dict[str, int] = field(default_factory=dict)

    def copied(self) -> _Held:
        """Nothing that changes is shared."""
        elements = {name: dict(held) for name, held in self.elements.items()}
        chains, maps, counters = dict(self.chains), dict(self.maps), dict(self.counters)
        return _Held(chains, set(self.dropping), maps, elements, counters, dict(self.timeouts), dict(self.packets))


class FakeKernel:
    """`interfaces` are those it has; `count` and `packets_of` stand for packets that meet a counter; `settled` says how
    often one waited."""

    is_missing = False  # whether its look-ups may miss a key that a commit gives another value

    def __init__(self, interfaces: Iterable[str] = ()) -> None:
        self.generation = 1
        self.settled = 0
        self._interfaces = frozenset(interfaces)
        self._tables: dict[TableKey, _Held] = {}

    def run(self, *transactions: Transaction) -> None:
        if not any(entry.operations for entry in transactions):
            return
        self._tables = self._after(*transactions)
        self.generation = next_generation(self.generation)

    def run_each(self, commits: Sequence[tuple[Transaction, ...]]) -> Iterator[tuple[Transaction, ...]]:
        for commit in commits:
            self.run(*commit)
            yield commit

    def check(self, transaction: Transaction, feature: str) -> None:  # noqa: ARG002
        self._after(transaction)

    def settle(self) -> None:
        self.settled += 1

    def may_miss(self) -> bool:
        return self.is_missing

    def pace(self) -> Pace:
        return REMEMBERING

    def interfaces(self) -> frozenset[str]:
        return self._interfaces

    def read_counters(self, name: str, counters: Iterable[str]) -> dict[str, Counted]:
        packets = self._tables["inet", name].packets if ("inet", name) in self._tables else {}
        return {counter: Counted(packets[counter], 0) for counter in counters if counter in packets}

    def read_trusted(self, outline: Outline) -> Inventory | None:
        found = self.inventory(outline.name, outline.family)
        is_same = found.stamp is not None and found.stamp.digest == outline.digest
        return found if is_same and found.is_untouched else None

    def read_vouched(self, table: Table) -> Inventory | None:
        found = self.inventory(table.name, table.family)
        is_same = found.stamp is not None and found.stamp.digest == stamp_of(table).digest
        hooks = {name: hook for name, hook in found.chains.items() if hook is not None}
        is_there = hooks == {chain.name: chain.hook for chain in table.chains if chain.hook is not None}
        return found if is_same and is_there else None

    def tables(self, prefix: str) -> tuple[str, ...]:
        return tuple(name for family, name in self._tables if family == "inet" and name.startswith(prefix))

    def inventory(self, name: str, family: str = "inet", most: int | None = None) -> Inventory:  # noqa: ARG002
        if (family, name) not in self._tables:
            return Inventory(self.generation, exists=False)
        held = self._tables[family, name]
        return Inventory(
            self.generation,
            chains={chain.name: chain.hook for chain in held.chains.values()},
            maps={entry.name: MapShape.of(entry) for entry in held.maps.values()},
            counters=frozenset(held.counters),
            timeouts=frozenset(held.timeouts),
            stamp=Stamp.of(held.elements.get(STAMP_MAP, {})),
            ifnames=frozenset(
                str(key)
                for entry in held.maps.values()
                if entry.key_type is KeyType.IFNAME and not entry.lifetime
                for key in held.elements[entry.name]
            ),
            expiring={
                entry.name: {str(key): entry.lifetime for key in held.elements[entry.name]}
                for entry in held.maps.values()
                if entry.lifetime
            },
        )

    def table(self, name: str, family: str = "inet") -> Table:
        """What the table holds for good, sorted by name; KeyError if there is none."""
        held = self._tables[family, name]
        maps = [
            entry
            if entry.lifetime
            else replace(entry, elements=tuple(sorted(held.elements[entry.name].items(), key=_order)))
            for entry in held.maps.values()
        ]
        return Table(
            name,
            tuple(sorted(held.chains.values(), key=lambda entry: entry.name)),
            tuple(sorted(maps, key=lambda entry: entry.name)),
            tuple(sorted(held.counters.values(), key=lambda entry: entry.name)),
            tuple(sorted(held.timeouts.values(), key=lambda entry: entry.name)),
            family,
        )

    def count(self, name: str, counter: str) -> None:
        self._tables["inet", name].packets[counter] += 1

    def packets_of(self, name: str, counter: str) -> int:
        return self._tables["inet", name].packets[counter]

    def dropping(self, name: str, family: str = "inet") -> frozenset[str]:
        """Base chains whose policy is drop."""
        return frozenset(self._tables[family, name].dropping)

    def _after(self, *transactions: Transaction) -> dict[TableKey, _Held]:
        """All tables as they will be; KernelError if an operation can't be done."""
        tables = {name: held.copied() for name, held in self._tables.items()}
        for transaction, operation in ((entry, operation) for entry in transactions for operation in entry.operations):
            try:
                _do(tables, (transaction.family, transaction.name), operation)
            except KernelError as error:
                line = next(line for line, entry in transaction.lines() if entry is operation)
                raise type(error)(error.detail, operation=line, origin=operation.origin) from None
        return tables


class RefusingKernel(FakeKernel):
    """Refuses the commit with the number `refused` (1 is the first), and runs all others."""

    def __init__(self, interfaces: Iterable[str] = ()) -> None:
        super().__init__(interfaces)
        self.turn, self.refused = 0, 0

    def run(self, *transactions: Transaction) -> None:
        if any(entry.operations for entry in transactions):
            self.turn += 1
            if self.turn == self.refused:
                raise KernelError("made up")
        super().run(*transactions)


def _order(element: tuple[MapKey, Datum]) -> tuple[str, int, str]:
    match element[0]:
        case str(ifname):
            return ifname, 0, ""
        case int(value):
            return "", value, ""
        case (value, ifname):
            return "", value, ifname


def _do(tables: dict[TableKey, _Held], name: TableKey, operation: Operation) -> None:
    if operation.kind is Kind.TABLE and operation.verb is not Verb.PRUNE:
        _do_table(tables, name, operation.verb)
        return
    held = _found(tables, name)
    match operation.subject:
        case Table() as table:
            _prune(held, table)
        case Chain() as chain:
            _do_chain(held, operation, chain)
        case Map() as entry:
            _do_map(held, operation, entry)
        case Counter() as counter:
            _do_counter(held, operation.verb, counter)
        case Timeout() as timeout:
            _do_timeout(held, operation.verb, timeout)


def _do_table(tables: dict[TableKey, _Held], name: TableKey, verb: Verb) -> None:
    if verb is Verb.ADD:
        tables.setdefault(name, _Held())
    else:
        _found(tables, name)
        del tables[name]


def _prune(held: _Held, table: Table) -> None:
    """Rules go first, since they refer to all else, then maps."""
    gone = held.chains.keys() - table.chain.keys()
    held.chains = {name: chain for name, chain in held.chains.items() if name not in gone}
    held.dropping &= table.chain.keys()
    held.maps = {name: entry for name, entry in held.maps.items() if name in table.map}
    held.elements = {name: elements for name, elements in held.elements.items() if name in table.map}
    for name in gone:
        _check_unused(held, (Kind.CHAIN, name))
    timeouts = {entry.name for entry in table.timeouts}
    for counter in [entry for entry in held.counters.values() if entry.name not in table.counter]:
        _do_counter(held, Verb.DELETE, counter)
    for timeout in [entry for entry in held.timeouts.values() if entry.name not in timeouts]:
        _do_timeout(held, Verb.DELETE, timeout)


def _do_chain(held: _Held, operation: Operation, chain: Chain) -> None:
    match operation.verb, operation.kind:
        case Verb.ADD, Kind.CHAIN:
            present = held.chains.setdefault(chain.name, replace(chain, rules=()))
            if chain.hook not in (None, present.hook):
                raise ExistsError("File exists")
        case verb, Kind.POLICY:
            if chain.name not in held.chains or held.chains[chain.name].hook is None:
                raise KernelError("Operation not supported")
            (held.dropping.add if verb is Verb.ADD else held.dropping.discard)(chain.name)
        case Verb.ADD, _:
            present = _found(held.chains, chain.name)
            for rule in chain.rules:
                _check_targets(held, _references(rule))
            held.chains[chain.name] = replace(present, rules=present.rules + chain.rules)
        case Verb.FLUSH, _:
            held.chains[chain.name] = replace(_found(held.chains, chain.name), rules=())
        case _:
            _found(held.chains, chain.name)
            own = held.chains.pop(chain.name)
            held.dropping.discard(own.name)
            _check_unused(held, (Kind.CHAIN, own.name))


def _do_map(held: _Held, operation: Operation, entry: Map) -> None:
    match operation.verb, operation.kind:
        case Verb.ADD, Kind.MAP:
            present = held.maps.setdefault(entry.name, replace(entry, elements=()))
            held.elements.setdefault(entry.name, {})
            if MapShape.of(present) != MapShape.of(entry):
                raise ExistsError("File exists")
        case Verb.ADD, _:
            _add_elements(held, _found(held.elements, entry.name), entry)
        case Verb.FLUSH, _:
            _found(held.elements, entry.name).clear()
        case Verb.DELETE, Kind.ELEMENTS:
            elements = _found(held.elements, entry.name)
            for key, _ in entry.elements:
                _found(elements, key)
                del elements[key]
        case _:
            _found(held.maps, entry.name)
            _check_unused(held, (Kind.MAP, entry.name))
            del held.maps[entry.name], held.elements[entry.name]


def _add_elements(held: _Held, elements: Elements, entry: Map) -> None:
    for key, value in entry.elements:
        _check_targets(held, _targets([value]))
        if elements.setdefault(key, value) != value:
            raise ExistsError("File exists")


def _do_counter(held: _Held, verb: Verb, counter: Counter) -> None:
    if verb is Verb.ADD:
        held.counters.setdefault(counter.name, counter)
        held.packets.setdefault(counter.name, 0)
        return
    _found(held.counters, counter.name)
    _check_unused(held, (Kind.COUNTER, counter.name))
    del held.counters[counter.name], held.packets[counter.name]


def _do_timeout(held: _Held, verb: Verb, timeout: Timeout) -> None:
    if verb is Verb.ADD:
        held.timeouts.setdefault(timeout.name, timeout)
        return
    _found(held.timeouts, timeout.name)
    _check_unused(held, (Kind.TIMEOUT, timeout.name))
    del held.timeouts[timeout.name]


# references: what a rule or an element names


def _references(rule: Rule) -> Iterator[Reference]:
    for statement in rule.statements:
        match statement:
            case Verdict():
                yield from _targets([statement])
            case VerdictMap(_, entries, name):
                yield from _targets(verdict for _, verdict in entries)
                yield from [(Kind.MAP, name)] if name else []
            case MapPriority(_, name) | MapCount(_, name) | InSet(_, _, name):
                yield Kind.MAP, name
            case Count(counter):
                yield Kind.COUNTER, counter
            case SetTimeout(timeout):
                yield Kind.TIMEOUT, timeout


def _targets(values: Iterable[Datum]) -> Iterator[Reference]:
    for value in values:
        if isinstance(value, Count):
            yield Kind.COUNTER, value.counter
        elif isinstance(value, Verdict) and value.chain:
            yield Kind.CHAIN, value.chain


def _check_targets(held: _Held, references: Iterable[Reference]) -> None:
    objects: dict[Kind, Container[str]] = {
        Kind.CHAIN: held.chains,
        Kind.MAP: held.maps,
        Kind.COUNTER: held.counters,
        Kind.TIMEOUT: held.timeouts,
    }
    if not all(name in objects[kind] for kind, name in references):
        raise NotFoundError("No such file or directory")


def _check_unused(held: _Held, wanted: Reference) -> None:
    by_rules = (found for chain in held.chains.values() for rule in chain.rules for found in _references(rule))
    by_elements = (found for elements in held.elements.values() for found in _targets(elements.values()))
    if wanted in by_rules or wanted in by_elements:
        raise BusyError("Device or resource busy")


def _found(objects: Mapping[K, V], name: K) -> V:
    if name not in objects:
        raise NotFoundError("No such file or directory")
    return objects[name]

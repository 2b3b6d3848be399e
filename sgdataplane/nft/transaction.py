"""Transaction: typed operations on one table, in order, that the kernel takes whole or not at all.

Owns which operations exist, and their order. Is given IR objects. Must not know nft syntax (text.py has it),
nor what the kernel holds.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sgdataplane.errors import InternalError
from sgdataplane.nft import text
from sgdataplane.nft.ir import Chain, Counter, Map, Table, Timeout


class Verb(enum.Enum):
    ADD = "add"
    FLUSH = "flush"
    DELETE = "delete"


class Kind(enum.Enum):
    """What an operation acts on. RULES are all those of a chain, ELEMENTS some of a map (all, for a flush). POLICY is a
    base chain's: with it added, what no rule decides is dropped; without it, as at first, accepted."""

    __hash__ = object.__hash__  # members are compared by identity; Enum's own is ten times slower

    TABLE = "table"
    CHAIN = "chain"
    POLICY = "policy"
    RULES = "rules"
    MAP = "map"
    ELEMENTS = "elements"
    COUNTER = "counter"
    TIMEOUT = "timeout"


Subject = Table | Chain | Map | Counter | Timeout

_SUBJECT = {
    Kind.TABLE: Table,
    Kind.CHAIN: Chain,
    Kind.POLICY: Chain,
    Kind.RULES: Chain,
    Kind.MAP: Map,
    Kind.ELEMENTS: Map,
    Kind.COUNTER: Counter,
    Kind.TIMEOUT: Timeout,
}
_FLUSHABLE = (Kind.RULES, Kind.ELEMENTS)


@dataclass(frozen=True, slots=True)
class Operation:
    """One verb and its object. A delete or flush looks at the subject's name only, except DELETE ELEMENTS: its keys."""

    verb: Verb
    kind: Kind
    subject: Subject

    def __post_init__(self) -> None:
        is_known = (self.verb is not Verb.FLUSH or self.kind in _FLUSHABLE) and (
            self.verb is not Verb.DELETE or self.kind is not Kind.RULES
        )
        if not is_known or not isinstance(self.subject, _SUBJECT[self.kind]):
            raise InternalError(f"no such operation: {self}")

    @property
    def origin(self) -> str:
        """The user's rule that the operation is for; "" if none."""
        return self.subject.origin if isinstance(self.subject, Chain) else ""

    @property
    def size(self) -> int:
        """Objects that it adds or takes away: rules and elements count one each."""
        if self.verb is Verb.FLUSH:
            return 1
        if isinstance(self.subject, Chain) and self.kind is Kind.RULES:
            return len(self.subject.rules)
        if isinstance(self.subject, Map) and self.kind is Kind.ELEMENTS:
            return len(self.subject.elements)
        return 1


@dataclass(frozen=True, slots=True)
class Transaction:
    """Operations on the table `name` of `family`. Empty ones (no rules or elements to add) are left out."""

    name: str
    operations: tuple[Operation, ...] = ()
    family: str = "inet"

    @classmethod
    def of(cls, table: Table, operations: Iterable[Operation]) -> Transaction:
        return cls(table.name, tuple(entry for entry in operations if entry.size), table.family)

    def __len__(self) -> int:
        return sum(entry.size for entry in self.operations)

    def lines(self) -> Iterator[tuple[str, Operation]]:
        """The nft text, one operation a line (long lists of elements several), with the operation it came from."""
        table = Table(self.name, family=self.family)
        for entry in self.operations:
            for line in _lines(table, entry):
                yield line, entry

    def __str__(self) -> str:
        return "".join(f"{line}\n" for line, _ in self.lines())


def _lines(table: Table, entry: Operation) -> Iterable[str]:
    """The text of one operation."""
    match entry.subject:
        case Table():
            return [text.add_table(table) if entry.verb is Verb.ADD else text.delete_table(table)]
        case Chain():
            return _chain_lines(table, entry.verb, entry.kind, entry.subject)
        case Map():
            return _map_lines(table, entry.verb, entry.kind, entry.subject)
        case Counter(name):
            is_add = entry.verb is Verb.ADD
            return [text.add_counter(table, entry.subject) if is_add else text.delete_counter(table, name)]
        case Timeout(name):
            is_add = entry.verb is Verb.ADD
            return [text.add_timeout(table, entry.subject) if is_add else text.delete_timeout(table, name)]


def _chain_lines(table: Table, verb: Verb, kind: Kind, chain: Chain) -> Iterable[str]:
    match verb, kind:
        case Verb.ADD, Kind.RULES:
            return text.add_rules(table, chain)
        case _, Kind.POLICY:
            return [text.set_policy(table, chain.name, "drop" if verb is Verb.ADD else "accept")]
        case Verb.ADD, _:
            return [text.add_chain(table, chain)]
        case Verb.FLUSH, _:
            return [text.flush_chain(table, chain.name)]
        case _:
            return [text.delete_chain(table, chain.name)]


def _map_lines(table: Table, verb: Verb, kind: Kind, entry: Map) -> Iterable[str]:
    match verb, kind:
        case Verb.ADD, Kind.ELEMENTS:
            return text.add_elements(table, entry)
        case Verb.ADD, _:
            return [text.add_map(table, entry)]
        case Verb.FLUSH, _:
            return [text.flush_map(table, entry.name)]
        case Verb.DELETE, Kind.ELEMENTS:
            keys = (key for key, _ in entry.elements)
            return text.delete_elements(table, entry.name, entry.key_type, keys)
        case _:
            return [text.delete_map(table, entry.name)]

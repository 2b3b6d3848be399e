"""Define transactions: typed operations on one table, in order, that the kernel takes whole or not at all.

Owns which operations exist, and how each is written. It must not know nft syntax (text.py), the kernel's messages
(messages.py), or what the kernel holds.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from sgdataplane.contract.fields import KeyType
from sgdataplane.errors import InternalError
from sgdataplane.nft import text
from sgdataplane.nft.ir import Chain, Counter, Map, MapKey, Table, Timeout, is_set
from sgdataplane.nft.messages import Messages, Writer


class Verb(enum.Enum):
    """What an operation does."""

    ADD = "add"
    FLUSH = "flush"
    DELETE = "delete"
    PRUNE = "prune"


class Kind(enum.Enum):
    """What an operation acts on.

    RULES are all rules of a chain. ELEMENTS are some elements of a map, or all for a flush. POLICY is that of a base
    chain: once it is added, packets that no rule decides are dropped; before that, they are accepted.
    """

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
PART = 8000  # a part adds up to so many objects, unless one operation adds more
LIGHT = 16  # so many elements count as one other object, since the kernel doesn't go through them


@dataclass(frozen=True, slots=True)
class Operation:
    """One verb and its object.

    A delete or flush uses only the subject's name; DELETE ELEMENTS uses its keys, too. PRUNE TABLE deletes all objects,
    of whatever kind, that the table has in the kernel and the subject has not.
    """

    verb: Verb
    kind: Kind
    subject: Subject
    size: int = field(init=False, compare=False, repr=False)
    """How many objects it adds or takes away; each rule and each element is one."""
    sent: dict[tuple[str, str], tuple[Messages, ...]] | None = field(
        default=None, init=False, compare=False, repr=False
    )
    """Its messages, by table and family, once they are kept."""

    def __post_init__(self) -> None:
        is_known = (
            (self.verb is not Verb.FLUSH or self.kind in _FLUSHABLE)
            and (self.verb is not Verb.DELETE or self.kind is not Kind.RULES)
            and (self.verb is not Verb.PRUNE or self.kind is Kind.TABLE)
        )
        if not is_known or not isinstance(self.subject, _SUBJECT[self.kind]):
            raise InternalError(f"no such operation: {self}")
        object.__setattr__(self, "size", self._count())  # each is asked several times

    @property
    def origin(self) -> str:
        """The user's rule that the operation is made for; "" if none."""
        return self.subject.origin if isinstance(self.subject, Chain) else ""

    def _count(self) -> int:
        """Count the objects that the operation adds or takes away."""
        if self.verb in (Verb.FLUSH, Verb.PRUNE):
            return 1
        if isinstance(self.subject, Chain) and self.kind is Kind.RULES:
            return len(self.subject.rules)
        if isinstance(self.subject, Map) and self.kind is Kind.ELEMENTS:
            return len(self.subject.elements)
        return 1


@dataclass(frozen=True, slots=True)
class Transaction:
    """Operations on one table."""

    name: str
    operations: tuple[Operation, ...] = ()
    family: str = "inet"
    is_part: bool = False
    """Whether it is one of several, as the load is a long one."""

    @classmethod
    def of(cls, table: Table, operations: Iterable[Operation]) -> Transaction:
        """Make a transaction. Operations that do nothing (no rules or elements to add) are left out."""
        return cls(table.name, tuple(entry for entry in operations if entry.size), table.family)

    def __len__(self) -> int:
        return sum(entry.size for entry in self.operations)

    def parts(self) -> tuple[Transaction, ...]:
        """Return the same in several transactions, none of them long.

        For each set without a name, the kernel goes through all that the transaction has done so far.
        """
        found: list[list[Operation]] = []
        room = 0
        for entry in self.operations:
            weight = entry.size if entry.kind is not Kind.ELEMENTS else 1 + entry.size // LIGHT
            if not found or weight > room:
                found.append([])
                room = PART
            found[-1].append(entry)
            room -= weight
        return tuple(replace(self, operations=tuple(part), is_part=len(found) > 1) for part in found)

    def lines(self) -> Iterator[tuple[str, Operation]]:
        """Yield the nft text, each line with the operation that it comes from.

        Long lists of elements take several lines.
        """
        table = Table(self.name, family=self.family)
        for entry in self.operations:
            for line in _write(text, table, entry):
                yield line, entry

    def requests(self) -> Iterator[tuple[Messages, Operation]]:
        """Yield the messages to the kernel, in the same parts as the text's lines, each with its operation.

        Those of a long load aren't kept: hardly another namespace has the same, and they would be tens of megabytes.
        """
        table, where = Table(self.name, family=self.family), (self.name, self.family)
        writer = Writer(is_keeping=not self.is_part)
        for entry in self.operations:
            for messages in (
                _write(writer, table, entry) if entry.sent is None else _write_once(writer, table, entry, where)
            ):
                yield messages, entry

    def __str__(self) -> str:
        return "".join(f"{line}\n" for line, _ in self.lines())


MAX_KEPT = 1 << 12  # so many additions are kept
SMALL = 64  # an addition with more rules or elements isn't kept
_KEPT: dict[tuple[Kind, int], Operation] = {}


def make_addition(kind: Kind, subject: Subject) -> Operation:
    """Return the operation that adds an object.

    Many tables have the same objects. For these it is always the same operation, and from the second time on its
    messages are kept. So no batch may have it twice: a rule finds its unnamed set by a number.
    """
    key = kind, id(subject)  # the operation keeps the subject, so that its number stays its own
    found = _KEPT.get(key)
    if found is None:
        found = Operation(Verb.ADD, kind, subject)
        if found.size <= SMALL:
            if len(_KEPT) >= MAX_KEPT:
                _KEPT.clear()
            _KEPT[key] = found
    elif found.sent is None:
        object.__setattr__(found, "sent", {})
    return found


def _write_once(writer: Writer, table: Table, entry: Operation, where: tuple[str, str]) -> tuple[Messages, ...]:
    assert entry.sent is not None
    if where not in entry.sent:
        entry.sent[where] = tuple(_write(writer, table, entry))
    return entry.sent[where]


T_co = TypeVar("T_co", covariant=True)


class Language(Protocol[T_co]):
    """A way to write operations: as text for people, or as messages to the kernel."""

    def add_table(self, table: Table, /) -> T_co:
        """Write what adds a table."""

    def delete_table(self, table: Table, /) -> T_co:
        """Write what deletes a table."""

    def delete_others(self, table: Table, /) -> T_co:
        """Write what deletes all objects that others put into a table."""

    def delete_object(self, table: Table, kind: str, name: str, /) -> T_co:
        """Write what deletes an object; `kind` is chain, map, set, counter, or ct timeout."""

    def flush_object(self, table: Table, kind: str, name: str, /) -> T_co:
        """Write what flushes an object; `kind` is chain, map or set."""

    def add_chain(self, table: Table, chain: Chain, /) -> T_co:
        """Write what adds a chain."""

    def set_policy(self, table: Table, name: str, verdict: str, /) -> T_co:
        """Write what sets a base chain's policy."""

    def add_rules(self, table: Table, chain: Chain, /) -> Iterator[T_co]:
        """Write what appends a chain's rules."""

    def add_map(self, table: Table, entry: Map, /) -> T_co:
        """Write what adds a map or set."""

    def add_elements(self, table: Table, entry: Map, /) -> Iterator[T_co]:
        """Write what adds a map's elements."""

    def delete_elements(self, table: Table, name: str, key_type: KeyType, keys: Iterable[MapKey], /) -> Iterator[T_co]:
        """Write what deletes elements by their keys."""

    def add_counter(self, table: Table, counter: Counter, /) -> T_co:
        """Write what adds a counter."""

    def add_timeout(self, table: Table, timeout: Timeout, /) -> T_co:
        """Write what adds a timeout."""


_WORDS = {Chain: "chain", Map: "map", Counter: "counter", Timeout: "ct timeout"}  # nft's words


def _write(say: Language[T_co], table: Table, entry: Operation) -> Iterable[T_co]:
    """Write one operation in a language."""
    match entry.verb, entry.kind:
        case _, Kind.POLICY:
            return [say.set_policy(table, entry.subject.name, "drop" if entry.verb is Verb.ADD else "accept")]
        case Verb.ADD, _:
            return _add(say, table, entry)
        case Verb.PRUNE, _:
            return [say.delete_others(table)]
        case Verb.DELETE, Kind.TABLE:
            return [say.delete_table(table)]
        case Verb.DELETE, Kind.ELEMENTS:
            assert isinstance(entry.subject, Map)
            keys = (key for key, _ in entry.subject.elements)
            return say.delete_elements(table, entry.subject.name, entry.subject.key_type, keys)
        case Verb.FLUSH, _:
            return [say.flush_object(table, _word(entry.subject), entry.subject.name)]
        case _:
            return [say.delete_object(table, _word(entry.subject), entry.subject.name)]


def _word(subject: Subject) -> str:
    return "set" if isinstance(subject, Map) and is_set(subject) else _WORDS[type(subject)]


def _add(say: Language[T_co], table: Table, entry: Operation) -> Iterable[T_co]:
    """Write an operation that adds something."""
    match entry.subject:
        case Chain():
            is_rules = entry.kind is Kind.RULES
            return say.add_rules(table, entry.subject) if is_rules else [say.add_chain(table, entry.subject)]
        case Map():
            is_elements = entry.kind is Kind.ELEMENTS
            return say.add_elements(table, entry.subject) if is_elements else [say.add_map(table, entry.subject)]
        case Counter():
            return [say.add_counter(table, entry.subject)]
        case Timeout():
            return [say.add_timeout(table, entry.subject)]
        case Table():
            return [say.add_table(table)]

"""nftables objects as frozen values: what a table holds, before any text or message.

Owns these types, and what follows from them alone: ranges that can be joined, the order in which chains lead on. Must
not know clouds, nft syntax or the kernel. Keys are integers (addresses, ports, protocol numbers, marks) or interface
names; both ends of a range are part of it.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TypeVar

from sgdataplane.contract.fields import Field, Hook, KeyType
from sgdataplane.net.values import Prefix
from sgdataplane.nft import pages

Key = int | str
LOGGED_BYTES = 256  # of each packet that is logged: headers, extension headers of IPv6 included


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Keys `first..last`; a single key has both equal."""

    first: Key
    last: Key

    @classmethod
    def of(cls, key: Key) -> Range:
        return cls(key, key)


def prefix_range(prefix: Prefix) -> Range:
    """The first and the last address of a prefix."""
    return Range(prefix.first, prefix.last)


class VerdictKind(enum.Enum):
    ACCEPT = "accept"
    DROP = "drop"
    JUMP = "jump"
    GOTO = "goto"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`chain` is the target of a jump or goto, else empty."""

    kind: VerdictKind
    chain: str = ""


ACCEPT, DROP, RETURN = (Verdict(kind) for kind in (VerdictKind.ACCEPT, VerdictKind.DROP, VerdictKind.RETURN))


@lru_cache(maxsize=1 << 16)
def goto(chain: str) -> Verdict:
    """The same object for the same chain: maps have many equal values."""
    return Verdict(VerdictKind.GOTO, chain)


def jump(chain: str) -> Verdict:
    return Verdict(VerdictKind.JUMP, chain)


@dataclass(frozen=True, slots=True)
class Match:
    """Holds when `field & mask` lies in one of `ranges` (disjoint, sorted), or in none of them if `negate`.

    A field that the packet lacks never holds, negated or not: the kernel ends the rule there.
    """

    field: Field
    ranges: tuple[Range, ...]
    negate: bool = False
    mask: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether the kernel makes it a set without a name. Conntrack states are bits of one comparison."""
        return len(self.ranges) > 1 and self.field is not Field.CT_STATE


def is_value(asked: Field, *values: Key) -> Match:
    """The field holds one of these values."""
    return Match(asked, tuple(Range.of(value) for value in sorted(values)))


@dataclass(frozen=True, slots=True)
class VerdictMap:
    """Take the verdict of the entry that holds the field's value; go on with the next rule when there is none.

    Either a named map or the entries themselves (disjoint, sorted).
    """

    field: Field
    entries: tuple[tuple[Range, Verdict], ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """Count the packet in a named counter."""

    counter: str


@dataclass(frozen=True, slots=True)
class Log:
    """Tell whoever listens to the nflog group of a packet, and which counter has just counted it; of so many packets a
    second, and no more. Nothing may follow it in its rule, as that would happen to these packets only."""

    counter: str
    group: int
    per_second: int


@dataclass(frozen=True, slots=True)
class Exceeds:
    """Holds for what comes faster than this to its rule: packets a second, or bytes; so many at once are none too many.
    The kernel keeps the count with the rule."""

    per_second: int
    burst: int
    is_bytes: bool = False

    def times(self, factor: int) -> Exceeds:
        return Exceeds(self.per_second * factor, self.burst * factor, self.is_bytes)


@dataclass(frozen=True, slots=True)
class SetMark:
    """Write the conntrack mark: `(mark & keep) | value`. Does nothing for a packet without a conntrack entry."""

    keep: int
    value: int


@dataclass(frozen=True, slots=True)
class SetTimeout:
    """Give the session, at its first packet, the idle timeouts of a named timeout object."""

    timeout: str


@dataclass(frozen=True, slots=True)
class SetPacketMark:
    """Write the packet's own mark, which goes with it to the device and no further."""

    value: int


Statement = Match | Exceeds | VerdictMap | Count | Log | SetMark | SetPacketMark | SetTimeout | Verdict


@dataclass(frozen=True, slots=True)
class Rule:
    statements: tuple[Statement, ...]
    comment: str = ""


def rule(*statements: Statement, comment: str = "") -> Rule:
    return Rule(statements, comment)


@dataclass(frozen=True, slots=True)
class Chain:
    """`origin` names the user's rule (or other input) that it was made for, for messages; "" if none. `texts`: the
    rules as text, where it was made already; a copy with other rules has none."""

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None
    comment: str = ""
    origin: str = ""
    texts: tuple[str, ...] = field(default=(), init=False, compare=False, repr=False)
    _ways: Ways | None = field(default=None, init=False, compare=False, repr=False)

    def with_texts(self, texts: tuple[str, ...]) -> Chain:
        """Remember the rules' text."""
        object.__setattr__(self, "texts", texts)
        return self

    @property
    def ways(self) -> Ways:
        """Where its rules send packets; found out once."""
        if self._ways is None:
            object.__setattr__(self, "_ways", Ways.of(self.rules))
        assert self._ways is not None
        return self._ways


@dataclass(frozen=True, slots=True)
class Ways:
    """The chains that rules name, and the named maps that they ask."""

    chains: tuple[str, ...]
    maps: tuple[str, ...]

    @classmethod
    def of(cls, rules: tuple[Rule, ...]) -> Ways:
        statements = [statement for entry in rules for statement in entry.statements]
        maps = [entry for entry in statements if isinstance(entry, VerdictMap)]
        verdicts = [entry for entry in statements if isinstance(entry, Verdict)]
        verdicts += [verdict for entry in maps for _, verdict in entry.entries]
        chains = dict.fromkeys(verdict.chain for verdict in verdicts if verdict.chain)
        return cls(tuple(chains), tuple(dict.fromkeys(entry.name for entry in maps if entry.name)))


Elements = pages.Elements[Key, Verdict | int]
Page = pages.Page[Key, Verdict | int]
Paged = pages.Paged[Key, Verdict | int]


@dataclass(frozen=True, slots=True)
class Map:
    """A named map of single keys; its values are verdicts, or marks (integers). A large one has its elements in pages.

    `lifetime`: milliseconds after which each element goes by itself, 0: never. Only the kernel knows what is left in
    such a map; its `elements` here are those to add, and all of them have the verdict `return`.
    """

    name: str
    key_type: KeyType
    elements: Elements
    comment: str = ""
    holds_marks: bool = False
    lifetime: int = 0


@dataclass(frozen=True, slots=True)
class Counter:
    name: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Timeout:
    """Idle timeouts in seconds by conntrack state, for one transport and family (nf_conntrack_timeout)."""

    name: str
    protocol: str
    family: str
    policy: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Table:
    """Everything one table holds; each tuple sorted by name, so that equal tables have equal text."""

    name: str
    chains: tuple[Chain, ...] = ()
    maps: tuple[Map, ...] = ()
    counters: tuple[Counter, ...] = ()
    timeouts: tuple[Timeout, ...] = ()
    family: str = field(default="inet")

    @cached_property
    def chain(self) -> dict[str, Chain]:
        return {chain.name: chain for chain in self.chains}

    @cached_property
    def map(self) -> dict[str, Map]:
        return {entry.name: entry for entry in self.maps}

    @cached_property
    def counter(self) -> dict[str, Counter]:
        return {entry.name: entry for entry in self.counters}

    @cached_property
    def _elements(self) -> dict[str, dict[Key, Verdict | int]]:
        return {}

    def elements_of(self, name: str) -> dict[Key, Verdict | int]:
        """A named map's elements by key."""
        if name not in self._elements:
            self._elements[name] = dict(self.map[name].elements)
        return self._elements[name]


Value = TypeVar("Value")


def joined(entries: Iterable[tuple[Range, Value]]) -> list[tuple[Range, Value]]:
    """Those that touch and have the same value as one. (Names don't touch.)"""
    found: list[tuple[Range, Value]] = []
    for span, value in entries:
        before, said = found[-1] if found else (None, None)
        if before and said == value and not isinstance(before.last, str) and before.last + 1 == span.first:
            found[-1] = Range(before.first, span.last), value
        else:
            found.append((span, value))
    return found


def targets_first(targets: Mapping[str, Collection[str]]) -> list[str]:
    """Each name after all that it leads to, all of which are names, too. Left out are those in a circle, and those that
    lead to one."""
    sources: dict[str, list[str]] = {name: [] for name in targets}
    for name, others in targets.items():
        for other in others:
            sources[other].append(name)
    left = {name: len(others) for name, others in targets.items()}
    found = [name for name, count in left.items() if not count]
    for name in found:
        for source in sources[name]:
            left[source] -= 1
            if not left[source]:
                found.append(source)
    return found

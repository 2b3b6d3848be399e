"""Represent nftables objects as frozen values: what a table holds, before any text or message.

Owns these types, and what follows from them alone: ranges that can be joined, the order in which chains lead on. It
must not know clouds, nft syntax or the kernel. Keys are integers (addresses, ports, protocol numbers, marks) or
interface names; both ends of a range are part of it.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from operator import attrgetter

from sgdataplane.contract.fields import Field, Hook, KeyType
from sgdataplane.net.values import Prefix
from sgdataplane.nft import pages

Key = int | str
Pair = tuple[int, str]  # a value, and the interface at which it counts
LOGGED_BYTES = 256  # so much of each logged packet is kept: its headers, extension headers of IPv6 included


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """The keys `first..last`, both included. For a single key both are equal."""

    first: Key
    last: Key

    @classmethod
    def of(cls, key: Key) -> Range:
        """Make the range of a single key."""
        return cls(key, key)


def prefix_range(prefix: Prefix) -> Range:
    """Return the range from the first to the last address of a prefix."""
    return Range(prefix.first, prefix.last)


class VerdictKind(enum.Enum):
    """What a verdict does with the packet."""

    __hash__ = object.__hash__  # members are compared by identity; Enum's own is ten times slower

    ACCEPT = "accept"
    DROP = "drop"
    JUMP = "jump"
    GOTO = "goto"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict of a rule, or of an element of a map."""

    kind: VerdictKind
    chain: str = ""
    """The target of a jump or goto; else ""."""


ACCEPT, DROP, RETURN = (Verdict(kind) for kind in (VerdictKind.ACCEPT, VerdictKind.DROP, VerdictKind.RETURN))


@lru_cache(maxsize=1 << 16)
def goto(chain: str) -> Verdict:
    """Make a goto. It is always the same object for the same chain, since maps have many equal values."""
    return Verdict(VerdictKind.GOTO, chain)


def jump(chain: str) -> Verdict:
    """Make a jump."""
    return Verdict(VerdictKind.JUMP, chain)


@dataclass(frozen=True, slots=True)
class Match:
    """Holds when `field & mask` lies in one of `ranges` (disjoint, sorted), or in none of them if `negate`.

    It never holds for a packet that lacks the field, negated or not: the kernel ends the rule there. But an interface
    that isn't known is an empty name, so that a negated match on it holds.
    """

    field: Field
    ranges: tuple[Range, ...]
    negate: bool = False
    mask: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether the kernel makes it a set without a name. Conntrack states are bits in one comparison."""
        return len(self.ranges) > 1 and self.field is not Field.CT_STATE


def is_value(asked: Field, *values: Key) -> Match:
    """Make a match that holds when the field has one of these values."""
    return Match(asked, tuple(Range.of(value) for value in sorted(values)))


@dataclass(frozen=True, slots=True)
class VerdictMap:
    """Takes the verdict of the entry whose range holds the field's value; if there is none, the next rule is asked.

    It has either a named map or entries of its own (disjoint, sorted).
    """

    field: Field
    entries: tuple[tuple[Range, Verdict], ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class InSet:
    """Holds when a named set has the pair of `field & mask` and the name of the packet's `interface`.

    With `negate`, it holds when the set hasn't the pair. It never holds for a packet that lacks one of both.
    """

    field: Field
    interface: Field
    name: str
    negate: bool = False
    mask: int | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """Count the packet in a named counter."""

    counter: str


@dataclass(frozen=True, slots=True)
class Log:
    """Logs a packet to the nflog group, with the counter that has just counted it, at a limited rate.

    Nothing may follow it in its rule, since that would happen to the logged packets only.
    """

    counter: str
    """The counter that names the log."""
    group: int
    """The nflog group."""
    per_second: int
    """At most so many packets a second are logged."""


@dataclass(frozen=True, slots=True)
class Exceeds:
    """Holds for packets that reach their rule faster than this rate, beyond a burst.

    The kernel keeps the count with the rule.
    """

    per_second: int
    """Packets a second; bytes a second if `is_bytes`."""
    burst: int
    """In the same unit."""
    is_bytes: bool = False
    """Whether it counts bytes, and not packets."""

    def times(self, factor: int) -> Exceeds:
        """Return the limit multiplied by a factor."""
        return Exceeds(self.per_second * factor, self.burst * factor, self.is_bytes)


@dataclass(frozen=True, slots=True)
class OneIn:
    """Holds for one packet in `number`, chosen at random."""

    number: int


@dataclass(frozen=True, slots=True)
class SessionsExceed:
    """Counts the packet's session in a named set, and holds when there are too many.

    The set counts sessions for the pair of `field & mask` and the name of the packet's `interface`. The kernel keeps
    the sessions with the set's element, which outlasts the rule.
    """

    field: Field
    interface: Field
    name: str
    most: int
    """The statement holds when more than so many of the sessions are still tracked and open."""
    mask: int


@dataclass(frozen=True, slots=True)
class Remember:
    """Adds the pair of `field & mask` and the interface's name to a named set, for a time.

    It does nothing if the set has the pair.
    """

    field: Field
    interface: Field
    name: str
    milliseconds: int
    mask: int


@dataclass(frozen=True, slots=True)
class SetMark:
    """Writes the conntrack mark: `(mark & keep) | value`. Does nothing to a packet without a conntrack entry."""

    keep: int
    value: int


@dataclass(frozen=True, slots=True)
class SetTimeout:
    """Gives a session, at its first packet, the idle timeouts of a named timeout object."""

    timeout: str


@dataclass(frozen=True, slots=True)
class SetPacketMark:
    """Writes the packet's own mark, which stays with it as far as the device."""

    value: int


@dataclass(frozen=True, slots=True)
class SetPriority:
    """Writes the packet's priority."""

    value: int


@dataclass(frozen=True, slots=True)
class MapPriority:
    """Writes what a named map holds for the field's value into the packet's priority.

    If the map holds nothing, or the packet lacks the field, the priority stays and the next rule is asked.
    """

    field: Field
    name: str


@dataclass(frozen=True, slots=True)
class MapCount:
    """Counts the packet in the counter that a named map holds for the field's value.

    With `interface`, the key is the pair of the value and the interface's name. If the map holds no counter, or the
    packet lacks one of both, the next rule is asked.
    """

    field: Field
    name: str
    interface: Field | None = None


Effect = Count | SetMark | SetPacketMark | SetPriority | SetTimeout
Filling = SessionsExceed | Remember  # these add elements to a named set
OfMap = VerdictMap | MapPriority | MapCount | InSet | Filling  # these may ask or fill a named map or set
Statement = Match | Exceeds | OneIn | OfMap | Log | Effect | Verdict


@dataclass(frozen=True, slots=True)
class Rule:
    """Statements in order. Where a condition doesn't hold, the packet goes on to the next rule."""

    statements: tuple[Statement, ...]
    comment: str = ""
    """A comment for people who list the rules."""


def rule(*statements: Statement, comment: str = "") -> Rule:
    """Make a rule of these statements."""
    return Rule(statements, comment)


@dataclass(frozen=True, slots=True)
class Chain:
    """Rules in order."""

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None
    """Where packets come to it, if it is a base chain."""
    comment: str = ""
    origin: str = ""
    """The user's rule (or other input) that it was made for, for messages; "" if none."""
    texts: tuple[str, ...] = field(default=(), init=False, compare=False, repr=False)
    """The rules as text, where that exists already. A copy with other rules has none."""
    _ways: Ways | None = field(default=None, init=False, compare=False, repr=False)

    def with_texts(self, texts: tuple[str, ...]) -> Chain:
        """Make the chain remember its rules' text, and return it."""
        object.__setattr__(self, "texts", texts)
        return self

    @property
    def ways(self) -> Ways:
        """Where its rules send packets. It is worked out once."""
        if self._ways is None:
            object.__setattr__(self, "_ways", Ways.of(self.rules))
        assert self._ways is not None
        return self._ways


@dataclass(frozen=True, slots=True)
class Ways:
    """What rules refer to."""

    chains: tuple[str, ...]
    """The chains that they lead to, except by named maps."""
    maps: tuple[str, ...]
    """The named maps and sets that they ask or fill."""
    priorities: tuple[int, ...]
    """The priorities that they write."""

    @classmethod
    def of(cls, rules: tuple[Rule, ...]) -> Ways:
        """Read rules."""
        chains, maps, priorities = dict[str, None](), dict[str, None](), dict[int, None]()
        for statement in (statement for entry in rules for statement in entry.statements):
            if isinstance(statement, Verdict):
                chains[statement.chain] = None
            elif isinstance(statement, SetPriority):
                priorities[statement.value] = None
            elif isinstance(statement, OfMap):
                maps[statement.name] = None
                if isinstance(statement, VerdictMap):
                    chains.update((verdict.chain, None) for _, verdict in statement.entries)
        return cls(_but_none(chains), _but_none(maps), tuple(priorities))


def _but_none(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names except the empty one, which stands for none."""
    return tuple([name for name in names if name])


Datum = Verdict | int | Count
MapKey = Key | Pair
MEMBER = 0  # stands for what an element of a set holds, which is nothing
Elements = pages.Elements[MapKey, Datum]
MapPage = pages.MapPage[MapKey, Datum]
Paged = pages.Paged[MapKey, Datum]


@dataclass(frozen=True, slots=True)
class Map:
    """A named map or set. A large one has its elements in pages.

    It maps single keys to verdicts, integers (marks, or priorities) or counters, or pairs to counters. A set is a map
    of pairs that holds NOTHING, for which MEMBER stands.
    """

    name: str
    key_type: KeyType
    elements: Elements
    comment: str = ""
    holds: KeyType | None = None
    """What its elements hold; None if they hold verdicts."""
    lifetime: int = 0
    """Milliseconds after which each element expires; 0 if none does.

    Only the kernel knows what is left in such a map. Its `elements` here are those to add, and all of them have the
    verdict `return`.
    """
    room: int = 0
    """If it isn't 0, packets add the elements, up to so many, and only the kernel knows them."""


def is_set(entry: Map) -> bool:
    """Return whether it is a set."""
    return entry.holds is KeyType.NOTHING


@dataclass(frozen=True, slots=True)
class Counter:
    """A named counter."""

    name: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Timeout:
    """Idle timeouts in seconds by conntrack state, for one transport and family (nf_conntrack_timeout)."""

    name: str
    protocol: str
    """The transport: "tcp" or "udp"."""
    family: str
    """The family: "ip" or "ip6"."""
    policy: tuple[tuple[str, int], ...]
    """Pairs of a state, as nft calls it, and the seconds after which it times out."""


@dataclass(frozen=True)
class Table:
    """Everything that one table holds. Each tuple is sorted by name, so that equal tables have equal text."""

    name: str
    chains: tuple[Chain, ...] = ()
    maps: tuple[Map, ...] = ()
    counters: tuple[Counter, ...] = ()
    timeouts: tuple[Timeout, ...] = ()
    family: str = field(default="inet")
    """nft's word for the table's family: inet, netdev or arp."""

    @cached_property
    def chain(self) -> dict[str, Chain]:
        """The chains by name."""
        return {chain.name: chain for chain in self.chains}

    def chain_of(self, name: str) -> Chain:
        """Return the chain of that name, without an index of all chains.

        Raises:
            KeyError: There is none.
        """
        place = bisect_left(self.chains, name, key=attrgetter("name"))
        if place == len(self.chains) or self.chains[place].name != name:
            raise KeyError(name)
        return self.chains[place]

    @cached_property
    def map(self) -> dict[str, Map]:
        """The maps by name."""
        return {entry.name: entry for entry in self.maps}

    @cached_property
    def counter(self) -> dict[str, Counter]:
        """The counters by name."""
        return {entry.name: entry for entry in self.counters}

    @cached_property
    def priorities(self) -> frozenset[Datum]:
        """All that the rules may write into a packet's priority."""
        constants = frozenset(value for chain in self.chains for value in chain.ways.priorities)
        maps = (entry for entry in self.maps if entry.holds is KeyType.CLASSID)
        return constants.union(*(pages.values(entry.elements) for entry in maps))

    @cached_property
    def _elements(self) -> dict[str, dict[MapKey, Datum]]:
        return {}

    def elements_of(self, name: str) -> dict[MapKey, Datum]:
        """Return a named map's elements by key."""
        if name not in self._elements:
            self._elements[name] = dict(self.map[name].elements)
        return self._elements[name]

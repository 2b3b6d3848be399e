"""Write rules as the kernel's instructions, and keys and values as bytes. text.py does the same for people.

Owns the way from statements to instructions, and the checks that a field needs before it may be read. It must not know
messages. decode.py is the way back. Tests compare the result with what the nft program makes of the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Literal

from sgdataplane.contract import names
from sgdataplane.contract.fields import PAIRED, Field, KeyType
from sgdataplane.errors import InternalError
from sgdataplane.net.headers import FRAGMENT
from sgdataplane.nft import uapi, wire
from sgdataplane.nft.ir import (
    LOGGED_BYTES,
    Count,
    Exceeds,
    Filling,
    InSet,
    Key,
    Log,
    MapCount,
    MapKey,
    MapPriority,
    Match,
    OneIn,
    Range,
    Remember,
    Rule,
    SessionsExceed,
    SetMark,
    SetPacketMark,
    SetPriority,
    SetTimeout,
    Statement,
    Verdict,
    VerdictMap,
)
from sgdataplane.nft.layout import (
    CT,
    HOST_ORDER,
    LONGEST,
    MARK_KEY,
    META,
    PLACES,
    PRIORITY_KEY,
    TAKES,
    order_of,
    order_of_key,
)

META_KEYS = {name: key for key, name in META.items()}
CT_KEYS = {name: key for key, name in CT.items()}
IIFTYPE, ETHERNET = 8, 1  # NFT_META_IIFTYPE, ARPHRD_ETHER
JOINED_BYTES = 4  # up to this size, the kernel has a fast path for loads and comparisons
IN_FRAMES: Mapping[Field, Mapping[int, int]] = {
    Field.NFPROTO: {2: 0x0800, 10: 0x86DD}
}  # in netdev tables, by the type of the frame
ARP = (Field.PROTOCOL, 0x0806)
OF_ETHERNET = (Field.ETHER_SADDR, Field.ETHER_TYPE)
OF_ARP = frozenset(name for name in Field if name.name.startswith("ARP_"))
ONE_BYTE = (Field.L4PROTO, Field.CT_PROTOCOL, Field.IP6_FRAGMENT)  # these have one byte, but aren't in a header
Entry = tuple[Range, Verdict | None]


@dataclass(frozen=True, slots=True)
class Nameless:
    """A set or map without a name, which goes with its rule."""

    number: int
    """The number by which the rule finds it in the batch that makes both."""
    asked: Field
    """The field that is looked up."""
    entries: tuple[Entry, ...]
    """Its ranges, each with a verdict; None in a set."""

    @property
    def is_map(self) -> bool:
        """Whether it holds verdicts."""
        return self.entries[0][1] is not None

    @property
    def is_interval(self) -> bool:
        """Whether it has ranges, and not only single values."""
        return _has_range(span for span, _ in self.entries)

    @property
    def template(self) -> str:
        """The template of its name, into which the kernel puts a number."""
        return "__map%d" if self.is_map else "__set%d"


@dataclass(frozen=True, slots=True)
class Encoded:
    """A rule as the kernel takes it."""

    instructions: bytes
    """Its instructions, one after the other."""
    sets: tuple[Nameless, ...]
    """The sets that must be made before it."""


def encode_rule(rule: Rule, family: str, numbers: Iterator[int]) -> Encoded:
    """Encode one rule. `numbers` yields unused numbers for its sets without a name."""
    writer = _Writer(family, numbers)
    for statements in _join_matches(rule.statements):
        writer.write(statements)
    return Encoded(b"".join(writer.parts), tuple(writer.sets))


def _join_matches(statements: Sequence[Statement]) -> Iterator[tuple[Statement, ...]]:
    """Yield each statement by itself, but two matches together if their fields lie side by side."""
    left = list(reversed(statements))
    while left:
        first = left.pop()
        if left and isinstance(first, Match) and isinstance(left[-1], Match) and _are_neighbours(first, left[-1]):
            yield first, left.pop()
        else:
            yield (first,)


def _are_neighbours(one: Match, other: Match) -> bool:
    if not all(_is_plain(entry) and entry.field in PLACES for entry in (one, other)):
        return False
    (base, start, size), (other_base, other_start, other_size) = PLACES[one.field], PLACES[other.field]
    is_next = other_start == start + size or start == other_start + other_size
    return base == other_base and is_next and size + other_size <= JOINED_BYTES


def _is_plain(match: Match) -> bool:
    """Return whether a match asks for one value."""
    is_single = len(match.ranges) == 1 and match.ranges[0].first == match.ranges[0].last
    return is_single and not match.negate and match.mask is None


@dataclass
class _Writer:
    """Collects the instructions of one rule."""

    family: str
    """The family of the table, which decides what a field needs."""
    numbers: Iterator[int]
    """Unused numbers for sets without a name."""
    parts: list[bytes] = field(default_factory=list)
    sets: list[Nameless] = field(default_factory=list)
    known: dict[Field, Key] = field(default_factory=dict)
    """The values that fields certainly have after the instructions so far."""
    is_ethernet: bool = False
    """Whether the instructions so far have checked that the link is Ethernet."""

    def write(self, statements: tuple[Statement, ...]) -> None:
        """Add the instructions of one statement, or of two matches side by side."""
        match statements:
            case (Match() as one, Match() as other):
                self._compare_both(one, other)
            case (Match() as condition,):
                self._match(condition)
            case (Exceeds(rate, burst, is_bytes),):
                self.parts.append(wire.limit(rate, burst, is_bytes=is_bytes, is_above=True))
            case (VerdictMap() as asked,):
                self._look_up(asked)
            case (MapPriority(asked, name),):
                self._load(asked)
                self.parts += (wire.look_up(name, is_value=True), wire.set_meta(PRIORITY_KEY))
            case (MapCount() as counting,):
                self._count_by(counting)
            case (InSet() as condition,):
                self._load_pair(condition)
                self.parts.append(wire.is_in(condition.name, is_other=condition.negate))
            case (SessionsExceed() | Remember() as filling,):
                self._fill(filling)
            case (effect,):
                self.parts += _effect(effect)

    def _compare_both(self, one: Match, other: Match) -> None:
        """Compare two fields side by side at once."""
        first, second = sorted((one, other), key=lambda entry: PLACES[entry.field][1])
        for entry in (one, other):
            self._take(entry.field)
        (base, start, size), (_, _, other_size) = PLACES[first.field], PLACES[second.field]
        data = b"".join(key_bytes(entry.field, entry.ranges[0].first) for entry in (first, second))
        self.parts += (wire.payload(base, start, size + other_size), wire.compare(data))

    def _match(self, match: Match) -> None:
        """Compare a field with values, ranges, or a set without a name."""
        self._load(match.field)
        if match.field is Field.CT_STATE:
            self.parts += _states(match)
            return
        self._mask(match)
        if _has_range(match.ranges):
            self._put_in_order(match.field)
        if match.is_set:
            entries: list[Entry] = [(span, None) for span in match.ranges]
            self.parts.append(self._ask_nameless(match.field, entries, is_other=match.negate))
            return
        (span,) = match.ranges
        if span.first == span.last:
            self.parts.append(wire.compare(key_bytes(match.field, span.first), is_other=match.negate))
        else:
            ends = (range_bytes(match.field, key) for key in (span.first, span.last))
            self.parts.append(wire.within(*ends, is_other=match.negate))
        if _is_plain(match):
            self.known[match.field] = span.first

    def _mask(self, condition: Match | InSet | Filling) -> None:
        if condition.mask is not None:
            mask = number_bytes(condition.field, condition.mask)
            self.parts.append(wire.mask_register(mask, bytes(len(mask))))

    def _fill(self, filling: Filling) -> None:
        self._load_pair(filling)
        if isinstance(filling, SessionsExceed):
            self.parts.append(wire.count_sessions(filling.name, filling.most))
        else:
            self.parts.append(wire.remember(filling.name, filling.milliseconds))

    def _load_pair(self, asked: InSet | Filling) -> None:
        self._load(asked.field)
        self._mask(asked)
        self._load_behind(asked.field, asked.interface)

    def _count_by(self, counting: MapCount) -> None:
        self._load(counting.field)
        if counting.interface is not None:
            self._load_behind(counting.field, counting.interface)
        self.parts.append(wire.refer_by(counting.name))

    def _load_behind(self, asked: Field, interface: Field) -> None:
        self.parts.append(wire.meta(META_KEYS[interface], wire.BEHIND[size_of(asked)]))

    def _look_up(self, asked: VerdictMap) -> None:
        """Look a field up in a named map, or in one without a name."""
        self._load(asked.field)
        if asked.name:
            self.parts.append(wire.look_up(asked.name))
            return
        if _has_range(span for span, _ in asked.entries):
            self._put_in_order(asked.field)
        self.parts.append(self._ask_nameless(asked.field, list(asked.entries)))

    def _ask_nameless(self, asked: Field, entries: list[Entry], *, is_other: bool = False) -> bytes:
        made = Nameless(next(self.numbers), asked, tuple(entries))
        self.sets.append(made)
        return wire.look_up_nameless(made.template, made.number, is_other=is_other, is_map=made.is_map)

    def _put_in_order(self, asked: Field) -> None:
        """Give the value that was loaded the byte order in which the kernel can compare ranges."""
        if asked.key_type in (KeyType.IFNAME, KeyType.CT_STATE):
            raise InternalError(f"a range of {asked.name}, whose values have no order")
        if asked.key_type in HOST_ORDER:
            self.parts.append(wire.in_order(size_of(asked)))

    def _load(self, asked: Field) -> None:
        self._take(asked)
        self.parts.append(_load_field(asked))

    def _take(self, asked: Field) -> None:
        """Add the checks that a field needs, but for those that are known to hold."""
        is_framed = self.family == "netdev"
        taken = (*TAKES.get(asked, ()), *((ARP,) if asked in OF_ARP else ()))
        for name, value in taken:
            wanted = (Field.PROTOCOL, IN_FRAMES[name][value]) if is_framed and name in IN_FRAMES else (name, value)
            if self.known.get(wanted[0]) != wanted[1]:
                self.parts += (_load_field(wanted[0]), wire.compare(key_bytes(*wanted)))
                self.known[wanted[0]] = wanted[1]
        if asked in OF_ETHERNET and not self.is_ethernet:
            self.parts += (wire.meta(IIFTYPE), wire.compare(ETHERNET.to_bytes(2, order_of(Field.PACKET_MARK))))
            self.is_ethernet = True


@lru_cache(maxsize=len(Field))
def _load_field(asked: Field) -> bytes:
    if asked is Field.IP6_FRAGMENT:
        return wire.has_header(FRAGMENT)
    if asked in META_KEYS:
        return wire.meta(META_KEYS[asked])
    return wire.ct(*CT_KEYS[asked]) if asked in CT_KEYS else wire.payload(*PLACES[asked])


def _states(match: Match) -> Iterator[bytes]:
    """Yield a comparison of conntrack states, which are bits: any of them may be set."""
    bits = number_bytes(match.field, sum(int(span.first) for span in match.ranges))
    yield wire.mask_register(bits, bytes(len(bits)))
    yield wire.compare(bytes(len(bits)), is_other=not match.negate)


def _effect(statement: Statement) -> tuple[bytes, ...]:
    """Return the instructions of an effect, a verdict, or a random choice."""
    match statement:
        case OneIn(number):
            return wire.random_below(number), wire.compare(bytes(4))
        case Verdict():
            return (wire.decide(statement),)
        case Count(counter):
            return (wire.refer(uapi.OBJ_COUNTER, counter),)
        case SetTimeout(timeout):
            return (wire.refer(uapi.OBJ_TIMEOUT, timeout),)
        case Log(counter, group, rate):
            return wire.limit(rate, rate), wire.log(group, LOGGED_BYTES, names.log_prefix(counter))
        case SetPacketMark(value):
            return wire.constant(number_bytes(Field.PACKET_MARK, value)), wire.set_meta(MARK_KEY)
        case SetPriority(value):
            return wire.constant(number_bytes(Field.PACKET_PRIORITY, value)), wire.set_meta(PRIORITY_KEY)
        case SetMark(keep, value):
            mask, flipped = (number_bytes(Field.CT_MARK, number) for number in (keep & ~value, value))
            before, between, behind = _mark_frame(mask=b"mask", flipped=b"flip")
            return (before + mask + between + flipped + behind,)
        case _:
            raise InternalError(f"no instruction for {statement}")


@cache
def _mark_frame(mask: bytes, flipped: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the instructions that write the mark, split at mask and value.

    Each epoch has another value for each ENI.
    """
    before, rest = (wire.ct(MARK_KEY) + wire.mask_register(mask, flipped) + wire.set_ct(MARK_KEY)).split(mask)
    between, behind = rest.split(flipped)
    return before, between, behind


def _has_range(spans: Iterable[Range]) -> bool:
    return any(span.first != span.last for span in spans)


# keys


def number_bytes(asked: Field, value: int) -> bytes:
    """Return the bytes of a number in a field, in the kernel's byte order for it."""
    return value.to_bytes(*_form_of(asked))


@cache
def _form_of(asked: Field) -> tuple[int, Literal["little", "big"]]:
    return size_of(asked), order_of(asked)


def size_of(asked: Field) -> int:
    """Return how many bytes a value of the field has."""
    if asked in PLACES:
        return PLACES[asked][2]
    return 1 if asked in ONE_BYTE else LONGEST[asked.key_type]


def key_bytes(asked: Field, key: Key) -> bytes:
    """Return the bytes of a field's value.

    An interface name that ends in * stands for all names that begin so, and isn't padded.
    """
    if isinstance(key, str):
        return name_bytes(key)
    return number_bytes(asked, key)


def range_bytes(asked: Field, key: Key) -> bytes:
    """Return the bytes of an end of a range, in the order in which the kernel compares them."""
    return int(key).to_bytes(size_of(asked), "big")


@lru_cache(maxsize=1 << 12)
def name_bytes(ifname: str) -> bytes:
    """Return the bytes of an interface name: padded with zeros, or without its * at the end."""
    data = names.check_interface(ifname).encode()
    return data[:-1] if data.endswith(b"*") else data.ljust(LONGEST[KeyType.IFNAME], b"\0")


def map_key_bytes(key_type: KeyType, key: MapKey) -> bytes:
    """Return the bytes of a key in a named map."""
    if isinstance(key, tuple):
        return map_key_bytes(PAIRED[key_type], key[0]) + name_bytes(key[1])
    if isinstance(key, str):
        return name_bytes(key)
    return key.to_bytes(LONGEST[key_type], order_of_key(key_type))

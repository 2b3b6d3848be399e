"""Turn a rule as the kernel holds it back into statements: the inverse of encode.py.

Owns that way. It is given the expressions of one rule, and access to sets. It must not know tables. It reports
expressions that it doesn't know, and never guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from sgdataplane.contract import names
from sgdataplane.contract.fields import CtState, Field, KeyType
from sgdataplane.host.netlink import parse_attributes, text_of
from sgdataplane.nft import uapi
from sgdataplane.nft.ir import (
    LOGGED_BYTES,
    Count,
    InSet,
    Key,
    Log,
    MapCount,
    MapPriority,
    Match,
    OneIn,
    Range,
    Remember,
    SessionsExceed,
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
    PRIORITY_KEY,
    Order,
    UnreadableError,
    fields_at,
    key_of,
    order_of,
    verdict_of,
)
from sgdataplane.nft.registers import Register, Registers
from sgdataplane.nft.uapi import number_of
from sgdataplane.nft.writes import limit_of, mark_set, priority_set

Attributes = Mapping[int, bytes]
LOOKED_UP = "a look-up of a value"
IGNORED = ("counter", "last")  # we never write these, but they decide nothing


class Sets(Protocol):
    """The sets and maps of the table. `order` is that of the bytes that a rule compares with their keys."""

    def has_name(self, name: str) -> bool:
        """Return whether it is a map or set with a name."""

    def find_paired(self, name: str) -> KeyType | None:
        """Return the kind of value that is paired with interface names in a set of ours; None if it isn't one."""

    def ranges(self, name: str, key_type: KeyType, order: Order) -> tuple[Range, ...]:
        """Return the keys of a set, sorted.

        Raises:
            UnreadableError: They aren't plain keys.
        """

    def verdicts(self, name: str, key_type: KeyType, order: Order) -> tuple[tuple[Range, Verdict], ...]:
        """Return the entries of a map without a name, sorted.

        Raises:
            UnreadableError: It holds anything else.
        """


@dataclass(frozen=True, slots=True)
class DecodedRule:
    """One rule as far as it can be read."""

    statements: tuple[Statement, ...]
    """The statements up to the first expression that can't be read."""
    ignored: tuple[str, ...] = ()
    """The names of expressions that were left out, since they decide nothing."""
    unreadable: str = ""
    """What couldn't be read, in words; "" if everything could."""


def read_rule(expressions: Iterable[tuple[str, Attributes]], sets: Sets) -> DecodedRule:
    """Read the expressions of one rule."""
    reader = _RuleReader(sets)
    try:
        for name, attributes in expressions:
            reader.take(name, attributes)
        reader.end()
    except UnreadableError as error:
        return DecodedRule(tuple(reader.statements), tuple(reader.ignored), str(error))
    return DecodedRule(tuple(reader.statements), tuple(reader.ignored))


@dataclass
class _RuleReader:
    """Reads one rule, expression by expression."""

    sets: Sets
    """The sets and maps of the table."""
    statements: list[Statement] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    registers: Registers = field(default_factory=Registers)
    """What the expressions so far have loaded."""
    known: dict[Field, Key] = field(default_factory=dict)
    """The fields that certainly have a value by now, as the rule has asked for it."""
    limit: int | None = None
    """The rate of a limit that waits for its log."""
    found: MapPriority | None = None
    """A look-up whose value isn't used yet."""

    def take(self, name: str, attributes: Attributes) -> None:
        """Read the next expression.

        Raises:
            UnreadableError: We never write it, or not there.
        """
        if self.limit is not None and name != "log":
            raise UnreadableError("limit")
        if self.found is not None and name != "meta":
            raise UnreadableError(LOOKED_UP)
        if name in IGNORED:
            self.ignored.append(name)
            return
        takers: dict[str, Callable[[Attributes], None]] = {
            "meta": self._meta,
            "ct": self._ct,
            "payload": self._payload,
            "bitwise": self._bitwise,
            "byteorder": self._byteorder,
            "cmp": self._cmp,
            "range": self._range,
            "lookup": self._lookup,
            "immediate": self._immediate,
            "objref": self._objref,
            "limit": self._limit,
            "log": self._log,
            "numgen": self._numgen,
            "dynset": self._dynset,
        }
        if name not in takers:
            raise UnreadableError(name)
        takers[name](attributes)

    def _meta(self, attributes: Attributes) -> None:
        key = number_of(attributes[uapi.META_KEY])
        self._load_or_set("meta", key, META.get(key), attributes, (uapi.META_DREG, uapi.META_SREG))

    def _ct(self, attributes: Attributes) -> None:
        key = number_of(attributes[uapi.CT_KEY])
        direction = number_of(attributes[uapi.CT_DIRECTION]) if uapi.CT_DIRECTION in attributes else None
        self._load_or_set("ct", key, CT.get((key, direction)), attributes, (uapi.CT_DREG, uapi.CT_SREG))

    def _load_or_set(
        self, what: str, key: int, loaded: Field | None, attributes: Attributes, parts: tuple[int, int]
    ) -> None:
        """Load the field `loaded` into a register, or set a field from one.

        `parts` are the attributes for the register to load into, and for the one to set from.
        """
        into, source = parts
        if source in attributes:
            self.statements.append(self._set(what, key, self._register_of(attributes, source)))
        elif self.found is not None:
            raise UnreadableError(LOOKED_UP)
        elif loaded is not None:
            self.registers.put(number_of(attributes[into]), Register((loaded,), (0,)))
        else:
            raise UnreadableError(f"{what} key {key}")

    def _set(self, what: str, key: int, held: Register) -> Statement:
        """Return the statement that sets a mark or the priority."""
        if (what, key) == ("meta", PRIORITY_KEY):
            found, self.found = self.found, None
            return priority_set(held, found)
        if key != MARK_KEY or self.found is not None:
            raise UnreadableError(f"{what} set, key {key}")
        return mark_set(what, held)

    def _payload(self, attributes: Attributes) -> None:
        """Load fields of a header into a register."""
        if uapi.PAYLOAD_DREG not in attributes:
            raise UnreadableError("payload set")
        base, offset, length = (
            number_of(attributes[a]) for a in (uapi.PAYLOAD_BASE, uapi.PAYLOAD_OFFSET, uapi.PAYLOAD_LENGTH)
        )
        found, lengths = fields_at(base, offset, length, self.known)
        part = length if sum(lengths) > length else 0
        self.registers.put(number_of(attributes[uapi.PAYLOAD_DREG]), Register(found, lengths, part))

    def _register_of(self, attributes: Attributes, name: int) -> Register:
        return self.registers.get(number_of(attributes[name]))

    def _bitwise(self, attributes: Attributes) -> None:
        """Apply mask and xor to a register."""
        held = self._register_of(attributes, uapi.BITWISE_SREG)
        if (
            number_of(attributes.get(uapi.BITWISE_OP, b""))
            or len(held.fields) != 1
            or held.mask is not None
            or held.part
            or held.is_swapped
        ):
            raise UnreadableError("bitwise of a kind that we don't write")
        order = order_of(held.fields[0])
        mask, xor = (int.from_bytes(_value(attributes[name]), order) for name in (uapi.BITWISE_MASK, uapi.BITWISE_XOR))
        self.registers.put(
            number_of(attributes[uapi.BITWISE_DREG]), Register(held.fields, held.lengths, mask=mask, xor=xor)
        )

    def _byteorder(self, attributes: Attributes) -> None:
        """Swap the byte order of a register."""
        held = self._register_of(attributes, uapi.BYTEORDER_SREG)
        sizes = {number_of(attributes[name]) for name in (uapi.BYTEORDER_LENGTH, uapi.BYTEORDER_SIZE)}
        is_plain = len(held.fields) == 1 and held.mask is None and not held.is_swapped
        if not is_plain or held.fields[0].key_type not in HOST_ORDER or sizes != {LONGEST[held.fields[0].key_type]}:
            raise UnreadableError("byteorder of a kind that we don't write")
        self.registers.put(number_of(attributes[uapi.BYTEORDER_DREG]), replace(held, is_swapped=True))

    def _cmp(self, attributes: Attributes) -> None:
        """Read a comparison of a register with a value, as one or several matches."""
        held, op = self._register_of(attributes, uapi.CMP_SREG), number_of(attributes[uapi.CMP_OP])
        data = _value(attributes[uapi.CMP_DATA])
        if held.below and op == uapi.EQ and not any(data):
            self.statements.append(OneIn(held.below))
            return
        if held.xor or not held.fields:
            raise UnreadableError("cmp of a value")
        if len(held.fields) > 1:
            self._cmp_each(held, op, data)
        elif held.fields[0] is Field.CT_STATE and held.mask is not None:
            self._cmp_states(held.mask, op, data)
        elif held.part:
            bits = 8 * (held.lengths[0] - held.part)
            first = int.from_bytes(data, "big") << bits
            self._match(held, Range(first, first | ((1 << bits) - 1)), op)
        else:
            self._match(held, Range.of(key_of(held.fields[0].key_type, data, held.order)), op)

    def _cmp_each(self, held: Register, op: int, data: bytes) -> None:
        """Read a comparison of several fields at once, as nft writes it where they lie side by side."""
        if op != uapi.EQ or held.mask is not None:
            raise UnreadableError("cmp of several fields")
        for name, length in zip(held.fields, held.lengths, strict=True):
            self._match(Register((name,), (length,)), Range.of(key_of(name.key_type, data[:length])), uapi.EQ)
            data = data[length:]

    def _cmp_states(self, bits: int, op: int, data: bytes) -> None:
        if op not in (uapi.EQ, uapi.NEQ) or any(data):
            raise UnreadableError("a comparison of conntrack states")
        states = tuple(Range.of(state) for state in CtState if state & bits)
        self.statements.append(Match(Field.CT_STATE, states, negate=op == uapi.EQ))

    def _match(self, held: Register, wanted: Range, op: int) -> None:
        """Add a match, and note a value that is certain then."""
        name = held.fields[0]
        if op in (uapi.EQ, uapi.NEQ):
            self.statements.append(Match(name, (wanted,), op == uapi.NEQ, held.mask))
            if op == uapi.EQ and held.mask is None and wanted.first == wanted.last:
                self.known[name] = wanted.first
            return
        if held.mask is not None or held.part or held.order != "big" or isinstance(wanted.first, str):
            raise UnreadableError("a comparison by size")
        self._compare(name, wanted.first, op)

    def _compare(self, name: Field, value: int, op: int) -> None:
        """Read a comparison by size. Two of them in a row are a range (nft 1.0)."""
        largest = (1 << 8 * LONGEST[name.key_type]) - 1
        spans = {
            uapi.LT: (0, value - 1),
            uapi.LTE: (0, value),
            uapi.GT: (value + 1, largest),
            uapi.GTE: (value, largest),
        }
        first, last = spans[op]
        before = self.statements[-1] if self.statements else None
        if isinstance(before, Match) and before == Match(name, before.ranges) and len(before.ranges) == 1:
            (span,) = before.ranges
            first, last = max(int(span.first), first), min(int(span.last), last)
            self.statements.pop()
        self.statements.append(Match(name, (Range(first, last),)))

    def _range(self, attributes: Attributes) -> None:
        """Read a comparison of a register with a range."""
        held = self._register_of(attributes, uapi.RANGE_SREG)
        ends = (_value(attributes[uapi.RANGE_FROM]), _value(attributes[uapi.RANGE_TO]))
        if len(held.fields) != 1 or held.mask is not None or held.part or held.order != "big":
            raise UnreadableError("a range of a kind that we don't write")
        first, last = (key_of(held.fields[0].key_type, end, held.order) for end in ends)
        self._match(held, Range(first, last), number_of(attributes[uapi.RANGE_OP]))

    def _lookup(self, attributes: Attributes) -> None:
        """Read a look-up in a set or map."""
        held, name = self._register_of(attributes, uapi.LOOKUP_SREG), text_of(attributes[uapi.LOOKUP_SET])
        paired = self.sets.find_paired(name)
        if paired is not None:
            self._in_set(held, name, paired, attributes)
            return
        if len(held.fields) != 1 or held.mask is not None or held.part:
            raise UnreadableError("a look-up of several fields, or of a part of one")
        (asked,) = held.fields
        if uapi.LOOKUP_DREG not in attributes:
            is_negated = bool(number_of(attributes.get(uapi.LOOKUP_FLAGS, b"")))
            self.statements.append(Match(asked, self.sets.ranges(name, asked.key_type, held.order), is_negated))
        else:
            self._look_up(held, name, number_of(attributes[uapi.LOOKUP_DREG]))

    def _in_set(self, held: Register, name: str, paired: KeyType, attributes: Attributes) -> None:
        asked, interface = self._pair(held, number_of(attributes[uapi.LOOKUP_SREG]), paired)
        is_negated = bool(number_of(attributes.get(uapi.LOOKUP_FLAGS, b"")))
        self.statements.append(InSet(asked, interface, name, is_negated, held.mask))

    def _pair(self, held: Register, number: int, paired: KeyType) -> tuple[Field, Field]:
        """Return the fields that this register and the one behind it hold."""
        second = self.registers.behind(number, LONGEST[paired])
        is_plain = len(held.fields) == len(second.fields) == 1 and not (held.part or held.xor or held.is_swapped)
        if not is_plain or second.fields[0].key_type is not KeyType.IFNAME or held.fields[0].key_type is not paired:
            raise UnreadableError("a look-up in a set of pairs")
        return held.fields[0], second.fields[0]

    def _numgen(self, attributes: Attributes) -> None:
        kind, offset = (number_of(attributes.get(name, b"")) for name in (uapi.NUMGEN_KIND, uapi.NUMGEN_OFFSET))
        if kind != uapi.NUMGEN_RANDOM or offset:
            raise UnreadableError("numgen of a kind that we don't write")
        below = number_of(attributes[uapi.NUMGEN_MODULUS])
        self.registers.put(number_of(attributes[uapi.NUMGEN_DREG]), Register(below=below))

    def _dynset(self, attributes: Attributes) -> None:
        """Read an element that packets add. We write those with a count of sessions, and those that expire."""
        name, number = text_of(attributes[uapi.DYNSET_SET]), number_of(attributes[uapi.DYNSET_KEY])
        held, paired = self.registers.get(number), self.sets.find_paired(name)
        if paired is None or held.mask is None or number_of(attributes[uapi.DYNSET_OP]) != uapi.DYNSET_ADD:
            raise UnreadableError("dynset of a kind that we don't write")
        asked, interface = self._pair(held, number, paired)
        timeout = number_of(attributes.get(uapi.DYNSET_TIMEOUT, b""))
        if timeout and uapi.DYNSET_EXPRESSION not in attributes:
            self.statements.append(Remember(asked, interface, name, timeout, held.mask))
        else:
            most = limit_of(attributes, timeout)
            self.statements.append(SessionsExceed(asked, interface, name, most, held.mask))

    def _look_up(self, held: Register, name: str, into: int) -> None:
        """Read a look-up in a map, which takes a verdict or loads a value."""
        (asked,) = held.fields
        has_name = self.sets.has_name(name)
        if (has_name and held.is_swapped) or (into and not has_name):
            raise UnreadableError(LOOKED_UP)
        if into:
            self.registers.put(into, Register())
            self.found = MapPriority(asked, name)
        elif has_name:
            self.statements.append(VerdictMap(asked, name=name))
        else:
            self.statements.append(VerdictMap(asked, self.sets.verdicts(name, asked.key_type, held.order)))

    def _immediate(self, attributes: Attributes) -> None:
        data = parse_attributes(attributes[uapi.IMMEDIATE_DATA])
        if uapi.DATA_VERDICT in data:
            self.statements.append(verdict_of(data[uapi.DATA_VERDICT]))
        else:
            self.registers.put(number_of(attributes[uapi.IMMEDIATE_DREG]), Register(value=data[uapi.DATA_VALUE]))

    def _objref(self, attributes: Attributes) -> None:
        """Read a reference to a counter or timeout, or to the object that a map holds."""
        if uapi.OBJREF_MAP in attributes:
            self._count_by(number_of(attributes[uapi.OBJREF_SREG]), text_of(attributes[uapi.OBJREF_MAP]))
            return
        kind = number_of(attributes.get(uapi.OBJREF_TYPE, b""))
        if kind not in (uapi.OBJ_COUNTER, uapi.OBJ_TIMEOUT):
            raise UnreadableError(f"object of kind {kind}")
        name = text_of(attributes[uapi.OBJREF_NAME])
        self.statements.append(Count(name) if kind == uapi.OBJ_COUNTER else SetTimeout(name))

    def _count_by(self, number: int, name: str) -> None:
        """Read a count by a map. The reader of the map reports if it holds anything but counters."""
        held, paired = self.registers.get(number), self.sets.find_paired(name)
        if paired is not None and held.mask is None:
            asked, interface = self._pair(held, number, paired)
            self.statements.append(MapCount(asked, name, interface))
            return
        if len(held.fields) != 1 or held.mask is not None or held.part or held.is_swapped:
            raise UnreadableError("an object for several fields, or for a part of one")
        self.statements.append(MapCount(held.fields[0], name))

    def _limit(self, attributes: Attributes) -> None:
        """Read a limit. We write one before a log, and nowhere else."""
        rate, unit, burst = (
            number_of(attributes[name]) for name in (uapi.LIMIT_RATE, uapi.LIMIT_UNIT, uapi.LIMIT_BURST)
        )
        is_odd = any(number_of(attributes.get(name, b"")) for name in (uapi.LIMIT_TYPE, uapi.LIMIT_FLAGS))
        if is_odd or (unit, burst) != (1, rate):
            raise UnreadableError("limit")
        self.limit = rate

    def _log(self, attributes: Attributes) -> None:
        """Read a log. If it isn't ours, it decides nothing, unless it stands behind a limit."""
        counter = names.find_logged_counter(text_of(attributes.get(uapi.LOG_PREFIX, b"")))
        is_ours = counter is not None and number_of(attributes.get(uapi.LOG_SNAPLEN, b"")) == LOGGED_BYTES
        if self.limit is None or counter is None or not is_ours:
            self.end()
            self.ignored.append("log")
            return
        self.statements.append(Log(counter, number_of(attributes.get(uapi.LOG_GROUP, b"")), self.limit))
        self.limit = None

    def end(self) -> None:
        """Check that no limit and no look-up is open at the end of the rule.

        Else the rest of the rule would apply to some packets only.

        Raises:
            UnreadableError: One is open.
        """
        if self.limit is not None:
            raise UnreadableError("limit")
        if self.found is not None:
            raise UnreadableError(LOOKED_UP)


def _value(data: bytes) -> bytes:
    return parse_attributes(data)[uapi.DATA_VALUE]

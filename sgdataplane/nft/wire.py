"""Write the expressions of nf_tables' rules as bytes: the kernel's own instructions.

Each public function of an instruction returns its bytes; its docstring says what the kernel does there. Owns how each
is written. It is given numbers, bytes and names. It must not know what a rule is for, or which order makes sense. All
instructions work on one register, unless a second value stands behind the first; a verdict has its own register.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from sgdataplane.contract import names
from sgdataplane.host.netlink import attribute, nest
from sgdataplane.nft import uapi
from sgdataplane.nft.ir import Verdict, VerdictKind
from sgdataplane.nft.layout import VERDICTS

U16, U32, U64, CODE = struct.Struct("!H"), struct.Struct("!I"), struct.Struct("!Q"), struct.Struct("!i")
VERDICT_REGISTER, REGISTER = U32.pack(0), U32.pack(1)
BEHIND = {
    4: U32.pack(9),
    16: U32.pack(2),
}  # the register that is so many bytes behind the first one (NFT_REG32_01, NFT_REG_2)
CODES = {kind: code for code, kind in VERDICTS.items()}
_once = lru_cache(maxsize=1 << 12)  # the same few instructions are in nearly all rules


def text(kind: int, value: str) -> bytes:
    """Return a text as an attribute."""
    return attribute(kind, value.encode("ascii") + b"\0")


def name(kind: int, value: str) -> bytes:
    """Return a name as an attribute.

    Raises:
        InternalError: It isn't one of ours.
    """
    return text(kind, names.check_name(value))


def word(kind: int, value: int) -> bytes:
    """Return a number of 32 bits as an attribute."""
    return attribute(kind, U32.pack(value))


def value(data: bytes) -> bytes:
    """Return a value, inside of an attribute for data."""
    return attribute(uapi.DATA_VALUE, data)


@lru_cache(maxsize=1 << 16)
def verdict(said: Verdict) -> bytes:
    """Return a verdict, inside of an attribute for data."""
    chain = name(uapi.VERDICT_CHAIN, said.chain) if said.kind in (VerdictKind.JUMP, VerdictKind.GOTO) else b""
    return nest(uapi.DATA_VERDICT, [attribute(uapi.VERDICT_CODE, CODE.pack(CODES[said.kind])), chain])


def _expression(kind: str, *parts: bytes) -> bytes:
    return nest(uapi.LIST_ELEMENT, [text(uapi.EXPRESSION_NAME, kind), nest(uapi.EXPRESSION_DATA, parts)])


# loads


@_once
def meta(key: int, register: bytes = REGISTER) -> bytes:
    """Load a packet's meta data into a register."""
    return _expression("meta", word(uapi.META_KEY, key), attribute(uapi.META_DREG, register))


@_once
def ct(key: int, direction: int | None = None) -> bytes:
    """Load a field of the conntrack entry. `direction` says whose tuple has it; None if no tuple has."""
    of_tuple = () if direction is None else (attribute(uapi.CT_DIRECTION, bytes([direction])),)
    return _expression("ct", word(uapi.CT_KEY, key), attribute(uapi.CT_DREG, REGISTER), *of_tuple)


@_once
def payload(base: int, offset: int, length: int) -> bytes:
    """Load a part of a header: `base` is 0 for link, 1 for network, 2 for transport."""
    place = word(uapi.PAYLOAD_BASE, base), word(uapi.PAYLOAD_OFFSET, offset), word(uapi.PAYLOAD_LENGTH, length)
    return _expression("payload", attribute(uapi.PAYLOAD_DREG, REGISTER), *place)


@_once
def constant(data: bytes) -> bytes:
    """Load a constant."""
    return _expression("immediate", attribute(uapi.IMMEDIATE_DREG, REGISTER), _data(uapi.IMMEDIATE_DATA, data))


@_once
def mask_register(mask: bytes, flipped: bytes) -> bytes:
    """Replace the register by `(register & mask) ^ flipped`."""
    registers = attribute(uapi.BITWISE_SREG, REGISTER), attribute(uapi.BITWISE_DREG, REGISTER)
    parts = _data(uapi.BITWISE_MASK, mask), _data(uapi.BITWISE_XOR, flipped)
    return _expression("bitwise", *registers, word(uapi.BITWISE_LENGTH, len(mask)), *parts)


def in_order(length: int) -> bytes:
    """Put the register into network byte order, in which the kernel compares ranges."""
    registers = attribute(uapi.BYTEORDER_SREG, REGISTER), attribute(uapi.BYTEORDER_DREG, REGISTER)
    sizes = word(uapi.BYTEORDER_LENGTH, length), word(uapi.BYTEORDER_SIZE, length)
    return _expression("byteorder", *registers, word(uapi.BYTEORDER_OP, uapi.HTON), *sizes)


# conditions: `is_other` holds for everything else


@_once
def compare(data: bytes, *, is_other: bool = False) -> bytes:
    """Go on if the register equals these bytes."""
    operator = word(uapi.CMP_OP, uapi.NEQ if is_other else uapi.EQ)
    return _expression("cmp", attribute(uapi.CMP_SREG, REGISTER), operator, _data(uapi.CMP_DATA, data))


@_once
def within(first: bytes, last: bytes, *, is_other: bool = False) -> bytes:
    """Go on if the register lies between these bytes, both included."""
    operator = word(uapi.RANGE_OP, uapi.NEQ if is_other else uapi.EQ)
    ends = _data(uapi.RANGE_FROM, first), _data(uapi.RANGE_TO, last)
    return _expression("range", attribute(uapi.RANGE_SREG, REGISTER), operator, *ends)


@_once
def look_up(asked: str, *, is_value: bool = False) -> bytes:
    """Take the verdict that a map with a name has, or the value of a map that holds values."""
    into = REGISTER if is_value else VERDICT_REGISTER
    registers = attribute(uapi.LOOKUP_SREG, REGISTER), attribute(uapi.LOOKUP_DREG, into)
    return _expression("lookup", name(uapi.LOOKUP_SET, asked), *registers)


@_once
def is_in(asked: str, *, is_other: bool = False) -> bytes:
    """Go on if a set with a name has what stands in the register, and in the one behind."""
    flags = word(uapi.LOOKUP_FLAGS, uapi.LOOKUP_INVERTED if is_other else 0)
    return _expression("lookup", name(uapi.LOOKUP_SET, asked), attribute(uapi.LOOKUP_SREG, REGISTER), flags)


def look_up_nameless(template: str, number: int, *, is_other: bool = False, is_map: bool = False) -> bytes:
    """Look up in a set that the same batch makes. `number` is that set's; its name is a template."""
    flags = word(uapi.LOOKUP_FLAGS, uapi.LOOKUP_INVERTED if is_other else 0)
    more = attribute(uapi.LOOKUP_DREG, VERDICT_REGISTER) if is_map else flags
    asked = text(uapi.LOOKUP_SET, template), attribute(uapi.LOOKUP_SREG, REGISTER), word(uapi.LOOKUP_SET_ID, number)
    return _expression("lookup", *asked, more)


@_once
def limit(per_second: int, burst: int, *, is_bytes: bool = False, is_above: bool = False) -> bytes:
    """Go on for packets within the limit, or, if it `is_above`, for those beyond it."""
    rate, unit = attribute(uapi.LIMIT_RATE, U64.pack(per_second)), attribute(uapi.LIMIT_UNIT, U64.pack(1))
    kind = word(uapi.LIMIT_TYPE, int(is_bytes)), word(uapi.LIMIT_FLAGS, int(is_above))
    return _expression("limit", rate, unit, word(uapi.LIMIT_BURST, burst), *kind)


@_once
def random_below(modulus: int) -> bytes:
    """Load a random number."""
    kind = word(uapi.NUMGEN_MODULUS, modulus), word(uapi.NUMGEN_KIND, uapi.NUMGEN_RANDOM), word(uapi.NUMGEN_OFFSET, 0)
    return _expression("numgen", attribute(uapi.NUMGEN_DREG, REGISTER), *kind)


@_once
def count_sessions(into: str, most: int) -> bytes:
    """Add the packet's session to those of the key in the registers. Go on if they are more than `most`."""
    limit = word(uapi.CONNLIMIT_COUNT, most), word(uapi.CONNLIMIT_FLAGS, uapi.CONNLIMIT_ABOVE)
    counted = text(uapi.EXPRESSION_NAME, "connlimit"), nest(uapi.EXPRESSION_DATA, limit)
    return _fill(into, nest(uapi.DYNSET_EXPRESSION, counted))


@_once
def remember(into: str, milliseconds: int) -> bytes:
    """Add the key in the registers to a set."""
    return _fill(into, attribute(uapi.DYNSET_TIMEOUT, U64.pack(milliseconds)))


def _fill(into: str, *more: bytes) -> bytes:
    key = word(uapi.DYNSET_OP, uapi.DYNSET_ADD), attribute(uapi.DYNSET_KEY, REGISTER)
    return _expression("dynset", name(uapi.DYNSET_SET, into), *key, *more)


@_once
def has_header(number: int) -> bytes:
    """Load whether an IPv6 packet has this extension header."""
    header = attribute(uapi.EXTHDR_TYPE, bytes([number])), word(uapi.EXTHDR_OFFSET, 0), word(uapi.EXTHDR_LENGTH, 1)
    flags = word(uapi.EXTHDR_FLAGS, uapi.EXTHDR_PRESENT)
    return _expression("exthdr", attribute(uapi.EXTHDR_DREG, REGISTER), *header, flags)


# what is done


@_once
def decide(said: Verdict) -> bytes:
    """Take this verdict."""
    register = attribute(uapi.IMMEDIATE_DREG, VERDICT_REGISTER)
    return _expression("immediate", register, nest(uapi.IMMEDIATE_DATA, [verdict(said)]))


@_once
def set_meta(key: int) -> bytes:
    """Write the register into a packet's meta data."""
    return _expression("meta", word(uapi.META_KEY, key), attribute(uapi.META_SREG, REGISTER))


@_once
def set_ct(key: int) -> bytes:
    """Write the register into a field of the conntrack entry."""
    return _expression("ct", word(uapi.CT_KEY, key), attribute(uapi.CT_SREG, REGISTER))


@_once
def refer(kind: int, referred: str) -> bytes:
    """Refer to a counter or timeout."""
    return _expression("objref", word(uapi.OBJREF_TYPE, kind), name(uapi.OBJREF_NAME, referred))


@_once
def refer_by(asked: str) -> bytes:
    """Refer to the object that a map holds."""
    return _expression("objref", attribute(uapi.OBJREF_SREG, REGISTER), name(uapi.OBJREF_MAP, asked))


@_once
def log(group: int, copied: int, prefix: str = "", *, at_once: bool = False) -> bytes:
    """Log the packet: `copied` octets of it.

    With `at_once`, the kernel sends it without waiting for more packets.
    """
    to = attribute(uapi.LOG_GROUP, U16.pack(group)) + (text(uapi.LOG_PREFIX, prefix) if prefix else b"")
    threshold = attribute(uapi.LOG_THRESHOLD, U16.pack(1)) if at_once else b""
    return _expression("log", to, word(uapi.LOG_SNAPLEN, copied), threshold)


def untrack() -> bytes:
    """Keep conntrack from tracking the packet."""
    return _expression("notrack")


def _data(kind: int, data: bytes) -> bytes:
    return nest(kind, [value(data)])

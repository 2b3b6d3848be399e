"""The expressions of nf_tables' rules as bytes: the kernel's own instructions.

Owns how each is written (linux/netfilter/nf_tables.h). Is given numbers, bytes and names. Must not know what a rule is
for, or which order makes sense. All work on one register; a verdict has its own.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from sgdataplane.contract import names
from sgdataplane.host.netlink import attribute, nested
from sgdataplane.nft.ir import Verdict, VerdictKind
from sgdataplane.nft.layout import VERDICTS

U16, U32, U64, CODE = struct.Struct("!H"), struct.Struct("!I"), struct.Struct("!Q"), struct.Struct("!i")
VERDICT_REGISTER, REGISTER = U32.pack(0), U32.pack(1)
EQUAL, OTHER = U32.pack(0), U32.pack(1)  # NFT_CMP_EQ and NEQ, NFT_RANGE_EQ and NEQ; of a look-up, NFT_LOOKUP_F_INV
LIST_ELEMENT, EXPRESSION_NAME, EXPRESSION_DATA = 1, 1, 2  # NFTA_LIST_ELEM, NFTA_EXPR_*
DATA_VALUE, DATA_VERDICT, VERDICT_CODE, VERDICT_CHAIN = 1, 2, 1, 2
COUNTER, TIMEOUT = 1, 7  # NFT_OBJECT_*
CODES = {kind: code for code, kind in VERDICTS.items()}


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode("ascii") + b"\0")


def name(kind: int, value: str) -> bytes:
    """One of ours: InternalError for any other."""
    return text(kind, names.checked(value))


def word(kind: int, value: int) -> bytes:
    return attribute(kind, U32.pack(value))


def value(data: bytes) -> bytes:
    """What is in an attribute for data."""
    return attribute(DATA_VALUE, data)


@lru_cache(maxsize=1 << 16)
def verdict(said: Verdict) -> bytes:
    """The same, a verdict."""
    chain = name(VERDICT_CHAIN, said.chain) if said.kind in (VerdictKind.JUMP, VerdictKind.GOTO) else b""
    return nested(DATA_VERDICT, [attribute(VERDICT_CODE, CODE.pack(CODES[said.kind])), chain])


def _expression(kind: str, *parts: bytes) -> bytes:
    return nested(LIST_ELEMENT, [text(EXPRESSION_NAME, kind), nested(EXPRESSION_DATA, parts)])


# loads


def meta(key: int) -> bytes:
    return _expression("meta", word(2, key), attribute(1, REGISTER))


def ct(key: int, direction: int | None = None) -> bytes:
    """`direction`: of the tuple that has it; None: no tuple has."""
    of_tuple = () if direction is None else (attribute(3, bytes([direction])),)
    return _expression("ct", word(2, key), attribute(1, REGISTER), *of_tuple)


def payload(base: int, offset: int, length: int) -> bytes:
    """`base`: 0 link, 1 network, 2 transport."""
    return _expression("payload", attribute(1, REGISTER), word(2, base), word(3, offset), word(4, length))


def constant(data: bytes) -> bytes:
    return _expression("immediate", attribute(1, REGISTER), nested(2, [value(data)]))


def masked(mask: bytes, flipped: bytes) -> bytes:
    """`(register & mask) ^ flipped`."""
    size, register = word(3, len(mask)), attribute(1, REGISTER) + attribute(2, REGISTER)
    return _expression("bitwise", register, size, nested(4, [value(mask)]), nested(5, [value(flipped)]))


# conditions


def compare(data: bytes, *, is_other: bool = False) -> bytes:
    operator = attribute(2, OTHER if is_other else EQUAL)
    return _expression("cmp", attribute(1, REGISTER), operator, nested(3, [value(data)]))


def within(first: bytes, last: bytes, *, is_other: bool = False) -> bytes:
    operator, ends = attribute(2, OTHER if is_other else EQUAL), nested(3, [value(first)]) + nested(4, [value(last)])
    return _expression("range", attribute(1, REGISTER), operator, ends)


def look_up(asked: str) -> bytes:
    """The verdict of a map that has a name."""
    return _expression("lookup", name(1, asked), attribute(2, REGISTER), attribute(3, VERDICT_REGISTER))


def look_up_nameless(template: str, number: int, *, is_other: bool = False, is_map: bool = False) -> bytes:
    """`number`: of a set that the same batch makes; its name is a template."""
    more = attribute(3, VERDICT_REGISTER) if is_map else attribute(5, OTHER if is_other else EQUAL)
    return _expression("lookup", text(1, template), attribute(2, REGISTER), word(4, number), more)


def limit(per_second: int, burst: int, *, is_bytes: bool = False, is_above: bool = False) -> bytes:
    """Goes on with what is not more than that, or (`is_above`) with what is."""
    rate, unit = attribute(1, U64.pack(per_second)), attribute(2, U64.pack(1))
    return _expression("limit", rate, unit, word(3, burst), word(4, int(is_bytes)), word(5, int(is_above)))


def has_header(number: int) -> bytes:
    """Whether an IPv6 packet has this extension header."""
    return _expression(
        "exthdr", attribute(1, REGISTER), attribute(2, bytes([number])), word(3, 0), word(4, 1), word(5, 1)
    )


# what is done


def decide(said: Verdict) -> bytes:
    return _expression("immediate", attribute(1, VERDICT_REGISTER), nested(2, [verdict(said)]))


def set_meta(key: int) -> bytes:
    return _expression("meta", word(2, key), attribute(3, REGISTER))


def set_ct(key: int) -> bytes:
    return _expression("ct", word(2, key), attribute(4, REGISTER))


def refer(kind: int, referred: str) -> bytes:
    """To a counter or timeout."""
    return _expression("objref", word(1, kind), name(2, referred))


def log(group: int, copied: int, prefix: str = "", *, at_once: bool = False) -> bytes:
    """`copied`: octets of each packet. `at_once`: none is kept back for more to come."""
    parts = attribute(1, U16.pack(group)) + (text(2, prefix) if prefix else b"") + word(3, copied)
    return _expression("log", parts, attribute(4, U16.pack(1)) if at_once else b"")


def untracked() -> bytes:
    return _expression("notrack")

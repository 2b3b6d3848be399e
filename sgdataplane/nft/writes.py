"""Turn what a rule's expressions write back into statements: marks, priorities, and elements that packets add to sets.

Owns these for decode.py. It is given attributes, and what registers hold.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from sgdataplane.contract.fields import Field
from sgdataplane.host.netlink import parse_attributes, text_of
from sgdataplane.nft import uapi
from sgdataplane.nft.ir import MapPriority, SetMark, SetPacketMark, SetPriority, Statement
from sgdataplane.nft.layout import UnreadableError
from sgdataplane.nft.registers import Register
from sgdataplane.nft.uapi import number_of


def limit_of(attributes: Mapping[int, bytes], timeout: int) -> int:
    """Return above how many sessions the rule goes on.

    Raises:
        UnreadableError: The element is of a kind that we don't write.
    """
    one = parse_attributes(attributes.get(uapi.DYNSET_EXPRESSION, b""))
    limit = parse_attributes(one.get(uapi.EXPRESSION_DATA, b""))
    is_ours = text_of(one.get(uapi.EXPRESSION_NAME, b"\0")) == "connlimit" and not timeout
    if not is_ours or number_of(limit.get(uapi.CONNLIMIT_FLAGS, b"")) != uapi.CONNLIMIT_ABOVE:
        raise UnreadableError("dynset of a kind that we don't write")
    return number_of(limit[uapi.CONNLIMIT_COUNT])


def mark_set(what: str, held: Register) -> Statement:
    """Return the statement that writes a mark.

    It is `meta mark set V`, `ct mark set V`, or `ct mark set ct mark & KEEP | V`, which the kernel has as mask and xor.
    """
    if held.value:
        value = int.from_bytes(held.value, sys.byteorder)
        return SetPacketMark(value) if what == "meta" else SetMark(0, value)
    if what == "ct" and held.fields == (Field.CT_MARK,) and held.mask is not None and not held.mask & held.xor:
        return SetMark(held.mask, held.xor)
    raise UnreadableError(f"{what} mark set to something computed")


def priority_set(held: Register, found: MapPriority | None) -> Statement:
    """Return the statement that writes the priority.

    `found` was looked up right before, into a register that holds nothing else.
    """
    if held.value and found is None:
        return SetPriority(int.from_bytes(held.value, sys.byteorder))
    if found is None or held.fields or held.value:
        raise UnreadableError("meta priority set to something computed")
    return found

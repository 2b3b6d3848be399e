"""Expressions that nft doesn't write, but root can send: they are read for what they do, or not at all."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from sgdataplane.contract.fields import Field, KeyType
from sgdataplane.host.netlink import list_attributes, parse_attributes, text_of
from sgdataplane.nft import uapi, wire
from sgdataplane.nft.decode import Attributes, DecodedRule, read_rule
from sgdataplane.nft.ir import ACCEPT, InSet, MapPriority, Match, Range, Verdict, VerdictMap
from sgdataplane.nft.layout import MARK_KEY, PRIORITY_KEY, Order

NFPROTO = 15  # NFT_META_NFPROTO
LOAD, SET, SWAP = wire.meta(PRIORITY_KEY), wire.set_meta(PRIORITY_KEY), wire.in_order(4)
FIND, JUDGE = wire.look_up("ranks", is_value=True), wire.look_up("ranks")
COUNT, END = wire.refer(uapi.OBJ_COUNTER, "c"), wire.decide(ACCEPT)


class Named:
    """Sets that have names, all of them maps."""

    def has_name(self, name: str) -> bool:
        return bool(name)

    def find_paired(self, name: str) -> KeyType | None:
        return {"own": KeyType.IPV4, "slots": KeyType.MARK, "own6": KeyType.IPV6}.get(name)

    def ranges(self, name: str, key_type: KeyType, order: Order) -> tuple[Range, ...]:
        raise AssertionError(name, key_type, order)

    def verdicts(self, name: str, key_type: KeyType, order: Order) -> tuple[tuple[Range, Verdict], ...]:
        raise AssertionError(name, key_type, order)


def read(*parts: bytes) -> DecodedRule:
    return read_rule(_expressions(b"".join(parts)), Named())


def _expressions(data: bytes) -> Iterator[tuple[str, Attributes]]:
    for _, part in list_attributes(data):
        one = parse_attributes(part)
        yield text_of(one[uapi.EXPRESSION_NAME]), parse_attributes(one[uapi.EXPRESSION_DATA])


def test_a_value_that_was_looked_up_becomes_the_priority() -> None:
    asked = MapPriority(Field.PACKET_PRIORITY, "ranks")
    assert read(LOAD, FIND, SET, END) == DecodedRule((asked, ACCEPT))
    assert read(LOAD, FIND, SET, LOAD, FIND, SET) == DecodedRule((asked, asked))


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((LOAD, FIND), id="and-is-never-used"),
        pytest.param((LOAD, FIND, END), id="and-was-a-condition"),
        pytest.param((LOAD, FIND, COUNT, SET), id="and-something-is-done-before-it-is-used"),
        pytest.param((LOAD, FIND, wire.meta(NFPROTO), SET), id="and-is-written-over"),
        pytest.param((LOAD, FIND, wire.set_meta(MARK_KEY)), id="and-becomes-the-mark"),
        pytest.param((LOAD, FIND, wire.set_ct(MARK_KEY)), id="and-becomes-the-sessions-mark"),
        pytest.param((LOAD, FIND, FIND, SET), id="and-is-looked-up-itself"),
        pytest.param((LOAD, FIND, SET, SET), id="and-is-used-twice"),
        pytest.param((LOAD, SWAP, FIND, SET), id="by-the-bytes-in-another-order"),
    ],
)
def test_or_the_rule_is_not_read(parts: tuple[bytes, ...]) -> None:
    assert read(*parts).unreadable


def test_a_map_with_a_name_is_asked_by_the_bytes_as_they_are() -> None:
    assert read(LOAD, JUDGE) == DecodedRule((VerdictMap(Field.PACKET_PRIORITY, name="ranks"),))
    assert read(LOAD, SWAP, JUDGE).unreadable


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((LOAD, SET), id="its-own"),
        pytest.param((wire.constant(b"\1\0\0\0"), SWAP, SET), id="swapped"),
        pytest.param((LOAD, wire.mask_register(b"\1\0\0\0", b"\0\0\0\0"), SET), id="masked"),
    ],
)
def test_a_priority_made_of_something_else_is_not_read(parts: tuple[bytes, ...]) -> None:
    assert read(*parts).unreadable


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((wire.meta(NFPROTO), SWAP), id="of-one-byte"),
        pytest.param((LOAD, SWAP, SWAP), id="twice"),
        pytest.param((LOAD, wire.in_order(2)), id="of-half-of-it"),
        pytest.param((LOAD, wire.mask_register(b"\1\0\0\0", b"\0\0\0\0"), SWAP), id="after-a-mask"),
        pytest.param((LOAD, SWAP, wire.mask_register(b"\1\0\0\0", b"\0\0\0\0")), id="before-a-mask"),
        pytest.param((LOAD, wire.within(bytes(4), b"\0\0\0\1")), id="missing-before-a-range"),
    ],
)
def test_byte_orders_that_we_do_not_write_are_not_read(parts: tuple[bytes, ...]) -> None:
    assert read(*parts).unreadable


FAMILY, IPV4, IPV6 = wire.meta(NFPROTO), wire.compare(bytes([2])), wire.compare(bytes([10]))
MARK, SOURCE, SOURCE6 = wire.ct(MARK_KEY), wire.payload(1, 12, 4), wire.payload(1, 8, 16)
NAME, NAME_FAR = (wire.meta(6, wire.BEHIND[size]) for size in (4, 16))  # NFT_META_IIFNAME
V4, V6 = (Match(Field.NFPROTO, (Range.of(family),)) for family in (2, 10))


def test_pairs_are_read_from_two_registers() -> None:
    masked = wire.mask_register((0x7FF).to_bytes(4, sys.byteorder), bytes(4))
    slots = InSet(Field.CT_MARK, Field.IIFNAME, "slots", mask=0x7FF)
    own, own6 = (
        InSet(field, Field.IIFNAME, name, True) for field, name in ((Field.IP_SADDR, "own"), (Field.IP6_SADDR, "own6"))
    )
    assert read(MARK, masked, NAME, wire.is_in("slots"), END) == DecodedRule((slots, ACCEPT))
    assert read(FAMILY, IPV4, SOURCE, NAME, wire.is_in("own", is_other=True)) == DecodedRule((V4, own))
    assert read(FAMILY, IPV6, SOURCE6, NAME_FAR, wire.is_in("own6", is_other=True)) == DecodedRule((V6, own6))


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((MARK, wire.is_in("slots")), id="no-name"),
        pytest.param((NAME, MARK, wire.is_in("own")), id="another-field"),
        pytest.param((MARK, NAME_FAR, wire.is_in("slots")), id="the-name-is-elsewhere"),
        pytest.param((NAME, wire.meta(7), MARK, wire.is_in("slots")), id="the-name-was-written-over"),
        pytest.param(
            (MARK, NAME, wire.mask_register(bytes(4), bytes([1, 0, 0, 0])), wire.is_in("slots")), id="flipped"
        ),
        pytest.param((MARK, wire.in_order(4), NAME, wire.is_in("slots")), id="in-another-order"),
    ],
)
def test_other_look_ups_in_sets_are_not_guessed(parts: tuple[bytes, ...]) -> None:
    assert read(*parts, END).unreadable

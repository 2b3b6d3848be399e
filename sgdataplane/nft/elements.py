"""Write elements of maps and sets as bytes, each as it stands in a message's list of elements.

Owns how an element is written, and how its key is found again in a message that the kernel refused. It must not know
which message it is for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache, lru_cache

from sgdataplane.contract.fields import KeyType
from sgdataplane.host.netlink import ATTRIBUTE, align, attribute, list_attributes, nest, parse_attributes
from sgdataplane.host.nfnetlink import BatchMessage
from sgdataplane.nft import uapi, wire
from sgdataplane.nft.encode import Nameless, key_bytes, map_key_bytes, range_bytes, size_of
from sgdataplane.nft.ir import Count, Datum, Map, MapKey, Verdict, is_set
from sgdataplane.nft.layout import LONGEST, Order, order_of_key
from sgdataplane.nft.order import join_neighbours
from sgdataplane.nft.wire import name, word

INTERVAL_END = word(uapi.ELEMENT_FLAGS, uapi.ELEMENT_INTERVAL_END)


def map_elements(entry: Map) -> list[bytes]:
    """Return all elements of a named map or set."""
    lasting = attribute(uapi.ELEMENT_TIMEOUT, struct.pack("!Q", entry.lifetime)) if entry.lifetime else b""
    if is_set(entry) and not lasting:
        return [_list_key(map_key_bytes(entry.key_type, key)) for key, _ in entry.elements]
    return _numbers(entry) or [
        _list_element(_map_element(entry, key, value) + lasting) for key, value in entry.elements
    ]


def delete_element(key_type: KeyType, key: MapKey) -> bytes:
    """Return an element that is to be deleted."""
    return _list_key(map_key_bytes(key_type, key))


def singles(made: Nameless) -> Iterator[bytes]:
    """Yield an element for each value."""
    for span, verdict in made.entries:
        yield _list_element(_element(key_bytes(made.asked, span.first), verdict))


def spans(made: Nameless) -> Iterator[bytes]:
    """Yield an element where each range begins, and one where it ends and no other one begins.

    Ranges that touch and have the same verdict are one.
    """
    limit = 1 << 8 * size_of(made.asked)
    whole = join_neighbours(made.entries)
    begins = {span.first for span, _ in whole}
    for span, verdict in whole:
        yield _list_element(_element(range_bytes(made.asked, span.first), verdict))
        behind = int(span.last) + 1
        if behind not in begins and behind < limit:
            yield _list_element(_key(range_bytes(made.asked, behind)) + INTERVAL_END)


def _element(key: bytes, verdict: Verdict | None) -> bytes:
    return _key(key) + (b"" if verdict is None else _encode_verdict(verdict))


@lru_cache(maxsize=1 << 14)
def _encode_verdict(verdict: Verdict) -> bytes:
    return nest(uapi.ELEMENT_DATA, [wire.verdict(verdict)])


def _map_element(entry: Map, key: MapKey, value: Datum) -> bytes:
    """Return one element of a named map, as it stands in the list without the list's header."""
    at = map_key_bytes(entry.key_type, key)
    if is_set(entry):
        return _key(at)
    if isinstance(value, Verdict):
        return _element(at, value)
    if isinstance(value, Count):
        return _key(at) + name(uapi.ELEMENT_OBJECT, value.counter)
    assert entry.holds is not None
    return _key(at) + nest(uapi.ELEMENT_DATA, [wire.value(map_key_bytes(entry.holds, value))])


def _numbers(entry: Map) -> list[bytes]:
    """Return the elements of a map from numbers to numbers, which differ in nothing else; [] if it isn't such a map."""
    if entry.holds not in (KeyType.MARK, KeyType.CLASSID) or entry.key_type is KeyType.IFNAME or entry.lifetime:
        return []
    (size, order), (held, held_order) = _form(entry.key_type), _form(entry.holds)
    one = _list_element(_map_element(entry, 0, 0))
    at, behind = 3 * ATTRIBUTE.size, len(one) - held
    before, between = one[:at], one[at + size : behind]
    return [
        before + key.to_bytes(size, order) + between + value.to_bytes(held, held_order)
        for key, value in entry.elements
        if isinstance(key, int)
        if isinstance(value, int)
    ]


def _form(key_type: KeyType) -> tuple[int, Order]:
    return LONGEST[key_type], order_of_key(key_type)


def _list_element(element: bytes) -> bytes:
    return nest(uapi.LIST_ELEMENT, (element,))


def _key(data: bytes) -> bytes:
    before, behind = _key_frame(len(data))
    return before + data + behind


def _list_key(data: bytes) -> bytes:
    """Return an element that is only a key."""
    before, behind = _list_frame(len(data))
    return before + data + behind


@cache
def _list_frame(size: int) -> tuple[bytes, bytes]:
    whole = _list_element(_key(bytes(size)))
    return whole[: 3 * ATTRIBUTE.size], whole[3 * ATTRIBUTE.size + size :]


@cache
def _key_frame(size: int) -> tuple[bytes, bytes]:
    """Return what stands before and behind a key of `size` bytes."""
    whole = nest(uapi.ELEMENT_KEY, [wire.value(bytes(size))])
    return whole[: 2 * ATTRIBUTE.size], whole[2 * ATTRIBUTE.size + size :]


def key_at(message: BatchMessage, offset: int) -> bytes:
    """Return the key of the element at that offset in a message's attributes; b"" if there is none."""
    at = 0
    for kind, data in list_attributes(message.attributes):
        if kind == uapi.ELEMENTS:
            return _key_in(data, offset - at - ATTRIBUTE.size)
        at += ATTRIBUTE.size + align(len(data))
    return b""


def _key_in(elements: bytes, offset: int) -> bytes:
    """Return the key of the element at that offset in a list of elements."""
    at = 0
    for _, data in list_attributes(elements):
        end = at + ATTRIBUTE.size + align(len(data))
        if at <= offset < end:
            return parse_attributes(parse_attributes(data)[uapi.ELEMENT_KEY])[uapi.DATA_VALUE]
        at = end
    return b""

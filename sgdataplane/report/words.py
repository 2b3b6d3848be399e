"""Sets of sessions and addresses in few words.

Owns their wording. Takes them as values. Must not know who reaches whom, nor HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sgdataplane.analyse.passing import EVERY, EVERY_PORT, OTHER, Passing, PassingRow
from sgdataplane.model.words import first_of
from sgdataplane.net.ranges import Ranges, count, minus
from sgdataplane.net.values import Family, Prefix, Protocol
from sgdataplane.policy.dimensions import FURTHER

MAX_RANGES = 8  # ranges of ports or addresses that are named one by one
MAX_HOLES = 4


def services(what: Passing) -> tuple[str, ...]:
    """Return what passes, a text for each protocol.

    Examples are ("tcp 80, 443", "icmp"), ("everything",) and ("everything but tcp",).
    """
    if not what:
        return ()
    named = [row for row in what.rows if row.protocol != OTHER]
    if len(named) == len(what.rows):
        return tuple(map(_of_row, named))
    but = f" but {_list_first([str(Protocol(number)) for number in what.named])}" if what.named else ""
    return (f"everything{but}", *map(_of_row, named))


def _of_row(row: PassingRow) -> str:
    text = str(Protocol(row.protocol))
    if row.ports != EVERY_PORT:
        text += f" {ports(row.ports)}"
    return " ".join((text, *further(row.further)))


def further(some: Iterable[Ranges | None]) -> Iterator[str]:
    """Yield the conditions of the dimensions in FURTHER that aren't the whole range."""
    for each, ranges, every in zip(FURTHER, some, EVERY, strict=True):
        if ranges is not None and ranges != every:
            yield each.clause.format(numbers(ranges, every))


def ports(some: Ranges) -> str:
    """Return ports in few words."""
    return numbers(some, EVERY_PORT)


def numbers(some: Ranges, every: Ranges) -> str:
    """Return the ranges in ascending order; or what they leave out of `every`, if that is shorter."""
    closed = minus(every, some)
    if len(closed) < len(some) and count(some) > count(closed):
        return f"all but {numbers(closed, every)}"
    return _list_first([str(first) if first == last else f"{first}\N{EN DASH}{last}" for first, last in some])


def addresses(some: Ranges, outside: Ranges, family: Family) -> str:
    """Return which of the addresses `outside` these are: "anyone", "anyone but ...", or CIDR blocks."""
    if some == outside:
        return "anyone"
    if is_most(some, outside):
        return f"anyone but {_list_first(_blocks(minus(outside, some), family))}"
    return _list_first(_blocks(some, family))


def is_most(some: Ranges, outside: Ranges) -> bool:
    """Return whether these are more than half of the addresses outside."""
    return 2 * count(some) > count(outside)


def _blocks(some: Ranges, family: Family) -> Iterator[str]:
    """Yield CIDR blocks; neighbouring ranges that make a block with holes are one text.

    An example is "192.0.2.0/25 but 192.0.2.66".
    """
    place = 0
    while place < len(some):
        end = min(len(some), place + MAX_HOLES)
        while end > place + 1 and len(_cidrs(some[place][0], some[end - 1][1], family)) > 1:
            end -= 1
        first, last = some[place][0], some[end - 1][1]
        if end > place + 1:
            holes = minus(((first, last),), some[place:end])
            but = " and ".join(text for hole in holes for text in _cidrs(*hole, family))
            yield f"{_cidrs(first, last, family)[0]} but {but}"
        else:
            yield from _cidrs(first, last, family)
        place = end


def _cidrs(first: int, last: int, family: Family) -> list[str]:
    """Return the first few of the CIDR blocks that a range consists of."""
    found: list[str] = []
    while first <= last and len(found) <= MAX_RANGES:
        size = min(first & -first or 1 << family.bits, 1 << (last - first + 1).bit_length() - 1)
        found.append(block(Prefix(family.bits, first, family.bits - size.bit_length() + 1)))
        first += size
    return found


def block(prefix: Prefix) -> str:
    """Return a CIDR block as text; a single address without its length."""
    text = str(prefix)
    return text.partition("/")[0] if prefix.first == prefix.last else text


def _list_first(texts: Iterable[str]) -> str:
    return first_of(list(texts), MAX_RANGES)

"""Wrong questions on purpose: kinds of change to what a table asks of packets.

Owns these kinds. Is given a table and a stream of random choices. Must not know what the table is for.

A range's new end is always next to an old end, or at the very end of its field, so that the points beside all ends of
the unchanged table show every such change.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from sgdataplane.contract.fields import PORTS, SESSION_PORTS, CtDirection, CtState, Field, KeyType, Nfproto
from sgdataplane.nft.ir import InSet, Key, Match, Range, Table, VerdictMap
from tests.support.inputs.mutants import Mutant, Unfit, one, with_statement

LAST = {
    KeyType.IPV4: (1 << 32) - 1,
    KeyType.IPV6: (1 << 128) - 1,
    KeyType.BITS128: (1 << 128) - 1,
    KeyType.CLASSID: (1 << 32) - 1,
}
LAST_NUMBER = dict.fromkeys((*PORTS, *SESSION_PORTS), 65_535)
ENDS = (
    (Field.TH_SPORT, Field.TH_DPORT),
    (Field.IP_SADDR, Field.IP_DADDR),
    (Field.IP6_SADDR, Field.IP6_DADDR),
    (Field.CT_ORIGINAL_SPORT, Field.CT_ORIGINAL_DPORT),
    (Field.CT_ORIGINAL_IP_SADDR, Field.CT_ORIGINAL_IP_DADDR),
    (Field.CT_ORIGINAL_IP6_SADDR, Field.CT_ORIGINAL_IP6_DADDR),
    (Field.CT_REPLY_SPORT, Field.CT_REPLY_DPORT),
    (Field.CT_REPLY_IP_SADDR, Field.CT_REPLY_IP_DADDR),
    (Field.CT_REPLY_IP6_SADDR, Field.CT_REPLY_IP6_DADDR),
)
SWAPPED = {one: other for ends in ENDS for one, other in (ends, ends[::-1])}
RANGED = (KeyType.IPV4, KeyType.IPV6, KeyType.NUMBER, KeyType.BITS128, KeyType.CLASSID)
LISTED = {KeyType.NFPROTO: tuple(Nfproto), KeyType.CT_STATE: tuple(CtState), KeyType.CT_DIRECTION: tuple(CtDirection)}
MARK = 0xFFFFFFFF


def last_of(field: Field) -> int:
    """The highest value of a field that ranges are of."""
    return LAST.get(field.key_type, LAST_NUMBER.get(field, 255))


def drop_match(table: Table, chance: random.Random) -> Mutant:
    place, match = one(chance, table, lambda s: isinstance(s, Match))
    assert isinstance(match, Match)
    return with_statement(table, place, (), f"match of {match.field.name} dropped")


def negate_match(table: Table, chance: random.Random) -> Mutant:
    place, match = one(chance, table, lambda s: isinstance(s, Match))
    assert isinstance(match, Match)
    return with_statement(
        table, place, (replace(match, negate=not match.negate),), f"match of {match.field.name} negated"
    )


def swap_fields(table: Table, chance: random.Random) -> Mutant:
    """The source for the destination."""
    place, asked = one(chance, table, lambda s: isinstance(s, Match | VerdictMap | InSet) and s.field in SWAPPED)
    assert isinstance(asked, Match | VerdictMap | InSet)
    return with_statement(table, place, (replace(asked, field=SWAPPED[asked.field]),), f"not {asked.field.name}")


def move_bound(table: Table, chance: random.Random) -> Mutant:
    """What gives way to ranks gives way to others: one end of a range is moved over a rank."""
    place, match = one(chance, table, lambda s: isinstance(s, Match) and s.field is Field.PACKET_PRIORITY)
    assert isinstance(match, Match)
    winners = (entry for entry in table.maps if entry.name.startswith("winners"))
    ranks = sorted({key for entry in winners for key, _ in entry.elements if isinstance(key, int)})
    if not ranks:
        raise Unfit
    first, last = int(match.ranges[0].first), int(match.ranges[-1].last)
    rank = chance.choice(ranks)
    moved = chance.choice(
        [Range(min(first, rank), rank), Range(rank, max(last, rank)), Range(first, max(first, rank - 1))]
    )
    return with_statement(table, place, (replace(match, ranges=(moved,)),), f"bound became {moved}")


def change_value(table: Table, chance: random.Random) -> Mutant:
    """Another family, state, direction or interface; or one more, or less."""
    place, match = one(chance, table, lambda s: isinstance(s, Match) and s.field.key_type in (*LISTED, KeyType.IFNAME))
    assert isinstance(match, Match)
    asked = [item.first for item in match.ranges]
    others = [value for value in _values(table, match.field) if value not in asked]
    choices = [choice for value in others for choice in ([value], [*asked, value])]
    choices += [[value for value in asked if value != left] for left in asked if len(asked) > 1]
    if not choices:
        raise Unfit
    values = sorted(chance.choice(choices), key=lambda value: value if isinstance(value, str) else f"{value:03}")
    ranges = tuple(Range.of(value) for value in values)
    return with_statement(table, place, (replace(match, ranges=ranges),), f"{match} became {ranges}")


def _values(table: Table, field: Field) -> Sequence[Key]:
    """That are asked for in such a field."""
    if field.key_type in LISTED:
        return LISTED[field.key_type]
    return sorted({str(key) for entry in table.maps if entry.key_type is field.key_type for key, _ in entry.elements})


def change_asked_mark(table: Table, chance: random.Random) -> Mutant:
    """Of a session of another slot or epoch, or of the other side."""
    place, match = one(chance, table, lambda s: isinstance(s, Match) and s.field is Field.CT_MARK)
    assert isinstance(match, Match)
    mark, mask = int(match.ranges[0].first), MARK if match.mask is None else match.mask
    other_side = [number << 16 & MARK | number >> 16 for number in (mark, mask)]
    choices = [(mark ^ mask & -mask, mask), (mark ^ 1 << mask.bit_length() - 1, mask), other_side]
    mark, mask = chance.choice(choices)
    changed = replace(match, ranges=(Range.of(mark),), mask=mask)
    return with_statement(table, place, (changed,), f"{match} became {mark:#x} under {mask:#x}")


def moved_range(item: Range, last: int, chance: random.Random) -> Range:
    """One end moved by one or all the way, or both by one."""
    first, end = int(item.first), int(item.last)
    choices = [(first - 1, end), (first + 1, end), (first, end - 1), (first, end + 1), (first + 1, end + 1)]
    choices += [(first - 1, end - 1), (0, end), (first, last)]
    legal = [Range(a, b) for a, b in choices if 0 <= a <= b <= last and (a, b) != (first, end)]
    if not legal:
        raise Unfit
    return chance.choice(legal)


def move_match(table: Table, chance: random.Random) -> Mutant:
    """A range widened, narrowed or shifted; never into its neighbour, which the kernel would refuse."""
    place, match = one(chance, table, lambda s: isinstance(s, Match) and s.field.key_type in RANGED)
    assert isinstance(match, Match)
    index = chance.randrange(len(match.ranges))
    moved = moved_range(match.ranges[index], last_of(match.field), chance)
    ranges = (*match.ranges[:index], moved, *match.ranges[index + 1 :])
    return with_statement(
        table, place, (replace(match, ranges=in_order(ranges)),), f"{match.ranges[index]} became {moved}"
    )


def in_order(ranges: Sequence[Range]) -> tuple[Range, ...]:
    if any(int(one.last) >= int(other.first) for one, other in pairwise(ranges)):
        raise Unfit
    return tuple(ranges)

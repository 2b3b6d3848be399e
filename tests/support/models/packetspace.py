"""Sets of packets, told apart by the few fields that a table branches on before it looks anything up.

Owns what a packet can have there, and what it must have to have other fields. Is given a table's interface names.
Must not know rules.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from sgdataplane.contract.fields import CtDirection, CtState, Field, Hook, KeyType, Nfproto
from sgdataplane.nft.ir import Key, Match, OfMap, Range, Table

Values = int  # a bit for each value
Packets = tuple[Values, ...]  # what they may have in each tracked field


def bits(values: Iterable[int]) -> Values:
    return sum(1 << value for value in set(values))


BYTE = bits(range(256))
NUMBERS: dict[Field, Values] = {
    Field.NFPROTO: bits(Nfproto),
    Field.L4PROTO: BYTE,
    Field.CT_STATE: bits(CtState),
    Field.CT_DIRECTION: bits(CtDirection),
    Field.ICMP_TYPE: BYTE,
    Field.ICMPV6_TYPE: BYTE,
    Field.IP6_HOPLIMIT: BYTE,
}
INTERFACES = (Field.IIFNAME, Field.OIFNAME)
PRIORITY = Field.PACKET_PRIORITY
TRACKED = (*NUMBERS, *INTERFACES, PRIORITY)
INDEX = {name: index for index, name in enumerate(TRACKED)}
IPV4, IPV6 = ((Field.NFPROTO, bits([entry])) for entry in (Nfproto.IPV4, Nfproto.IPV6))
# What a packet must be to have the field: in any other one the kernel looks no further.
NEEDS: dict[Field, tuple[Field, Values]] = {
    Field.IP_SADDR: IPV4,
    Field.IP_DADDR: IPV4,
    Field.IP6_SADDR: IPV6,
    Field.IP6_DADDR: IPV6,
    Field.IP6_HOPLIMIT: IPV6,
    **dict.fromkeys((name for name in Field if name.name.startswith(("CT_ORIGINAL_IP_", "CT_REPLY_IP_"))), IPV4),
    **dict.fromkeys((name for name in Field if name.name.startswith(("CT_ORIGINAL_IP6_", "CT_REPLY_IP6_"))), IPV6),
    Field.TH_SPORT: (Field.L4PROTO, bits([6, 17])),
    Field.TH_DPORT: (Field.L4PROTO, bits([6, 17])),
    Field.TCP_FLAGS: (Field.L4PROTO, bits([6])),
    Field.ICMP_TYPE: (Field.L4PROTO, bits([1])),
    Field.ICMPV6_TYPE: (Field.L4PROTO, bits([58])),
    Field.ND_TARGET: (Field.L4PROTO, bits([58])),
}


@dataclass(frozen=True)
class Space:
    """All packets there are. `names`: the interfaces that the table speaks of; the last value is any other one. Values
    of the priority are pieces that rules tell apart; `cuts`: where each but the first one begins."""

    names: tuple[str, ...] = ()
    cuts: tuple[int, ...] = ()

    @classmethod
    def of(cls, table: Table) -> Space:
        keys: set[object] = {
            key for entry in table.maps if entry.key_type is KeyType.IFNAME for key, _ in entry.elements
        }
        statements = (statement for chain in table.chains for rule in chain.rules for statement in rule.statements)
        cuts: set[int] = set()
        for statement in statements:
            if isinstance(statement, Match) and statement.field in INTERFACES:
                keys |= {item.first for item in statement.ranges}
            elif isinstance(statement, Match) and statement.field is PRIORITY:
                cuts |= {end for item in statement.ranges for end in (int(item.first), int(item.last) + 1)}
        return cls(tuple(sorted(map(str, keys))), tuple(sorted(cuts - {0})))

    @cached_property
    def all(self) -> Packets:
        """Every packet."""
        names = bits(range(len(self.names) + 1))
        return (*NUMBERS.values(), *(names for _ in INTERFACES), bits(range(len(self.cuts) + 1)))

    def at(self, hook: Hook) -> Packets:
        """Every packet there. Before routing none has an outgoing interface."""
        index = INDEX[Field.OIFNAME]
        return (*self.all[:index], 0, *self.all[index + 1 :]) if hook.name == "prerouting" else self.all

    def with_priority(self, values: Iterable[int], packets: Packets) -> Packets:
        """The packets, once they have one of these priorities."""
        return (*packets[: INDEX[PRIORITY]], bits({self._piece(value) for value in values}))

    def _piece(self, priority: int) -> int:
        return bisect_right(self.cuts, priority)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def part(self, asked: Field, ranges: Iterable[Range], packets: Packets) -> tuple[Packets | None, Packets | None]:
        """Those that have the field in the ranges, and elsewhere; None if there are none. Of a field that isn't
        tracked nothing is known, so all of them are both."""
        if asked not in INDEX:
            return packets, packets
        return _split(asked, sum(self._bits(asked, item.first, item.last) for item in ranges), packets)

    def _bits(self, asked: Field, first: Key, last: Key) -> Values:
        if isinstance(first, str) or isinstance(last, str):
            return 1 << self._number[str(first)]
        if asked is PRIORITY:
            first, last = self._piece(first), self._piece(last)
        return (2 << last) - (1 << first)


def readers(asked: Field, packets: Packets) -> tuple[Packets | None, Packets | None]:
    """Those that have the field at all, and that lack it."""
    if asked in INDEX and not packets[INDEX[asked]]:
        return None, packets
    return _split(*NEEDS[asked], packets) if asked in NEEDS else (packets, None)


def read_by(statement: Match | OfMap) -> set[Field]:
    """The tracked fields that decide what it does."""
    return {statement.field, NEEDS.get(statement.field, (statement.field,))[0]} & INDEX.keys()


def _split(asked: Field, values: Values, packets: Packets) -> tuple[Packets | None, Packets | None]:
    index = INDEX[asked]
    parts = (packets[index] & values, packets[index] & ~values)
    inside, outside = ((*packets[:index], part, *packets[index + 1 :]) if part else None for part in parts)
    return inside, outside

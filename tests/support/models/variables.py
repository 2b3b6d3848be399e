"""What a packet can be, as variables that may have any values: a packet has a field if other variables say so.

Owns the variables, their order in diagrams, and what a packet must be to have a field. Is given the names of
interfaces. Must not know rules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from sgdataplane.contract.fields import CtDirection, CtState, Field, KeyType, Nfproto
from sgdataplane.nft.ir import Chain, Key, Range
from tests.support.inputs.mutate_asked import last_of
from tests.support.models.diagrams import Span


class Way(NamedTuple):
    """Through which base chain a packet comes, whether it has come by an interface, and whether it leaves by one."""

    chain: str
    has_come: bool
    leaves: bool


# What packets at a hook of the kernel can be. A packet that this host sends has come by no interface.
AT_HOOK = {
    "prerouting": [(True, False)],
    "input": [(True, False)],
    "postrouting": [(True, True), (False, True)],
}
# The variables that are no fields: the way; whether elements are in the maps where only the kernel knows them; and the
# parts of the session's mark. Its halves are an epoch and a slot, of 6 bits in instances and 11 in routers.
WAY, OPEN = "way", "open"
PARTS = {
    "epoch, high": 0xF8000000,
    "either, high": 0x07C00000,
    "slot, high": 0x003F0000,
    "epoch, low": 0xF800,
    "either, low": 0x07C0,
    "slot, low": 0x3F,
}
Variable = Field | str
INTERFACES = (Field.IIFNAME, Field.OIFNAME)
TRACKED = (CtState.NEW, CtState.ESTABLISHED, CtState.RELATED)
SESSION = tuple(name for name in Field if name.name.startswith("CT_") and name is not Field.CT_STATE)
PORTS = tuple(name for name in Field if name.name.endswith(("_SPORT", "_DPORT")))
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
SYN_FLAGS = 0x17  # FIN, SYN, RST, ACK: nothing asks for others
LOOPBACK = "lo"
OTHER = "other0"  # stands for all other interfaces without a name in the table
KINDS: dict[Variable, tuple[object, ...]] = {
    OPEN: (False, True),
    Field.NFPROTO: tuple(map(int, Nfproto)),
    Field.CT_STATE: tuple(map(int, CtState)),
    Field.CT_DIRECTION: tuple(map(int, CtDirection)),
    Field.TCP_FLAGS: tuple(value for value in range(SYN_FLAGS + 1) if not value & ~SYN_FLAGS),
}
ORDER: tuple[Variable, ...] = (
    *[WAY, OPEN],
    *[Field.IIFNAME, Field.OIFNAME, Field.NFPROTO, Field.CT_STATE, Field.CT_DIRECTION],
    *PARTS,
    *[Field.L4PROTO, Field.CT_PROTOCOL, Field.PACKET_PRIORITY],
    *[Field.ICMP_TYPE, Field.ICMPV6_TYPE, Field.IP6_HOPLIMIT, Field.TCP_FLAGS, Field.ND_TARGET],
    *[Field.TH_SPORT, Field.TH_DPORT, Field.IP_SADDR, Field.IP_DADDR, Field.IP6_SADDR, Field.IP6_DADDR],
    *[name for name in SESSION if name.name.startswith(("CT_ORIGINAL", "CT_REPLY"))],
)
NUMBER = {variable: number for number, variable in enumerate(ORDER)}
Need = tuple[Variable, frozenset[object]]


def _needs(name: Field) -> Iterator[Need]:
    if name in SESSION:
        yield Field.CT_STATE, frozenset(TRACKED)
    families = {KeyType.IPV4: Nfproto.IPV4, KeyType.IPV6: Nfproto.IPV6}
    others = {Field.ICMP_TYPE: Nfproto.IPV4}
    others |= dict.fromkeys((Field.ICMPV6_TYPE, Field.IP6_HOPLIMIT, Field.ND_TARGET), Nfproto.IPV6)
    if family := families.get(name.key_type, others.get(name)):
        yield Field.NFPROTO, frozenset({family})
    protocols = {Field.ICMP_TYPE: ICMP, Field.ICMPV6_TYPE: ICMPV6, Field.ND_TARGET: ICMPV6, Field.TCP_FLAGS: TCP}
    if name in protocols:
        yield Field.L4PROTO, frozenset({protocols[name]})
    if name in PORTS:
        yield Field.CT_PROTOCOL if name in SESSION else Field.L4PROTO, frozenset({TCP, UDP})


# The values that a packet has elsewhere if it has the field; but see Variables for interfaces.
NEEDS: Mapping[Field, tuple[Need, ...]] = {name: tuple(_needs(name)) for name in Field}


class Packet(NamedTuple):
    """At a base chain. `is_open`: while elements are in the maps where only the kernel knows them."""

    chain: str
    is_open: bool
    fields: Mapping[Field, Key]


class Variables:
    """Those of packets at interfaces of these names, or others, and at these base chains. A diagram knows values by
    number: of a variable with few values, their places in the list of them. `needs`: what packets that have a field
    have elsewhere."""

    def __init__(self, names: Iterable[str], chains: Iterable[Chain]) -> None:
        self.names = sorted({*names} - {LOOPBACK})
        # What a router itself sends comes by `output`, which asks nothing of these packets (proof/checks/origin.py).
        bases = [chain for chain in chains if chain.hook and chain.hook.name in AT_HOOK]
        self.ways = tuple(Way(c.name, *ends) for c in bases if c.hook for ends in AT_HOOK[c.hook.name])
        at: dict[Variable, tuple[object, ...]] = dict.fromkeys(INTERFACES, (*self.names, LOOPBACK, OTHER))
        self.values = {**KINDS, **at, WAY: self.ways}
        by: dict[Field, tuple[Need, ...]] = {
            Field.IIFNAME: ((WAY, frozenset(way for way in self.ways if way.has_come)),),
            Field.OIFNAME: ((WAY, frozenset(way for way in self.ways if way.leaves)),),
        }
        self.needs = {**NEEDS, **by}
        self.sizes = [len(self.values[v]) if v in self.values else _last(v) + 1 for v in ORDER]

    def spans(self, asked: Field, ranges: Iterable[Range], mask: int | None = None) -> list[Span]:
        """The values of a field that are within the ranges under the mask. (A mark has several variables: PARTS.)"""
        assert mask == (SYN_FLAGS if asked is Field.TCP_FLAGS else None), f"other bits of {asked.name} are asked for"
        if asked in self.values:
            wanted = {value for each in ranges for value in self.values[asked] if _is_within(value, each)}
            return self.places(asked, wanted)
        last = self.sizes[NUMBER[asked]] - 1
        numbers = ((int(each.first), min(int(each.last), last)) for each in ranges if not isinstance(each.first, str))
        return [(first, end) for first, end in numbers if first <= end]

    def places(self, variable: Variable, wanted: Collection[object]) -> list[Span]:
        """Of these values."""
        values = self.values.get(variable) or range(self.sizes[NUMBER[variable]])
        return [(place, place) for place, value in enumerate(values) if value in wanted]

    def packet(self, point: Mapping[int, int]) -> Packet:
        """The one with these values, by number of the variable; with the first one of each other variable."""
        values = {variable: self._value(variable, point.get(number, 0)) for variable, number in NUMBER.items()}
        fields = {name: value for name, value in values.items() if isinstance(name, Field) and self._has(name, values)}
        if self._has(Field.CT_MARK, values):
            fields[Field.CT_MARK] = sum(int(str(values[part])) * lowest(mask) for part, mask in PARTS.items())
        way = values[WAY]
        assert isinstance(way, Way)
        return Packet(way.chain, values[OPEN] is True, fields)  # type: ignore[arg-type]

    def _has(self, name: Field, values: Mapping[Variable, object]) -> bool:
        return all(values[variable] in wanted for variable, wanted in self.needs[name])

    def _value(self, variable: Variable, number: int) -> object:
        return self.values[variable][number] if variable in self.values else number


def parts_of(mask: int | None) -> list[str]:
    """The parts of a mark that it covers."""
    found = [part for part, bits in PARTS.items() if bits & (0xFFFFFFFF if mask is None else mask)]
    assert mask is None or sum(PARTS[part] for part in found) == mask, "a piece of a mark's part is asked for"
    return found


def in_part(part: str, mark: int) -> int:
    return (mark & PARTS[part]) // lowest(PARTS[part])


def lowest(bits: int) -> int:
    return bits & -bits


def _is_within(value: object, item: Range) -> bool:
    if isinstance(item.first, str) or isinstance(value, str):
        return value == item.first
    return isinstance(value, int) and int(item.first) <= value <= int(item.last)


def _last(variable: Variable) -> int:
    return in_part(variable, 0xFFFFFFFF) if isinstance(variable, str) else last_of(variable)

"""Say which packets can appear at one interface and hook: which fields they have, and the axes that tell them apart.

Owns the shapes of packets and of conntrack's answers, and the opening packet that these answers are about. It is given
where to cut the axes. It must not know what is done with packets.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sgdataplane.contract.fields import (
    DESTINATION,
    NFPROTO,
    SOURCE,
    TCP_ACK,
    TCP_FIN,
    TCP_RST,
    TCP_SYN,
    CtDirection,
    CtState,
    Field,
)
from sgdataplane.contract.sites import Site
from sgdataplane.model import always
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import AH, ICMP, ICMPV6, PORT_PROTOCOLS, TCP, UDP, Address, Direction, Family
from sgdataplane.nft.ir import Key, Match, Range
from sgdataplane.proof.spec.axes import LACKING, Atoms, Axis, MalformedError, Names, Span, representatives
from sgdataplane.proof.spec.order import Cell
from sgdataplane.proof.spec.readings import Asked

Fields = Mapping[Field, Key]  # the fields that one packet has, with their values
# The fields of a conntrack entry that hold the opening packet's source, destination, and whatever else rules ask for
# (claims.py: AXES).
EndFields = Mapping[str, Field]
OPENED_REST = {
    "protocol": Field.CT_PROTOCOL,
    "source_port": Field.CT_ORIGINAL_SPORT,
    "port": Field.CT_ORIGINAL_DPORT,
}
OPENED: Mapping[Family, EndFields] = {
    Family.IPV4: {"source": Field.CT_ORIGINAL_IP_SADDR, "destination": Field.CT_ORIGINAL_IP_DADDR, **OPENED_REST},
    Family.IPV6: {"source": Field.CT_ORIGINAL_IP6_SADDR, "destination": Field.CT_ORIGINAL_IP6_DADDR, **OPENED_REST},
}
ANSWERED_REST = {  # the same, read from the entry's reply tuple
    "protocol": Field.CT_PROTOCOL,
    "source_port": Field.CT_REPLY_DPORT,
    "port": Field.CT_REPLY_SPORT,
}
ANSWERED: Mapping[Family, EndFields] = {
    Family.IPV4: {"source": Field.CT_REPLY_IP_DADDR, "destination": Field.CT_REPLY_IP_SADDR, **ANSWERED_REST},
    Family.IPV6: {"source": Field.CT_REPLY_IP6_DADDR, "destination": Field.CT_REPLY_IP6_SADDR, **ANSWERED_REST},
}
ICMP_TYPE = {Family.IPV4: Field.ICMP_TYPE, Family.IPV6: Field.ICMPV6_TYPE}

BYTE, LAST_PROTOCOL, LAST_PORT, LAST_TARGET = 255, 255, 65_535, (1 << 128) - 1
SYN_FLAGS = TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK
OPENING: Asked = (Field.TCP_FLAGS, SYN_FLAGS)  # the flags that show whether a segment opens a session
TRACKED = (CtState.NEW, CtState.ESTABLISHED, CtState.RELATED)
UNTRACKED = (CtState.INVALID, CtState.UNTRACKED)  # such packets have no entry


def find_reached_field(family: Family, *, is_arriving: bool) -> Field:
    """Return the field with the address that a session is opened to."""
    return (OPENED if is_arriving else ANSWERED)[family]["destination"]


def find_source_field(family: Family, way: CtDirection, *, is_arriving: bool) -> Field:
    """Return the field with the address that a session's packets in direction `way` come from.

    It is the address on the wire at a hook. Where packets leave, it is the one that packets of the other direction were
    sent to when they came in.
    """
    if way is CtDirection.ORIGINAL:
        return (OPENED if is_arriving else ANSWERED)[family]["source"]
    return (ANSWERED if is_arriving else OPENED)[family]["destination"]


def family_of(fields: Fields) -> Family:
    """Return the family of a packet with these fields."""
    return Family.IPV6 if fields.get(Field.NFPROTO) == NFPROTO[Family.IPV6] else Family.IPV4


def opening_of(eni_id: str, site: Site, direction: Direction, fields: Fields) -> Packet:
    """Return the packet that opened the session of a packet, or of the packet that an ICMP error quotes.

    It is as it was on the wire at the hook where that direction's rules see it. AH over IPv6 counts as an opening
    packet itself, whatever it carries.
    """
    family = family_of(fields)
    is_behind_ah = family is Family.IPV6 and fields[Field.L4PROTO] == AH
    ends = (ANSWERED if site.is_leaving(direction) else OPENED)[family]
    source, destination = (Address(family.bits, int(fields[ends[name]])) for name in ("source", "destination"))
    remote, own = (source, destination) if direction is Direction.INGRESS else (destination, source)
    protocol = AH if is_behind_ah else int(fields[ends["protocol"]])
    has_ports = protocol in PORT_PROTOCOLS
    source_port, port = (int(fields[ends[name]]) if has_ports else None for name in ("source_port", "port"))
    return Packet(eni_id, direction, remote, own, protocol, port, source_port)


class Presence(enum.Enum):
    """Whether packets of a kind have a field."""

    HAS = enum.auto()
    LACKS = enum.auto()
    EITHER = enum.auto()


Kind = Mapping[Field, Presence | Atoms]  # packets have every field that isn't listed here


def other_family(family: Family) -> Family:
    """Return IPv6 for IPv4, and IPv4 for IPv6."""
    return Family.IPV4 if family is Family.IPV6 else Family.IPV6


@dataclass(frozen=True, slots=True)
class Crossing:
    """All packets of one family at one interface and hook."""

    site: Site
    hook: Direction
    """The side that the base chain at this hook is named after."""
    family: Family
    ifname: str

    @property
    def is_leaving(self) -> bool:
        """Whether packets leave the namespace at this hook; else they come in."""
        return self.site.is_leaving(self.hook)

    def _find_reached_field(self, family: Family) -> Field:
        return find_reached_field(family, is_arriving=not self.site.is_leaving(Direction.EGRESS))

    def _find_source_fields(self, family: Family) -> tuple[Field, ...]:
        """Return the fields that say where packets of each direction of a session come from.

        Chains ask for them of ICMP errors at egress, and at uplinks.
        """
        is_egress, is_arriving = self.hook is Direction.EGRESS, not self.is_leaving
        ways = CtDirection if is_egress or is_arriving else ()
        return tuple(find_source_field(family, way, is_arriving=is_arriving) for way in ways)

    def get_known_fields(self) -> dict[Field, Key | None]:
        """Return the fields whose value is known; LACKING means that packets don't have the field.

        A packet that leaves may have come by any interface or by none. A packet that comes in has no outgoing interface
        yet: the kernel compares an empty name (nft_meta.c).
        """
        other = other_family(self.family)
        known: dict[Field, Key | None] = {
            Field.NFPROTO: NFPROTO[self.family],
            **dict.fromkeys((SOURCE[other], DESTINATION[other], ICMP_TYPE[other]), LACKING),
            **dict.fromkeys((self._find_reached_field(other), *self._find_source_fields(other)), LACKING),
        }
        if self.is_leaving:
            known[Field.OIFNAME] = self.ifname
        else:
            known |= {Field.IIFNAME: self.ifname, Field.OIFNAME: ""}
        if self.family is Family.IPV4:
            known |= {Field.IP6_HOPLIMIT: LACKING, Field.ND_TARGET: LACKING}
        return known

    def of_session(self) -> tuple[Field, ...]:
        """Return the fields, besides the mark, that a packet has if conntrack has an entry for it."""
        ends = self._find_reached_field(self.family), *self._find_source_fields(self.family)
        return Field.CT_DIRECTION, *dict.fromkeys(ends)

    def list_axes(self) -> tuple[Asked, ...]:
        """Return the fields that make up the axes, in order. The protocol comes first."""
        fields = [Field.L4PROTO, SOURCE[self.family], DESTINATION[self.family], Field.TH_SPORT, Field.TH_DPORT]
        fields += [ICMP_TYPE[self.family], Field.CT_STATE, *self.of_session()]
        fields += [Field.IP6_HOPLIMIT, Field.ND_TARGET] if self.family is Family.IPV6 else []
        fields += [Field.IIFNAME] if self.is_leaving else []
        marks = self.site.marks
        of_marks = [mask for side in Direction for mask in (marks.epoch_mask(side), marks.slot_mask(side))]
        return (*((name, None) for name in fields), OPENING, *((Field.CT_MARK, mask) for mask in of_marks))


class Space:
    """The axes of one crossing, cut where the table (`cuts`, by index) or the clauses (`matches`) need it.

    An axis that neither of them asks for has a single atom.

    Attributes:
        index: The index of the axis of each field, or of each part of a field under a mask.
        axes: The axes in order.
        read: The indices of the axes that somebody asks for.
    """

    def __init__(self, crossing: Crossing, matches: Iterable[Match], cuts: Mapping[int, Sequence[Range]]) -> None:
        asked = crossing.list_axes()
        self.crossing, self.index = crossing, {name: index for index, name in enumerate(asked)}
        ranges: dict[int, list[Range]] = {index: list(found) for index, found in cuts.items()}
        for match in matches:
            ranges.setdefault(self._index_of(match), []).extend(match.ranges)
        protocols, types = self.index[Field.L4PROTO, None], self.index[ICMP_TYPE[crossing.family], None]
        ranges.setdefault(protocols, []).extend(map(Range.of, (*PORT_PROTOCOLS, ICMP, ICMPV6)))
        ranges.setdefault(types, []).append(Range.of(always.ADVERTISE))
        self.read = ranges.keys()
        self.axes = tuple(
            _axis(crossing, name, ranges[index]) if index in ranges else Span(0) for index, name in enumerate(asked)
        )

    def _index_of(self, match: Match) -> int:
        found = self.index.get((match.field, None))
        return self.index[match.field, match.mask] if found is None else found

    def region(self, conditions: Iterable[Match]) -> Cell:
        """Return the packets for which all conditions hold, as a cell."""
        found = [axis.full for axis in self.axes]
        for match in conditions:
            index = self._index_of(match)
            chosen = self.axes[index].select(match.ranges, match.mask)
            found[index] &= self.axes[index].present & ~chosen if match.negate else chosen
        return tuple(found)

    def full(self) -> Cell:
        """Return the cell of all combinations of values, possible or not."""
        return tuple(axis.full for axis in self.axes)

    def with_ports(self) -> Atoms:
        """Return the protocols that have ports, as atoms of the first axis."""
        return self._axis(Field.L4PROTO).select([Range.of(protocol) for protocol in PORT_PROTOCOLS])

    def kinds(self) -> list[Cell]:
        """Return all packets that can exist, as cells."""
        return sorted(set(self._kinds()))

    def _kinds(self) -> Iterator[Cell]:
        """Yield the cells of all packets, with and without a conntrack entry."""
        tracked: Kind = {Field.CT_STATE: self._states(TRACKED)}
        lacks = Presence.LACKS
        of_none: Kind = {**dict.fromkeys(self.crossing.of_session(), lacks), Field.CT_MARK: lacks}
        untracked: Kind = {**of_none, Field.CT_STATE: self._states(UNTRACKED)}
        for fields in self._of_protocols():
            for session in (tracked, untracked):
                yield self._cell({Field.IIFNAME: Presence.EITHER, **fields, **session})

    def _of_protocols(self) -> Iterator[Kind]:
        """Yield the fields that packets of each protocol have. A truncated ICMP packet has no type."""
        family = self.crossing.family
        icmp, icmp_type = (ICMP if family is Family.IPV4 else ICMPV6), ICMP_TYPE[family]
        protocols, types = self._axis(Field.L4PROTO), self._axis(icmp_type)
        advertise = types.single(always.ADVERTISE)
        of_icmp: Kind = {Field.TCP_FLAGS: Presence.LACKS, Field.L4PROTO: protocols.single(icmp)}
        of_others: Kind = dict.fromkeys((Field.TCP_FLAGS, icmp_type, Field.ND_TARGET), Presence.LACKS)
        rest = protocols.full
        for protocol in (TCP, UDP, icmp):
            rest &= ~protocols.single(protocol)
        yield {**of_others, Field.L4PROTO: protocols.single(TCP), Field.TCP_FLAGS: Presence.HAS}
        yield {**of_others, Field.L4PROTO: protocols.single(UDP)}
        yield {**of_others, Field.L4PROTO: rest}
        yield {**of_icmp, icmp_type: types.full & ~advertise, Field.ND_TARGET: Presence.EITHER}
        yield {**of_icmp, icmp_type: advertise}

    def _cell(self, kind: Kind) -> Cell:
        return tuple(
            _atoms(axis, kind.get(name, Presence.HAS)) if index in self.read else axis.full
            for (name, _), index, axis in zip(self.index, self.index.values(), self.axes, strict=True)
        )

    def _axis(self, name: Field) -> Axis:
        return self.axes[self.index[name, None]]

    def _states(self, states: Iterable[CtState]) -> Atoms:
        """Return the atoms of conntrack states, or all atoms if nobody asks for the state."""
        axis = self._axis(Field.CT_STATE)
        return axis.select([Range.of(int(state)) for state in sorted(states)]) if isinstance(axis, Names) else axis.full


def _atoms(axis: Axis, wanted: Presence | Atoms) -> Atoms:
    if not isinstance(wanted, Presence):
        return wanted
    return {Presence.HAS: axis.present, Presence.LACKS: axis.full & ~axis.present, Presence.EITHER: axis.full}[wanted]


def _axis(crossing: Crossing, asked: Asked, ranges: Sequence[Range]) -> Axis:
    """Make one axis.

    Flags and conntrack states are all listed. Names and marks are listed if something asks for them, with one more
    that stands for all others.
    """
    name, mask = asked
    if name is Field.CT_MARK and mask is not None:
        return Names((LACKING, *_marks(mask, ranges)))
    listed: dict[Field, Iterable[Key | None]] = {
        Field.TCP_FLAGS: (LACKING, *(flags for flags in range(SYN_FLAGS + 1) if not flags & ~SYN_FLAGS)),
        Field.CT_STATE: map(int, CtState),
        Field.CT_DIRECTION: (LACKING, *map(int, CtDirection)),
        Field.IIFNAME: (LACKING, *representatives({str(item.first) for item in ranges})),
    }
    if name in listed:
        return Names(listed[name])
    numbers = {
        Field.L4PROTO: LAST_PROTOCOL,
        Field.TH_SPORT: LAST_PORT,
        Field.TH_DPORT: LAST_PORT,
        ICMP_TYPE[crossing.family]: BYTE,
        Field.IP6_HOPLIMIT: BYTE,
        Field.ND_TARGET: LAST_TARGET,
    }
    may_lack = name in (ICMP_TYPE[crossing.family], Field.ND_TARGET, *crossing.of_session())
    return Span(numbers.get(name, crossing.family.last), Span.cuts_of(ranges), may_lack=may_lack)


def _marks(mask: int, ranges: Sequence[Range]) -> Iterator[int]:
    """Yield the values of a part of the mark that are asked for, then one value that isn't."""
    asked = {0}
    for item in ranges:
        if item.first != item.last:
            raise MalformedError(f"a range of marks, {item.first}-{item.last}")
        asked.add(int(item.first))
    low = mask & -mask
    yield from sorted(asked)
    yield next(value for value in range(low, mask, low) if value not in asked)

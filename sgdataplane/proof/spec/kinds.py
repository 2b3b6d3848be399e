"""Say which packets one direction's rules judge, and in which fields these have what a rule speaks of.

Owns the kinds of packets whose sessions are judged alike, and how their fields are read. It must not know rules or
tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sgdataplane.contract.fields import NFPROTO, Field
from sgdataplane.contract.tables import members_name
from sgdataplane.model import always
from sgdataplane.model.state import Eni
from sgdataplane.net.values import AH, Direction, Family, Prefix
from sgdataplane.nft.ir import Key, Match, Range
from sgdataplane.proof.spec.axes import LACKING
from sgdataplane.proof.spec.claims import AXES
from sgdataplane.proof.spec.crossing import ANSWERED, OPENED, other_family
from sgdataplane.proof.spec.readings import Asked, FieldReading

BEHIND_AH = ("protocol", "source_port", "port")  # with AH, the entry has these of the packet behind the header
IS_AH = Match(Field.L4PROTO, (Range.of(AH),))
PROTOCOL, LOCAL = map([axis.name for axis in AXES].index, ("protocol", "local"))
FAR = GROUP_SET = len(AXES)  # the last axis has the far address in one walk, and its group set in the other


@dataclass(frozen=True, slots=True)
class SessionKind:
    """All packets whose session one direction's rules judge: opening packets, replies, ICMP errors.

    They are judged by the opening packet as it is on the wire, which conntrack keeps. AH over IPv6 carries the entry of
    the packet behind the header, so its protocol is taken from the header.
    """

    direction: Direction
    """The direction whose rules judge them."""
    family: Family
    is_arriving: bool
    """Whether the opening packet meets its hook on the way in.

    It is in the entry's original tuple then. Else addresses may have been translated before the hook, and the reply
    tuple has it.
    """
    is_behind_ah: bool = False
    """Whether the packets have an authentication header."""

    @property
    def fields(self) -> Mapping[str, Field]:
        """The field of the far address ("far"), then that of each axis, in the order of the axes."""
        return self._fields(self.family)

    def _fields(self, family: Family) -> Mapping[str, Field]:
        ends = (OPENED if self.is_arriving else ANSWERED)[family]
        is_ingress = self.direction is Direction.INGRESS
        far, local = ("source", "destination") if is_ingress else ("destination", "source")
        found = {**ends, "local": ends[local]}
        return {"far": ends[far], **{axis.name: found[axis.name] for axis in AXES if axis.name in found}}

    def own(self, eni: Eni) -> list[Prefix]:
        """Return the addresses that can be on the ENI's side.

        These are its own; where it is the destination, also multicast and the like.
        """
        shared = always.SHARED[self.family] if self.direction is Direction.INGRESS else ()
        return [p for p in (*eni.own_prefixes, *shared) if p.family is self.family]

    def reading(self, *, by_group_set: bool) -> FieldReading:
        """Say how such packets' fields are read. With `by_group_set`, the far address is read by its group set only.

        With AH, no rule may ask for the entry's protocol or ports.
        """
        mine, others = self.fields, self._fields(other_family(self.family))
        known: dict[Field, Key | None] = {
            Field.NFPROTO: NFPROTO[self.family],
            others["far"]: LACKING,
            others["local"]: LACKING,
        }
        unasked = BEHIND_AH if self.is_behind_ah else ()
        asked: dict[Asked, int] = {
            (mine[axis.name], None): index
            for index, axis in enumerate(AXES)
            if axis.name in mine and axis.name not in unasked
        }
        answers = {IS_AH: self.is_behind_ah} if self.family is Family.IPV6 else {}
        if by_group_set:
            return FieldReading(known, asked, mine["far"], members_name(self.family), answers=answers)
        return FieldReading(known, {**asked, (mine["far"], None): FAR}, answers=answers)

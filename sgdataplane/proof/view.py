"""One kind of packet that a profile judges: whose rules it answers to, in which family, and whether behind AH.

Owns where the sessions of such packets have what a rule speaks of. Must not know tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sgdataplane.contract.fields import Field
from sgdataplane.model import always
from sgdataplane.model.state import Eni
from sgdataplane.net.values import AH, Direction, Family, Prefix
from sgdataplane.nft.ir import Key, Match, Range
from sgdataplane.proof.axes import LACKING
from sgdataplane.proof.claims import AXES
from sgdataplane.proof.crossing import ANSWERED, NFPROTO, OPENED, other_family
from sgdataplane.proof.reading import Asked, Reading

BEHIND_AH = ("protocol", "source_port", "port")  # what the entry has of another packet there
IS_AH = Match(Field.L4PROTO, (Range.of(AH),))


@dataclass(frozen=True, slots=True)
class View:
    """All packets whose session one direction's rules judge: the opening one, replies, ICMP errors. They are judged by
    their session's opening packet as it is on the wire, which conntrack keeps: in the original tuple if it meets its
    hook on its way in (`is_arriving`), else, as addresses may have been translated by then, in the tuple that its
    reply is expected to have. AH over IPv6 carries the entry of what is behind it: its protocol is its header's."""

    direction: Direction
    family: Family
    is_arriving: bool
    is_behind_ah: bool = False

    @property
    def fields(self) -> Mapping[str, Field]:
        """Of the far address ("far"), and of each axis that packets of the family have, in their order."""
        return self._fields(self.family)

    def _fields(self, family: Family) -> Mapping[str, Field]:
        ends = (OPENED if self.is_arriving else ANSWERED)[family]
        is_ingress = self.direction is Direction.INGRESS
        far, local = ("source", "destination") if is_ingress else ("destination", "source")
        found = {**ends, "local": ends[local]}
        return {"far": ends[far], **{axis.name: found[axis.name] for axis in AXES if axis.name in found}}

    def own(self, eni: Eni) -> list[Prefix]:
        """What can be on the ENI's own side: its addresses, and where it is the destination, those that many have."""
        shared = always.SHARED[self.family] if self.direction is Direction.INGRESS else ()
        return [p for p in (*eni.own_prefixes, *shared) if p.family is self.family]

    def reading(self) -> Reading:
        """Nothing is asked of the entry's protocol or ports where the packet is behind AH."""
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
        return Reading(known, asked, mine["far"], answers=answers)

"""One kind of packet that a profile judges: at which hook, in which family, opening a session or answering in one.

Owns where such packets have what a rule speaks of. Must not know tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.model import always
from sgdataplane.model.state import Eni
from sgdataplane.net.values import Direction, Family, Prefix
from sgdataplane.nft.ir import CtDirection, Field, Key
from sgdataplane.proof.axes import LACKING
from sgdataplane.proof.crossing import DESTINATION, NFPROTO, SOURCE, other_family
from sgdataplane.proof.reading import Asked, Reading


@dataclass(frozen=True, slots=True)
class View:
    """Opening packets, or replies, at one hook: where their headers have what a rule speaks of. A reply answers to the
    other direction's rules, and has the ports of its opening packet the other way round."""

    hook: Direction
    family: Family
    is_reply: bool

    @property
    def direction(self) -> Direction:
        return self.hook.other if self.is_reply else self.hook

    @property
    def fields(self) -> tuple[Field, Field, Field, Field, Field]:
        """Of the far address, and of each axis."""
        is_ingress = self.hook is Direction.INGRESS
        far, local = (SOURCE, DESTINATION) if is_ingress else (DESTINATION, SOURCE)
        ports = (Field.TH_SPORT, Field.TH_DPORT)
        source, port = reversed(ports) if self.is_reply else ports
        return far[self.family], Field.L4PROTO, local[self.family], source, port

    def own(self, eni: Eni) -> list[Prefix]:
        """What can be on the ENI's own side: its addresses, and where it is the destination, those that many have."""
        shared = always.SHARED[self.family] if self.hook is Direction.INGRESS else ()
        return [p for p in (*eni.own_prefixes, *shared) if p.family is self.family]

    def reading(self) -> Reading:
        far, *axes = self.fields
        other = other_family(self.family)
        known: dict[Field, Key | None] = {
            Field.NFPROTO: NFPROTO[self.family],
            Field.CT_DIRECTION: CtDirection.REPLY if self.is_reply else CtDirection.ORIGINAL,
            SOURCE[other]: LACKING,
            DESTINATION[other]: LACKING,
        }
        asked: dict[Asked, int] = {(name, None): index for index, name in enumerate(axes)}
        return Reading(known, asked, far)

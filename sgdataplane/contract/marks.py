"""The conntrack mark: who accepted this session, and under which epoch.

Owns the layout. Is given directions, slots and epochs. Must not know rules.

    bits  31........... ..16   15........... ...0
          epoch         slot   epoch         slot
          ingress side's half  egress side's half

Two halves, because one conntrack entry can answer to two policies: of the ENI that sends a packet and of the one that
it is for, or of two ENIs of an instance that forwards it. A slot, because a namespace can hold several ENIs: what one
accepted, another has still to judge. A half that equals the present epoch at this ENI's slot is the whole fast path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from sgdataplane.net.values import Direction

SHIFT = {Direction.INGRESS: 16, Direction.EGRESS: 0}
HALF = {side: 0xFFFF << shift for side, shift in SHIFT.items()}
HALF_BITS = 16
FIRST_EPOCH = 1


@dataclass(frozen=True, slots=True)
class MarkLayout:
    """`slot_bits` of each half say the slot (from 1), the others the epoch. `max_links`: ENIs that one namespace can
    hold. `is_spread`: an ENI's slot follows from its interface's name, so that others come and go without moving it;
    else slots are numbered."""

    slot_bits: int
    max_links: int
    is_spread: bool = False

    @property
    def last_epoch(self) -> int:
        return (1 << (HALF_BITS - self.slot_bits)) - 1

    @property
    def epoch_fields(self) -> tuple[int, ...]:
        """The bits of the epochs, one mask for each half."""
        return tuple(self.epoch_mask(side) for side in SHIFT)

    def epoch_mask(self, side: Direction) -> int:
        return HALF[side] & ~self.slot_mask(side)

    def slot_mask(self, side: Direction) -> int:
        return ((1 << self.slot_bits) - 1) << SHIFT[side]

    def epoch(self, side: Direction, epoch: int) -> int:
        """The value of the epoch's bits in that side's half."""
        return epoch << self.slot_bits << SHIFT[side]

    def slot(self, side: Direction, slot: int) -> int:
        """The value of the slot's bits in that side's half."""
        return slot << SHIFT[side]

    def accepted(self, side: Direction, epoch: int, slot: int) -> int:
        """The half that says: that side's policy of the ENI at `slot` accepted this, in `epoch` (1..last_epoch)."""
        return self.epoch(side, epoch) | self.slot(side, slot)

    def parts(self, side: Direction, mark: int) -> tuple[int, int]:
        """Epoch and slot that a mark has in that side's half; (0, 0): nobody accepted it."""
        return divmod(mark >> SHIFT[side] & 0xFFFF, 1 << self.slot_bits)

    def slots(self, ifnames: Iterable[str]) -> dict[str, int]:
        """The slot of the ENI on each interface."""
        ordered = sorted(ifnames)
        if self.is_spread:
            return _spread(ordered, (1 << self.slot_bits) - 1)
        return {name: number for number, name in enumerate(ordered, start=1)}


def other_half(side: Direction) -> int:
    """The bits that an accept or a refusal of this side leaves alone."""
    return ~HALF[side] & 0xFFFFFFFF


def _spread(ordered: list[str], count: int) -> dict[str, int]:
    """1..count by a hash of the name; where that is taken, the next one that is free."""
    found: dict[str, int] = {}
    taken: set[int] = set()
    for name in ordered:
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % count
        while place in taken:
            place = (place + 1) % count
        taken.add(place)
        found[name] = place + 1
    return found

"""Lay out the conntrack mark, which says which ENI's policy accepted this session, and in which epoch.

Owns the layout of the mark's bits. It must not know rules.

    bits  31........... ..16   15........... ...0
          epoch         slot   epoch         slot
          ingress side's half  egress side's half

There are two halves because two policies can judge one conntrack entry: those of the ENI that sends a packet and of the
ENI that receives it, or those of two ENIs of an instance that forwards it. There is a slot because a namespace can hold
several ENIs: what one of them accepted, another one has still to judge. A half that holds the present epoch and this
ENI's slot is the whole fast path.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from sgdataplane.contract import names
from sgdataplane.net.values import Direction

SHIFT = {Direction.INGRESS: 16, Direction.EGRESS: 0}
HALF = {side: 0xFFFF << shift for side, shift in SHIFT.items()}
HALF_BITS = 16
FIRST_EPOCH = 1


@dataclass(frozen=True, slots=True)
class MarkLayout:
    """Which bits of each half of the mark hold what. All bits but those of the slot hold the epoch."""

    slot_bits: int
    """How many bits the slot has. Slots begin at 1."""
    max_links: int
    """How many ENIs one namespace can hold."""
    is_spread: bool = False
    """Whether an ENI's slot follows from its interface's name, so that other ENIs come and go without moving it.

    Else slots are numbered.
    """

    @property
    def last_epoch(self) -> int:
        """The largest epoch."""
        return (1 << (HALF_BITS - self.slot_bits)) - 1

    @property
    def epoch_fields(self) -> tuple[int, ...]:
        """The bits of the epochs, one mask for each half."""
        return tuple(self.epoch_mask(side) for side in SHIFT)

    def epoch_mask(self, side: Direction) -> int:
        """Return the bits of the epoch in that side's half."""
        return HALF[side] & ~self.slot_mask(side)

    def slot_mask(self, side: Direction) -> int:
        """Return the bits of the slot in that side's half."""
        return ((1 << self.slot_bits) - 1) << SHIFT[side]

    def epoch(self, side: Direction, epoch: int) -> int:
        """Return the value of the epoch's bits in that side's half."""
        return epoch << self.slot_bits << SHIFT[side]

    def slot(self, side: Direction, slot: int) -> int:
        """Return the value of the slot's bits in that side's half."""
        return slot << SHIFT[side]

    def encode_acceptance(self, side: Direction, epoch: int, slot: int) -> int:
        """Return the half which says that the ENI at `slot` accepted the session by that side's policy.

        `epoch` is from 1 to last_epoch.
        """
        return self.epoch(side, epoch) | self.slot(side, slot)

    def parts(self, side: Direction, mark: int) -> tuple[int, int]:
        """Return the epoch and the slot in that side's half of a mark; (0, 0) if no ENI accepted the session."""
        return divmod(mark >> SHIFT[side] & 0xFFFF, 1 << self.slot_bits)

    def slots(self, ifnames: Iterable[str]) -> dict[str, int]:
        """Return the slot of the ENI on each interface."""
        return dict(_slots(self, tuple(sorted(ifnames))))


@lru_cache(maxsize=4)
def _slots(layout: MarkLayout, ordered: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    if layout.is_spread:
        places = names.spread(ordered, (1 << layout.slot_bits) - 1)
        return tuple((name, 1 + place) for name, place in places.items())
    return tuple((name, number) for number, name in enumerate(ordered, start=1))


def other_half(side: Direction) -> int:
    """Return the bits that an accept or a refusal of this side leaves alone."""
    return ~HALF[side] & 0xFFFFFFFF

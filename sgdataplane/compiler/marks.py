"""The conntrack mark: who accepted this session, and under which epoch.

Owns the layout. Is given directions, slots and epochs. Must not know rules.

    bits  31........21 20..16   15.........5 4...0
          epoch        slot     epoch        slot
          ingress side's accept egress side's accept

Two halves, because one conntrack entry can answer to two policies: a packet that an instance forwards from one ENI to
another. A slot, because a namespace can hold several ENIs: what one accepted, another has still to judge. A half that
equals the present epoch at this ENI's slot is the whole fast path.
"""

from __future__ import annotations

from sgdataplane.net.values import Direction

SLOT_BITS = 5
MAX_LINKS = 1 << SLOT_BITS  # ENIs in one namespace; the largest instance types of the cloud take 32
LAST_EPOCH = (1 << (16 - SLOT_BITS)) - 1
SHIFT = {Direction.INGRESS: 16, Direction.EGRESS: 0}
HALF = {side: 0xFFFF << shift for side, shift in SHIFT.items()}
EPOCH_FIELDS = tuple((LAST_EPOCH << SLOT_BITS) << shift for shift in SHIFT.values())


def accepted_mark(side: Direction, epoch: int, slot: int) -> int:
    """The half that says: that side's policy of the ENI at `slot` accepted this, in `epoch` (1..LAST_EPOCH)."""
    return (epoch << SLOT_BITS | slot) << SHIFT[side]


def other_half(side: Direction) -> int:
    """The bits that an accept or a refusal of this side leaves alone."""
    return ~HALF[side] & 0xFFFFFFFF

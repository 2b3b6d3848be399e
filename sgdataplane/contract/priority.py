"""Divide the numbers that a packet's priority may be on its way through a table.

The priority says a far address's group set, a rank, where its rules begin, or what they decided. Owns which numbers are
which, so that none is taken for another kind. It must not know chains.

    0                        nothing
    RANKS, below DECIDED     ranks (compiler/ranks.py)
    DECIDED + 1 .. 4         what was decided: by which side's rules, and how
    ACCEPTED                 an ICMP error is about a session that its ENI accepts
    OTHERS_END               an ICMP error that an ENI sends is about a session without an end at this ENI
    DECIDED + 16 and more    one side of a profile: its rules are evaluated next
    FIRST_GROUP_SET and more    group sets
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from sgdataplane.net.values import Direction, Verdict

DECIDED = 1 << 30
RANKS = range(1, DECIDED)
ACCEPTED, OTHERS_END = DECIDED + 8, DECIDED + 9
FIRST_PROFILE, PROFILE_NUMBERS = DECIDED + 16, DECIDED - 16  # the first number of profiles' sides, and how many exist
FIRST_GROUP_SET = 1 << 31
# How many numbers group sets have. The one with all bits set isn't used, as nft calls it "root".
GROUP_SETS = FIRST_GROUP_SET - 1

CODES: Mapping[tuple[Direction, Verdict], int] = {
    decided: DECIDED + 1 + index for index, decided in enumerate(product(Direction, Verdict))
}

"""The policy in force, and where it comes from.

Owns these words. Must not know files, cycles or the kernel.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from sgdataplane.model.state import CloudState


class Origin(enum.Enum):
    """The origin of the policy in force."""

    STATE = "state"  # the state on disk
    HELD = "held"  # an earlier policy that somebody asked for (hold.py)
    LAST_GOOD = "last good"  # the one before the agent started, as the state on disk is refused
    CLOSED = "closed"  # there is none, so attached ENIs pass nothing


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy in force."""

    state: CloudState
    origin: Origin
    refusal: str = ""  # why it isn't the state on disk; "" if it is
    is_missing: bool = False  # whether there is no state on disk
    generation: str = ""  # of the policy, as of source.Readable; "" if that isn't known
    refused: str = ""  # the same for the state on disk, if that isn't in force

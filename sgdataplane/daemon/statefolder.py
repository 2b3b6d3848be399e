"""The agent's state directory: made so that only we can use it.

Owns the names of the files in it. Must not know what they hold.
"""

from __future__ import annotations

from pathlib import Path

from sgdataplane.history import file, live
from sgdataplane.host.private import make_private_folder

LAST_GOOD, PROVEN, COUNTERS, TRIALS = "last-good.yaml", "proven.json", "counters.json", "trials"
POLICIES, HOLD = "policies", "hold.json"
AUDIT_ENDED = "audit-ended"
HISTORY = file.NAME


def make_state_folder(path: Path) -> None:
    """Make the state directory, or tighten its permissions.

    Raises:
        HostError: Others can use it, and that can't be changed.
    """
    history = (*(HISTORY + ending for ending in file.ENDINGS), live.NAME)
    make_private_folder(path, (LAST_GOOD, PROVEN, COUNTERS, TRIALS, AUDIT_ENDED, POLICIES, HOLD, *history))

"""Heavy answers: those that may compute for long (SgdpDiff, SgdpExplain).

Owns which these are, and what whoever computes them offers. Must not know how they are computed (analysis.py).
"""

from __future__ import annotations

from threading import Event
from typing import Protocol

from sgdataplane.store.call import Call
from sgdataplane.store.documents import Documents
from sgdataplane.store.interface import Body

HEAVY = frozenset({"SgdpDiff", "SgdpExplain"})
HEAVY_S = 20.0  # seconds that an answer may take, with the time that it waits


class Computer(Protocol):
    """Computes heavy answers, in any of several threads."""

    def compute(self, documents: Documents, call: Call, is_ended: Event, /) -> Body:
        """Return the answer's fields. The documents are at least those that it follows from (`part_for`).

        Raises:
            ApiError: The call is refused, or somebody has set the event.
        """

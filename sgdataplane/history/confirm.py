"""The confirmation of logged packets by counters: only those that counters confirm are recorded.

Owns that judgement. Is given numbers. Must not know packets, or where they were logged.

A rule counts each packet just before it logs it. So of the packets that came before a counter was read, no more may
name it than it has counted and wasn't confirmed yet. If more do, others have forged some, and we can't tell which: none
is recorded then. What it has counted beyond what was logged is missing: it came too fast for the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sgdataplane.nft.counters import Counted


class Confirmation(NamedTuple):
    """The judgement on the packets that came in the name of one counter."""

    is_given: bool
    """Whether the packets are recorded."""
    missing: int
    """How many more were counted."""
    forged: int
    """How many were forged, at least."""


@dataclass(slots=True)
class _Account:
    """A counter as it was when we began, or when it was made anew."""

    made: str
    base: int
    last: int
    settled: int = 0
    """How many of its packets were recorded or missing since then."""


class Confirmations:
    """The accounts of all counters of one place, from the moment on when we listen."""

    def __init__(self, counters: Mapping[str, Counted]) -> None:
        self._known = {name: _Account(found.made, found.packets, found.packets) for name, found in counters.items()}

    def judge(self, name: str, counted: Counted | None, came: int, coming: int) -> Confirmation:
        """Judge the packets that came in a counter's name, and account for them.

        Args:
            name: The counter.
            counted: The counter after `came` packets had come in its name; None if it is gone.
            came: How many packets are judged.
            coming: How many came since the counter was read, some of which it may have counted already. They are judged
                the next time.
        """
        if counted is None:
            return Confirmation(is_given=False, missing=0, forged=0)  # a removed rule's: we can't tell
        account = self._account(name, counted)
        account.last = counted.packets
        spare = counted.packets - account.base - account.settled
        is_given = came <= spare
        missing = spare - came - coming if is_given else spare
        missing = max(0, missing)
        account.settled += missing + (came if is_given else 0)
        return Confirmation(is_given, missing, 0 if is_given else came - max(0, spare))

    def _account(self, name: str, counted: Counted) -> _Account:
        known = self._known.get(name)
        if known is None or known.made != counted.made or counted.packets < known.last:
            known = self._known[name] = _Account(counted.made, 0, 0)
        return known

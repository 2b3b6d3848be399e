"""Which logged packets are recorded: those that counters confirm.

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
    """Whether the packets are recorded; how many more were counted; and how many, at least, were forged."""

    is_given: bool
    missing: int
    forged: int


@dataclass(slots=True)
class _Account:
    """A counter when we began, or when it was made anew, and how many of its packets were recorded or missing since."""

    made: str
    base: int
    last: int
    settled: int = 0


class Confirmations:
    """All counters of one place, from the moment on when we listen."""

    def __init__(self, counters: Mapping[str, Counted]) -> None:
        self._known = {name: _Account(found.made, found.packets, found.packets) for name, found in counters.items()}

    def judge(self, name: str, counted: Counted | None, came: int, coming: int) -> Confirmation:
        """`counted`: the counter after `came` packets had come in its name; `coming`: how many came since it was read,
        some of which it may have counted already. They are judged the next time."""
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

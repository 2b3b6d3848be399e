"""The tampering with links of routers since the agent started, and lately.

Owns how long that counts, how it is reported, and how often it is logged. Its input is what cycles found. Must not know
how links are compared.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from sgdataplane.attach.ends import Tampering
from sgdataplane.attach.exposure import find_exposed
from sgdataplane.attach.registry import Binding
from sgdataplane.daemon.logs import event

HOLD_S = 60.0  # after which a repair no longer counts: long enough to be seen by a client that asks now and then
LOG_S = 1.0  # between two lines
MAX_NAMED = 8  # workloads in one line
NOBODY = "no workload of this router that still has the right to"


class Tampered:
    """What others did to links of routers.

    Attributes:
        count: How often, since the start.
        last: The last one in words, with the workloads that can have done it, and when; None: never.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self.last: tuple[Tampering, str, str] | None = None
        self._clock = clock
        self._at = self._logged_at = self._asked_at = -HOLD_S
        self._of: dict[str, tuple[float, str]] = {}
        self._unlogged = 0
        self._who = NOBODY

    @property
    def is_recent(self) -> bool:
        """Whether there was any in the last HOLD_S seconds."""
        return self._clock() - self._at < HOLD_S

    def warning(self, eni_id: str) -> str:
        """Return what was done to that ENI's host end lately; "" for nothing."""
        at, line = self._of.get(eni_id, (-HOLD_S, ""))
        return line if self._clock() - at < HOLD_S else ""

    def note(self, found: Sequence[Tampering], bindings: Collection[Binding], at: str) -> None:
        """Note what a cycle found, and log it. `bindings` are all of this host."""
        if not found:
            return
        now = self._at = self._clock()
        self.count += len(found)
        if now - self._asked_at >= LOG_S:
            self._asked_at = now
            self._who = _who_can(found[-1].router, bindings)
        self.last = found[-1], self._who, at
        self._of = {eni_id: (when, line) for eni_id, (when, line) in self._of.items() if now - when < HOLD_S}
        self._of |= {eni_id: (now, f"{each.what} (at {at})") for each in found for eni_id in each.enis}
        self._log(found, now)

    def _log(self, found: Sequence[Tampering], now: float) -> None:
        """Log one line at most in LOG_S, however much there is to say."""
        self._unlogged += len(found)
        if now - self._logged_at < LOG_S:
            return
        last, more = found[-1], self._unlogged - 1
        event(logging.ERROR, "tampering", namespace=last.router, what=last.what, more=more, by=self._who)
        self._logged_at, self._unlogged = now, 0


def _who_can(router: str, bindings: Iterable[Binding]) -> str:
    """Return the workloads of that router with a process that could have done it."""
    there = [b for b in bindings if b.host_end is not None and b.host_end.router == router]
    named = sorted({f"{binding.eni_id} ({binding.named})" for binding in find_exposed(there)})
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    return ", ".join(named[:MAX_NAMED]) + more if named else NOBODY

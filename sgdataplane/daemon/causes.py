"""Why a cycle has to run, and when.

Owns coalescing, the timer, and retries. Is given the time by a clock. Must not know what a cycle does.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable

COALESCE_S = 0.005  # files of a folder are written one after the other, links come with their addresses
FIRST_RETRY_S = 1.0


class Cause(enum.Enum):
    """START: the agent has come up. STATE: the state's file or folder changed. BINDINGS: an ENI was attached or
    detached. LINK: an interface or namespace came, went or changed. DRIFT: others changed our rules, or may have.
    TIMER: it is time to look at everything. RETRY: the last cycle could not do all. RELOAD: somebody asked for the
    configuration and the state to be read anew. RESYNC: somebody asked for all rules to be written anew. TURN: it is
    the turn of a namespace that had to wait (daemon/turns.py)."""

    START = "start"
    STATE = "state"
    BINDINGS = "bindings"
    LINK = "link"
    DRIFT = "drift"
    TIMER = "timer"
    RETRY = "retry"
    RELOAD = "reload"
    RESYNC = "resync"
    TURN = "turn"


class Schedule:
    """Collects causes for COALESCE_S after the first, so that what comes together is one cycle."""

    def __init__(self, resync_s: float, clock: Callable[[], float]) -> None:
        self.resync_s, self._clock = resync_s, clock
        self._causes: set[Cause] = set()
        self._owed: frozenset[Cause] = frozenset()
        self._due = self._timer_due = clock() + resync_s
        self._timer = Cause.TIMER
        self._retry_s = FIRST_RETRY_S

    def add(self, cause: Cause) -> None:
        if not self._causes:
            self._due = self._clock() + COALESCE_S
        self._causes.add(cause)

    @property
    def wait_s(self) -> float:
        """How long nothing is due, if nothing happens."""
        due = min(self._due, self._timer_due) if self._causes else self._timer_due
        return max(0.0, due - self._clock())

    def take(self) -> frozenset[Cause]:
        """The causes of a cycle that is due now; none if none is."""
        if self.wait_s > 0:
            return frozenset()
        if self._clock() >= self._timer_due:
            self._causes.add(self._timer)
        causes = self._owed.union(self._causes)
        self._causes.clear()
        self._owed = frozenset()
        return causes

    def failed(self, causes: Iterable[Cause]) -> None:
        """A cycle for these has ended as none should, nobody knows where: the next one is for them as well."""
        self._owed = self._owed.union(causes)
        self.done(is_whole=False)

    def done(self, *, is_whole: bool) -> None:
        """A cycle has run; one that could not do all is tried again, later each time."""
        wait = self.resync_s if is_whole else min(self._retry_s, self.resync_s)
        self._retry_s = FIRST_RETRY_S if is_whole else 2 * wait
        self._timer = Cause.RETRY if wait < self.resync_s else Cause.TIMER
        self._timer_due = self._clock() + wait

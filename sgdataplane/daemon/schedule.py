"""The schedule of cycles: when one runs, why, and whose turn it is in it.

Owns coalescing, the timer, retries, and when a namespace with events may be looked at next. Its input is the time by a
clock, and how long looks took. Must not know what a cycle or a look does.

A namespace that makes us look again and again has to wait longer and longer:

    the first repair               at once, but after everything else, and within the share of all repairs
    later repairs                  1, 2, 4, ... 60 s later, and not before nine times what the last one took
    a look that found nothing      at once; from the ninth on a second later, and not before nine times what it took
    all repairs, and all looks that had to wait
                                   a tenth of our time together, however many namespaces take part: the kernel takes
                                   as long again, on the same processors, to free what was deleted
    after 60 s of quiet            all of that is forgotten; also when somebody asks to have everything looked at
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from sgdataplane.attach.report import Key

COALESCE_S = 0.005  # a folder's files are written one after the other
LINKS_S = 0.001  # a link comes with several messages, in which nothing is half done
FIRST_RETRY_S = 1.0


class Cause(enum.Enum):
    """The cause of a cycle."""

    START = "start"  # the agent has started
    STATE = "state"  # the state's file or folder changed
    BINDINGS = "bindings"  # an ENI was attached or detached
    LINK = "link"  # an interface or namespace came, went or changed
    DRIFT = "drift"  # others changed our rules, or may have
    TIMER = "timer"  # it is time to look at everything
    RETRY = "retry"  # the last cycle could not do everything
    RELOAD = "reload"  # somebody asked to read the configuration and the state again
    RESYNC = "resync"  # somebody asked to write all rules again
    TURN = "turn"  # a namespace that had to wait has its turn
    MODE = "mode"  # the audit of an ENI is over
    UNDO = "undo"  # somebody asked for an earlier policy or to resume, or the time of an earlier one is over


class Schedule:
    """Collects causes for COALESCE_S after the first one, so that causes that come together make one cycle.

    If all of them are links, it is LINKS_S.
    """

    def __init__(self, resync_s: float, clock: Callable[[], float]) -> None:
        self.resync_s, self._clock = resync_s, clock
        self._causes: set[Cause] = set()
        self._owed: frozenset[Cause] = frozenset()
        self._since = clock()  # of the first cause
        self._due = self._timer_due = self._since + resync_s
        self._timer = Cause.TIMER
        self._retry_s = FIRST_RETRY_S

    def add(self, cause: Cause) -> None:
        """Add a cause of the next cycle."""
        if not self._causes:
            self._since = self._clock()
        self._causes.add(cause)
        self._due = self._since + (LINKS_S if self._causes == {Cause.LINK} else COALESCE_S)

    @property
    def wait_s(self) -> float:
        """The seconds until a cycle is due, if nothing happens."""
        due = min(self._due, self._timer_due) if self._causes else self._timer_due
        return max(0.0, due - self._clock())

    def take(self) -> frozenset[Cause]:
        """Return the causes of a cycle that is due now; none if none is."""
        if self.wait_s > 0:
            return frozenset()
        if self._clock() >= self._timer_due:
            self._causes.add(self._timer)
        causes = self._owed.union(self._causes)
        self._causes.clear()
        self._owed = frozenset()
        return causes

    def note_failed(self, causes: Iterable[Cause]) -> None:
        """Note that a cycle for these causes failed in an unknown place. The next one has them, too."""
        self._owed = self._owed.union(causes)
        self.note_done(is_whole=False)

    def note_done(self, *, is_whole: bool) -> None:
        """Note that a cycle has run. If it could not do everything, it is tried again, later each time."""
        wait = self.resync_s if is_whole else min(self._retry_s, self.resync_s)
        self._retry_s = FIRST_RETRY_S if is_whole else 2 * wait
        self._timer = Cause.RETRY if wait < self.resync_s else Cause.TIMER
        self._timer_due = self._clock() + wait


FIRST_WAIT_S, LONGEST_WAIT_S, CALM_S = 1.0, 60.0, 60.0
FREE_LOOKS = 8  # a new interface makes several messages
OWN_SHARE, ALL_SHARE = 9, 9  # times as long as the look took


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long one namespace has to wait, from what it has made us do since it was last calm."""

    repairs: int = 0  # how often it was repaired
    looks: int = 0  # how often a look found nothing
    last: float = -math.inf  # when the last look was
    due: float = -math.inf  # when the next look is due at the earliest

    def after(self, now: float, took: float, *, is_repair: bool) -> Backoff:
        """Return the backoff after a look that ended now."""
        new = replace(self, repairs=self.repairs + is_repair, looks=self.looks + (not is_repair), last=now)
        if not new.is_restless:
            return new
        wait = min(FIRST_WAIT_S * 2 ** min(new.repairs - 1, 30), LONGEST_WAIT_S) if is_repair else FIRST_WAIT_S
        return replace(new, due=max(self.due, now + max(wait, OWN_SHARE * took)))

    @property
    def is_restless(self) -> bool:
        """Whether it has to wait for its next turn."""
        return self.repairs > 0 or self.looks > FREE_LOOKS

    def is_calm(self, now: float) -> bool:
        """Whether it has been quiet for so long that its backoff is forgotten."""
        return now >= max(self.last, self.due) + CALM_S


NEW = Backoff()


class Turns:
    """The turns of all namespaces.

    Attributes:
        left: The namespaces with events that still have to be looked at.
        is_owed: Whether one of them has to be looked at soon.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._backoffs: dict[Key, Backoff] = {}
        self._suspects = set[Key]()
        self._shared_due = -math.inf
        self.left: frozenset[Key] = frozenset()
        self.is_owed = False

    def suspect(self, keys: Iterable[Key]) -> None:
        """Note that others have changed our tables in these namespaces, and in no others, since we looked."""
        self._suspects = set(keys)

    def of(self, key: Key) -> Backoff:
        """Return a namespace's backoff; a new one if none is remembered."""
        return self._backoffs.get(key, NEW)

    @property
    def disturbed(self) -> frozenset[Key]:
        """The namespaces that were repaired and haven't been calm since."""
        return frozenset(key for key, backoff in self._backoffs.items() if backoff.repairs)

    def order(self, heard: Iterable[Key]) -> tuple[Key, ...]:
        """Return the namespaces, those repaired least often first; among equals, those that have waited longest."""
        return tuple(sorted(heard, key=lambda key: (self.of(key).repairs, self.of(key).last)))

    def list_waiting(self, heard: Iterable[Key]) -> frozenset[Key]:
        """Return the namespaces whose turn hasn't come."""
        return frozenset(key for key in heard if self.wait_s_of(key) > 0)

    def wait_s_of(self, key: Key) -> float:
        """Return the seconds until a namespace may be looked at; 0.0 if it may now."""
        backoff = self.of(key)
        is_shared = backoff.is_restless or key in self._suspects
        due = max(backoff.due, self._shared_due) if is_shared else backoff.due
        return max(0.0, due - self._clock())

    @property
    def wait_s(self) -> float:
        """The seconds until one of those left has its turn; infinite if none is left."""
        return 0.0 if self.is_owed else min(map(self.wait_s_of, self.left), default=math.inf)

    def note(self, key: Key, took: float, *, is_repair: bool) -> None:
        """Note that a namespace was looked at because of events."""
        now, backoff = self._clock(), self.of(key)
        backoff = NEW if backoff.is_calm(now) else backoff
        if backoff.is_restless or is_repair:
            self._shared_due = max(self._shared_due, now) + ALL_SHARE * took
        self._suspects.discard(key)
        self._backoffs[key] = backoff.after(now, took, is_repair=is_repair)

    def forget(self) -> None:
        """Let no namespace wait any more."""
        self._backoffs.clear()
        self._suspects.clear()
        self._shared_due = -math.inf

    def forget_calm(self) -> None:
        """Forget the backoffs of namespaces that are calm."""
        now = self._clock()
        self._backoffs = {key: backoff for key, backoff in self._backoffs.items() if not backoff.is_calm(now)}

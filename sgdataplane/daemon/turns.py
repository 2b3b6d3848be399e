"""Whose turn it is among namespaces of which something was heard: who makes us look again and again waits, ever longer.

Owns when each may be looked at next, and in which order. Is given the time by a clock, and what looks took. Must not
know what a look is, or what was heard.

    the first repair           at once, but after everything else; of several, as far as the share of all allows it
    the next ones              1, 2, 4, ... 60 s later, and not before nine times what the last one took
    a look that found nothing  at once; from the ninth on a second later, and not before nine times what it took
    all repairs, and all that had to wait
                               a tenth of our time together, however many namespaces take part: the kernel takes as long
                               again to free what was deleted, on the same processors
    after 60 s of quiet        nothing of that is remembered; nor when somebody asks to have everything looked at
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from sgdataplane.attach.report import Key

FIRST_WAIT_S, LONGEST_WAIT_S, CALM_S = 1.0, 60.0, 60.0
FREE_LOOKS = 8  # an interface that comes is told in several messages
OWN_SHARE, ALL_SHARE = 9, 9  # times as long as it took


@dataclass(frozen=True, slots=True)
class Turn:
    """Of one namespace, since it was calm: how often it was repaired, and looked at for nothing; when last; `due`: not
    before then again."""

    repairs: int = 0
    looks: int = 0
    last: float = -math.inf
    due: float = -math.inf

    def after(self, now: float, took: float, *, is_repair: bool) -> Turn:
        """The turn after this look, which ended now."""
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
        return now >= max(self.last, self.due) + CALM_S


NEW = Turn()


class Turns:
    """`left`: those of which something was heard that have to be looked at yet; if it `is_owed`, one of them soon."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._turns: dict[Key, Turn] = {}
        self._suspects = set[Key]()
        self._shared_due = -math.inf
        self.left: frozenset[Key] = frozenset()
        self.is_owed = False

    def suspect(self, keys: Iterable[Key]) -> None:
        """These, and no others: others have changed our tables there since they were looked at."""
        self._suspects = set(keys)

    def of(self, key: Key) -> Turn:
        return self._turns.get(key, NEW)

    @property
    def disturbed(self) -> frozenset[Key]:
        """Those that were repaired and aren't calm since."""
        return frozenset(key for key, turn in self._turns.items() if turn.repairs)

    def ordered(self, heard: Iterable[Key]) -> tuple[Key, ...]:
        """Those that disturb least first, and of equals whoever waits longest."""
        return tuple(sorted(heard, key=lambda key: (self.of(key).repairs, self.of(key).last)))

    def waiting(self, heard: Iterable[Key]) -> frozenset[Key]:
        """Those whose turn hasn't come."""
        return frozenset(key for key in heard if self.wait_s_of(key) > 0)

    def wait_s_of(self, key: Key) -> float:
        turn = self.of(key)
        is_shared = turn.is_restless or key in self._suspects
        due = max(turn.due, self._shared_due) if is_shared else turn.due
        return max(0.0, due - self._clock())

    @property
    def wait_s(self) -> float:
        """How long until one that is left has its turn; for ever if none is."""
        return 0.0 if self.is_owed else min(map(self.wait_s_of, self.left), default=math.inf)

    def note(self, key: Key, took: float, *, is_repair: bool) -> None:
        """It was looked at since something was heard."""
        now, turn = self._clock(), self.of(key)
        turn = NEW if turn.is_calm(now) else turn
        if turn.is_restless or is_repair:
            self._shared_due = max(self._shared_due, now) + ALL_SHARE * took
        self._suspects.discard(key)
        self._turns[key] = turn.after(now, took, is_repair=is_repair)

    def forget(self) -> None:
        """Nobody waits any more."""
        self._turns.clear()
        self._suspects.clear()
        self._shared_due = -math.inf

    def forget_calm(self) -> None:
        now = self._clock()
        self._turns = {key: turn for key, turn in self._turns.items() if not turn.is_calm(now)}

"""A pause of Python's garbage collector, for work that makes very many values and no reference cycles.

Owns the pause, and what becomes of the values after it. Must not know the work.

After a pause, the collector would look through all that was made, to find what is reachable: mostly everything. It
would take two fifths of a compile's time, half of a proof's, and now and then more than half of an apply's in a large
router (measured with CPython 3.13). So what was made counts as old at once: freeze() and unfreeze() join lists and
look at no object. It is looked through when all objects are: by tidy(), once there may be twice as many, or by the
pause after which there may be three times as many, if nobody calls that.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

LEAST = 1 << 20  # new objects after which all are looked through


class _Growth:
    """How many more objects there are than at the last look at all, but for those that nobody paused for; and how many
    more there may be."""

    def __init__(self) -> None:
        self._more, self._most = 0, LEAST

    @property
    def is_due(self) -> bool:
        """Whether it is time to look at all."""
        return self._more > self._most

    @property
    def is_overdue(self) -> bool:
        """Whether that can't wait until nobody waits for us."""
        return self._more > 2 * self._most

    def add(self, more: int) -> None:
        self._more += more

    def look(self) -> None:
        """At all."""
        gc.collect()
        self._more, self._most = 0, max(LEAST, len(gc.get_objects()))


_GROWTH = _Growth()


@contextmanager
def no_collection() -> Iterator[None]:
    """Pause the collector. Pauses may be nested."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            _promote()
            gc.enable()


def _promote() -> None:
    """Let all objects count as old; unless the program that uses us keeps some out of all collections."""
    if _is_kept_out():
        return
    _GROWTH.add(gc.get_count()[0])
    if _GROWTH.is_overdue:
        _GROWTH.look()
    else:
        gc.freeze()
        gc.unfreeze()


def tidy() -> None:
    """Look through all objects if it is time for that. It takes up to a second: a program that lives long calls this
    when it has done what somebody waited for."""
    if _GROWTH.is_due and not _is_kept_out():
        _GROWTH.look()


@cache
def _is_kept_out() -> bool:
    """Whether the program that uses us keeps some out. Asked once, since the answer takes a walk of these."""
    return gc.get_freeze_count() > 0

"""A pause of Python's garbage collector, for work that makes very many values and no reference cycles.

Owns the pause, and what becomes of the values after it. Must not know the work.

After a pause, the collector would examine all that was made, to find what is reachable: mostly everything. It would
take two fifths of a compile's time, half of a proof's, and now and then more than half of an apply's in a large router
(measured with CPython 3.13). So what was made counts as old at once: freeze() and unfreeze() join lists and examine no
object. It is examined when all objects are: by tidy(), once there may be twice as many, or by the pause after which
there may be three times as many, if nobody calls tidy().
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

LEAST = 1 << 20  # after so many new objects, all are examined


class _Growth:
    """How many more objects there are than when all were last examined, and how many more there may be.

    Objects that were made outside of pauses don't count.
    """

    def __init__(self) -> None:
        self._more, self._most = 0, LEAST

    @property
    def is_due(self) -> bool:
        """Whether it is time to examine all objects."""
        return self._more > self._most

    @property
    def is_overdue(self) -> bool:
        """Whether that can't wait until nobody waits for this process."""
        return self._more > 2 * self._most

    def add(self, more: int) -> None:
        """Count more objects."""
        self._more += more

    def look(self) -> None:
        """Examine all objects."""
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
    """Let all objects count as old; unless the program that uses this package keeps some out of all collections."""
    if _is_kept_out():
        return
    _GROWTH.add(gc.get_count()[0])
    if _GROWTH.is_overdue:
        _GROWTH.look()
    else:
        gc.freeze()
        gc.unfreeze()


def tidy() -> None:
    """Examine all objects if it is time for that.

    It takes up to a second. A program that lives long calls this when it has done what somebody waited for.
    """
    if _GROWTH.is_due and not _is_kept_out():
        _GROWTH.look()


@cache
def _is_kept_out() -> bool:
    """Return whether the program that uses this package keeps objects out of all collections.

    It is determined once, because the answer takes a walk of these objects.
    """
    return gc.get_freeze_count() > 0

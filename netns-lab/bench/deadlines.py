"""A time after which a block is given up, wherever it is then.

Owns the signal by which that happens. Must not know what the block does.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from bench.errors import BenchError

AGAIN_S = 3.0


@contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    """Raise BenchError once so much time has passed.

    It is raised again and again, as Python drops what a signal raises in a finalizer.
    """

    def stop(*_: object) -> NoReturn:
        raise BenchError(f"stopped after {seconds:,.0f} s")

    if seconds <= 0:
        raise BenchError("no time is left")
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

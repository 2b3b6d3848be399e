"""Long work of the agent in a thread of its own, while clients are served.

Owns that thread. Must not know what the work is.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

BETWEEN_S = 0.05  # between two rounds of serving clients during a cycle's long work; most work is done by then


class Meanwhile:
    """Does long work in a thread of its own, while the caller's thread keeps calling `serve`.

    The work may use all that is the caller's, except what `serve` uses.
    """

    def __init__(self, serve: Callable[[], None]) -> None:
        self._serve = serve
        self._pool = ThreadPoolExecutor(1, "meanwhile")

    def close(self) -> None:
        """Wait until the work has ended, and end the thread."""
        self._pool.shutdown()

    def run(self, work: Callable[[], T]) -> T:
        """Return or raise what the work does."""
        future = self._pool.submit(work)
        while True:
            try:
                return future.result(BETWEEN_S)
            except TimeoutError:
                if future.done():  # the work raised it, or has just ended
                    return future.result()
            self._serve()

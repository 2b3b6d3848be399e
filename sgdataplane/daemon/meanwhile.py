"""Work that may take long, in a thread of its own, while the caller goes on answering those who ask.

Owns that thread. Is given the work, and what to do meanwhile. Must not know either.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")

BETWEEN_S = 0.05  # most work is done by then


class Meanwhile:
    """`serve` is called by the caller's thread, again and again until the work is done. Nothing else is done beside the
    work: it may use what is the caller's, except what `serve` uses."""

    def __init__(self, serve: Callable[[], None]) -> None:
        self._serve = serve
        self._pool = ThreadPoolExecutor(1, "meanwhile")

    def close(self) -> None:
        self._pool.shutdown()

    def run(self, work: Callable[[], T]) -> T:
        """What the work returns or raises."""
        future = self._pool.submit(work)
        while not wait((future,), BETWEEN_S).done:
            self._serve()
        return future.result()

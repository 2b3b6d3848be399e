"""Run work in threads that nobody waits for, and notice when it fails.

Owns that such work starts again after an exception, and what is wrong with it now. Must not know what the work does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Self

RESTART_S = 1.0  # after which work that failed starts again
STEADY_S = 10.0  # after which work that runs again counts as well

LOGGER = logging.getLogger("sgdataplane.api")


class Background:
    """A thread that runs some work until it is told to end. Use as a context manager; leaving it ends the thread.

    `work` gets an event, and returns soon once that event is set. If it raises or returns earlier, the log says so and
    the work starts again. `name` says to people what the work is.
    """

    def __init__(
        self, name: str, work: Callable[[threading.Event], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name, self.ending = name, threading.Event()
        self._work, self._clock = work, clock
        self._started_at, self._last_error = clock(), ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._thread.join()

    def end(self) -> None:
        """Tell the work to end, and don't wait for it."""
        self.ending.set()

    @property
    def trouble(self) -> str:
        """Why the work isn't done now; "" if all is well."""
        if self._thread.ident is not None and not self._thread.is_alive() and not self.ending.is_set():
            return f"{self.name}: its thread has ended"
        is_steady = self._clock() - self._started_at >= STEADY_S
        return f"{self.name}: {self._last_error}" if self._last_error and not is_steady else ""

    def _run(self) -> None:
        while not self.ending.is_set():
            self._started_at = self._clock()
            try:
                self._work(self.ending)
                self._note("it ended by itself")
            except Exception as error:  # whatever it is: the next attempt may go well
                self._note(f"it failed with {type(error).__name__}, and the log says why")
                LOGGER.exception("%s failed, and starts again", self.name)
            self.ending.wait(RESTART_S)

    def _note(self, error: str) -> None:
        if not self.ending.is_set():
            self._last_error, self._started_at = error, self._clock()

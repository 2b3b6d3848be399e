"""The plans of trials, made in a thread of their own: comparing large states takes seconds, and the agent goes on.

Owns the thread, and how it wakes the agent. Must not know when a plan is wanted, or whether it is still good.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from sgdataplane.errors import InternalError, SgDataplaneError
from sgdataplane.model.state import CloudState
from sgdataplane.trial.record import TrialFolder
from sgdataplane.trial.trial import Plan, Trial, TrialScope

CONTAINED = (SgDataplaneError, InternalError, OSError, MemoryError, RecursionError)
Judged = Callable[[CloudState], tuple[CloudState, float | None]]


def reason_of(error: BaseException) -> str:
    """Return an error's words, or its class if it has none."""
    return str(error) or type(error).__name__


@dataclass(slots=True)
class PlannedTrial:
    """What becomes of one trial: the trial and its plan, or why there is none."""

    name: str
    number: int  # the number of the change that the plan follows
    since: float | None  # when the trial of that name began; None if its record can't be read
    trial: Trial | None = None
    plan: Plan = ()
    until: float | None = None  # when the plan is out of date, whatever happens
    error: str = ""  # why there is no plan; "" if there is one


class Planner:
    """Makes plans in a thread.

    Once some are made, the selector, whose entries are called, calls `heard`, and `take` returns them.
    """

    def __init__(self, selector: selectors.BaseSelector, heard: Callable[[], None]) -> None:
        self._pool = ThreadPoolExecutor(1, "trials")
        self._made: list[PlannedTrial] = []
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        selector.register(self._reader, selectors.EVENT_READ, heard)

    def close(self) -> None:
        """End the thread. A plan that is being made is lost."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._reader.close()
        self._writer.close()

    def plan(self, wanted: PlannedTrial, folder: TrialFolder, scopes: tuple[TrialScope, ...], judged: Judged) -> None:
        """Fill in a plan in the thread.

        `judged` returns the state on trial as this host would obey it, and when that changes by itself.

        Raises:
            RuntimeError: There is no memory for the thread.
        """
        self._pool.submit(_fill, wanted, folder, scopes, judged).add_done_callback(self._note)

    def _note(self, future: Future[PlannedTrial]) -> None:
        """Keep a plan that was made, and wake the other thread. The planning thread calls it."""
        with suppress(BaseException):
            self._made.append(future.result())
            self._writer.send(b"\0")

    def take(self) -> list[PlannedTrial]:
        """Return the plans that were made since the last call."""
        with suppress(BlockingIOError):
            self._reader.recv(4096)
        made, self._made = self._made, []
        return made


def _fill(wanted: PlannedTrial, folder: TrialFolder, scopes: tuple[TrialScope, ...], judged: Judged) -> PlannedTrial:
    try:
        trial = wanted.trial = wanted.trial or Trial.load(folder, wanted.name)
        after = None
        if trial.after is not None:
            after, wanted.until = judged(trial.after)
        wanted.plan = trial.plan(scopes, after)
    except CONTAINED as error:
        wanted.error = reason_of(error)
    return wanted

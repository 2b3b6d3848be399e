"""The agent's side of the process that records history: starts it, sends it what changed, and starts it again.

Owns that process. Its input is the reports of cycles. Must not know what history holds, or make the agent wait: what
the process doesn't take at once waits, or is left out.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgdataplane.attach.report import HostReport, NamespaceReport
from sgdataplane.daemon.counts import cookie_of, scope_of
from sgdataplane.daemon.cycle import CycleReport
from sgdataplane.daemon.logs import event
from sgdataplane.daemon.statefolder import HISTORY, make_state_folder
from sgdataplane.errors import SgDataplaneError
from sgdataplane.history.link import PROCESS, Orders, StateSender, receive_status, send_orders
from sgdataplane.history.merge import HistoryLimits
from sgdataplane.history.place import RecordedPlace
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState

MODULE = "sgdataplane.history"
FIRST_S, LONGEST_S = 1.0, 60.0  # until it is started again
MAX_REMOVED = 1000  # changes whose removed counters wait for it
ENDS_S, KILLED_S = 2.0, 0.5  # to write what it has, before it is killed; and after that
LOOK_S = 0.05  # between two looks whether one has ended
OFF = {"on": False}


@dataclass(frozen=True, slots=True)
class RecorderCommits:
    """What the agent does so that it doesn't take the recorder's commits for somebody else's.

    Both are called with the process's number in commits.
    """

    begun: Callable[[int], None] = lambda _: None
    """Called before it makes any."""
    ended: Callable[[int], None] = lambda _: None
    """Called when it makes no more, and no other process can have that number yet."""


class Historian:
    """Runs the recorder for the agent's thread. Call `read` when its descriptor is readable."""

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
        commits: RecorderCommits = RecorderCommits(),
    ) -> None:
        self._folder, self._clock, self._commits = folder, clock, commits
        self._selector = selectors.EpollSelector()
        self._limits: HistoryLimits | None = None
        self._child: _Child | None = None
        self._leaving: _Child | None = None  # the one before, which still writes what it has
        self._told: dict[str, Any] = {}
        self._error = ""
        self._due, self._pause = 0.0, FIRST_S
        self._state: CloudState | None = None
        self._options = Options()
        self._places: tuple[RecordedPlace, ...] = ()
        self._removed: list[tuple[int, Any]] = []

    def fileno(self) -> int:
        """Return the descriptor that is readable when the process has said something, or has ended."""
        return self._selector.fileno()

    @property
    def wait_s(self) -> float | None:
        """The seconds until `tick` has to be called; None if it hasn't.

        It has to while a process is ending, and when one is to be started.
        """
        if self._leaving is not None:
            return LOOK_S
        if self._limits is None or self._child is not None:
            return None
        return max(0.0, self._due - self._clock())

    def as_json(self) -> dict[str, object]:
        """Return what `sgdp status` shows of history."""
        if self._limits is None:
            return dict(OFF)
        why = self._error or str(self._told.get("error") or "")
        shown = ("since", "bytes", "unlogged", "forged", "given_up", "places", "silent", "cpu_s", "written")
        known = {key: self._told.get(key) for key in shown}
        return {"on": True, "path": str(self._folder / HISTORY), "error": why or None, **known}

    # what changes

    def follow(self, report: CycleReport, limits: HistoryLimits | None, options: Options) -> None:
        """Record from now on as the cycle has left it. `limits` is None for no history."""
        if limits != self._limits:
            self._end()
            self._limits, self._pause, self._due = limits, FIRST_S, 0.0
        if limits is None or report.host is None or report.host.state is None:
            return
        state = report.host.state
        self._note_removed(report.host)
        places = tuple(_place_of(entry) for entry in report.host.namespaces if _is_enforced(entry))
        is_new = self._child is None
        self._start_if_due()
        child = self._child
        if child is None:
            self._state, self._options, self._places = state, options, places
            return
        if is_new or state is not self._state or options != self._options:
            child.owes_state = True
        child.owes_places |= is_new or places != self._places
        self._state, self._options, self._places = state, options, places
        self._send(child)

    def tick(self) -> None:
        """Start the process again, if it is time, and send it what waits."""
        if self._leaving is not None and self._has_ended(self._leaving):
            self._leaving = None
        if self._limits is not None and self._child is None:
            self._start_if_due()
        if self._child is not None and self._child.owes:
            self._send(self._child)

    def read(self) -> None:
        """Take what the process says; it may be that it has ended."""
        child = self._child
        if child is None:
            return
        told, has_ended = receive_status(child.link)
        if told is not None:
            self._note(child, told)
        if has_ended:
            self._end()
            self._error = "the process that records it has ended; it is started again"
            self._due, self._pause = self._clock() + self._pause, min(LONGEST_S, 2 * self._pause)
            event(logging.WARNING, "history-ended", again_in_s=self._due - self._clock())

    def close(self) -> None:
        """Let the process write what it has, for a moment. Nobody asks any more who has committed."""
        self._commits = RecorderCommits()
        self._end()
        until = time.monotonic() + ENDS_S + KILLED_S
        while self._leaving is not None and not self._has_ended(self._leaving) and time.monotonic() < until:
            time.sleep(0.01)
        self._selector.close()

    def _note(self, child: _Child, told: dict[str, Any]) -> None:
        number = told.get(PROCESS)
        if child.number is None and isinstance(number, int):
            child.number = number
            self._commits.begun(number)
        error, before = told.get("error"), self._told.get("error")
        if error and error != before:
            event(logging.WARNING, "history-not-kept", error=error)
        if not error and before:
            event(logging.INFO, "history-kept-again")
        self._told, self._error, self._pause = told, "", FIRST_S

    def _note_removed(self, host: HostReport) -> None:
        for entry in host.namespaces:
            if entry.applied is not None and entry.applied.counted and len(self._removed) < MAX_REMOVED:
                with suppress(SgDataplaneError, OSError):
                    self._removed.append((cookie_of(entry), dict(entry.applied.counted)))

    # the process

    def _start_if_due(self) -> None:
        limits = self._limits
        if limits is None or self._child is not None or self._leaving is not None or self._clock() < self._due:
            return
        try:
            make_state_folder(self._folder)
            self._child = _Child(self._folder / HISTORY, limits)
        except (SgDataplaneError, OSError) as error:
            self._error = str(error)
            self._due, self._pause = self._clock() + self._pause, min(LONGEST_S, 2 * self._pause)
            return
        self._child.owes_state = self._child.owes_places = self._state is not None
        self._selector.register(self._child.link, selectors.EVENT_READ)

    def _send(self, child: _Child) -> None:
        """Send what the process hasn't been told. If it doesn't keep up, the rest follows later."""
        if self._state is None:
            return
        orders = child.sender.orders(self._state, self._options) if child.owes_state else Orders()
        is_known = child.number is not None  # it commits in the places that it gets
        orders.places = self._places if child.owes_places and is_known else None
        orders.removed = self._removed
        if orders == Orders():
            return
        try:
            send_orders(child.link, orders)
        except OSError:  # it hasn't got these records; it may have ended, which `read` hears of
            child.sender, child.owes_state = StateSender(), True
            return
        child.owes_state, child.owes_places = False, child.owes_places and not is_known
        self._removed = []

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            self._selector.unregister(child.link)
            child.leave()
            self._leaving = None if self._has_ended(child) else child

    def _has_ended(self, child: _Child) -> bool:
        """Whether the process has ended. Its number can be another process's only after that."""
        if not child.has_ended():
            return False
        if child.number is not None:
            self._commits.ended(child.number)
        child.bury()
        return True


class _Child:
    """The recorder's process. It ends by itself once its socket closes.

    Attributes:
        sender: Sends it states.
        owes_state: Whether it hasn't got the state yet.
        owes_places: Whether it hasn't got the places yet.
        number: Its number in commits; None until it has said it.
        link: The socket to it.
    """

    def __init__(self, path: Path, limits: HistoryLimits) -> None:
        self.sender = StateSender()
        self.owes_state = self.owes_places = True
        self.number: int | None = None
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link.setblocking(False)
        self._ends_by = 0.0
        command = [sys.executable, "-P", "-m", MODULE, str(path), str(limits.keep_s), str(limits.max_bytes)]
        found = os.pathsep.join(filter(None, sys.path))
        with theirs:
            stdin = (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)
            environment = {**os.environ, "PYTHONPATH": found}
            self.pid = os.posix_spawn(sys.executable, command, environment, file_actions=[stdin], setsid=True)

    @property
    def owes(self) -> bool:
        return self.owes_state or self.owes_places

    def leave(self) -> None:
        """Close its socket, by which it ends."""
        self.link.close()
        self._ends_by = time.monotonic() + ENDS_S

    def has_ended(self) -> bool:
        """Whether it has ended. It is killed once its time is over; a disk that hangs may keep it even then."""
        try:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
            if time.monotonic() > self._ends_by:
                os.kill(self.pid, signal.SIGKILL)
        except ChildProcessError:
            return True
        return False

    def bury(self) -> None:
        """Give its process number back, once it has ended."""
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _is_enforced(entry: NamespaceReport) -> bool:
    return entry.desired is not None and entry.applied is not None and not entry.is_gone


def _place_of(entry: NamespaceReport) -> RecordedPlace:
    assert entry.desired is not None
    path = "" if isinstance(entry.key, str) else str(entry.enis[0].binding.path)
    interfaces = dict(entry.desired.interfaces)
    return RecordedPlace(entry.key, path, entry.named, scope_of(entry), interfaces, entry.desired.placement)

"""Attached containers that start, as their engines tell it, and the process that each has then.

Owns the threads that wait for engines, so that one that is slow, dies or isn't there keeps nobody else waiting. Is
given names. Must not know bindings, nor what is done with a process.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from sgdataplane.attach.containers import ENGINES, Events, Started, pid_of
from sgdataplane.errors import BindingError, SgDataplaneError

FIRST_WAIT_S, LAST_WAIT_S = 1.0, 60.0  # between two attempts to follow an engine, or to find who is lost
KNOWN = {"InvalidContainer.NotFound", "InvalidContainer.NotRunning", "InvalidContainer.Ambiguous"}  # an engine said so


class ContainerWatch:
    """For a selector: readable when some have been found. Nothing is followed while nobody wants a container."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._changed = threading.Condition()
        self._is_ended = False
        self._wanted: frozenset[str] = frozenset()
        self._lost: frozenset[str] = frozenset()
        self._unasked: set[str] = set()
        self._found: dict[str, int | BindingError] = {}
        self._followers: tuple[_Follower, ...] = ()

    def fileno(self) -> int:
        return self._reader.fileno()

    def close(self) -> None:
        """Waits for nobody: the threads end by themselves."""
        self._stop()
        with self._changed:
            self._is_ended = True
        self._reader.close()
        self._writer.close()

    def follow(self, names: Collection[str], lost: Collection[str], *, is_look: bool = False) -> None:
        """These containers, by name or id, from now on, and no others: they are asked for now if they are new, and at a
        look. `lost`: those of them that have ended, to be asked for as soon as they have, and ever more seldom."""
        with self._changed:
            new = set(names) - (set() if is_look else self._wanted - (set(lost) - self._lost))
            self._wanted, self._lost = frozenset(names), frozenset(lost)
        if not names:
            self._stop()
        elif not self._followers:
            self._followers = mine = tuple(_Follower(engine, self._is_told) for engine in ENGINES)
            asker = threading.Thread(target=self._ask, args=(mine,), name="containers", daemon=True)
            for thread in (*mine, asker):
                thread.start()
        self._is_to_ask(new)

    def read(self) -> None:
        """What made it readable."""
        with suppress(BlockingIOError):
            self._reader.recv(4096)

    def take(self) -> Mapping[str, int | BindingError]:
        """The processes of those that were found since the last call, or why there is none. They are numbers, which are
        used again: what is not used at once is to be asked for again."""
        with self._changed:
            found, self._found = self._found, {}
        return found

    def _stop(self) -> None:
        for follower in self._followers:
            follower.stop()
        with self._changed:
            self._followers = ()
            self._unasked.clear()
            self._changed.notify_all()

    def _is_told(self, started: Started | None) -> None:
        self._is_to_ask({name for name in self._wanted if started is None or started.is_called(name)})

    def _is_to_ask(self, names: Collection[str]) -> None:
        with self._changed:
            self._unasked.update(names)
            self._changed.notify_all()

    def _ask(self, mine: tuple[_Follower, ...]) -> None:
        """The thread that asks, one at a time, while these follow. Who is lost may be back though nobody told so."""
        lost, wait = frozenset[str](), FIRST_WAIT_S
        while True:
            with self._changed:
                if self._lost != lost:
                    lost, wait = self._lost, FIRST_WAIT_S
                until = wait if lost else None
                if not self._changed.wait_for(lambda: self._unasked or self._followers is not mine, until):
                    self._unasked, wait = set(lost), min(2 * wait, LAST_WAIT_S)
                    continue
                if self._followers is not mine:
                    return
                name = self._unasked.pop()
            self._ask_for(name)

    def _ask_for(self, name: str) -> None:
        try:
            self._note(name, pid_of(name))
        except BindingError as error:
            if name not in self._lost and error.problem.code in KNOWN:
                self._note(name, error)
        except (SgDataplaneError, OSError):  # its engine doesn't answer: it may be told again
            return

    def _note(self, name: str, found: int | BindingError) -> None:
        with self._changed:
            if self._is_ended:
                return
            self._found[name] = found
        with suppress(OSError):  # full: it is readable
            self._writer.send(b"\0")


class _Follower(threading.Thread):
    """Of one engine: follows what it tells, and again where that ends. It need not be there yet."""

    def __init__(self, engine: str, tell: Callable[[Started | None], None]) -> None:
        super().__init__(name=engine, daemon=True)
        self._engine, self._tell = engine, tell
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._events: Events | None = None

    def run(self) -> None:
        wait, since = FIRST_WAIT_S, time.time()
        while not self._is_over.is_set():
            began = time.time()
            with suppress(OSError):
                self._follow(since)
                since = time.time()  # what starts in between is told then
            wait = FIRST_WAIT_S if time.time() - began > LAST_WAIT_S else min(2 * wait, LAST_WAIT_S)
            self._is_over.wait(wait)

    def _follow(self, since: float) -> None:
        with self._lock:
            if self._is_over.is_set():
                return
            self._events = Events(self._engine, since)
        try:
            for started in self._events:
                self._tell(started)
        finally:
            self._events.close()

    def stop(self) -> None:
        """The thread ends soon."""
        with self._lock:
            self._is_over.set()
            if self._events is not None:
                self._events.end()

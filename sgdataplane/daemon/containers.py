"""A watch for attached containers that start, which finds their processes.

Owns the threads that wait for engines, so that a slow, dead or missing engine delays nobody. Its input is names. Must
not know bindings, or what is done with a process.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from sgdataplane.attach.containers import ENGINES, STOPPED, Events, Started, pid_of
from sgdataplane.errors import BindingError, SgDataplaneError

FIRST_WAIT_S, LAST_WAIT_S = 1.0, 60.0  # between two attempts to follow an engine, or to find a lost container
KNOWN = {
    STOPPED,
    "InvalidContainer.NotFound",
    "InvalidContainer.NotRunning",
    "InvalidContainer.Ambiguous",
}  # the codes of an engine's own answers


class ContainerWatch:
    """A watch for a selector: it is readable when a container was found.

    It follows no engine while no container is wanted.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._changed = threading.Condition()
        self._is_ended = False
        self._wanted: frozenset[str] = frozenset()
        self._lost: frozenset[str] = frozenset()
        self._unasked: set[str] = set()
        self._said: dict[str, str] = {}  # of lost ones, why they don't run
        self._found: dict[str, int | BindingError] = {}
        self._followers: tuple[_Follower, ...] = ()

    def fileno(self) -> int:
        """Return the descriptor that is readable when a container was found."""
        return self._reader.fileno()

    def close(self) -> None:
        """End the watch. It returns at once; the threads end by themselves."""
        self._stop()
        with self._changed:
            self._is_ended = True
        self._reader.close()
        self._writer.close()

    def follow(self, names: Collection[str], lost: Collection[str], *, is_look: bool = False) -> None:
        """Follow these containers, by name or id, and no others.

        New ones are asked for now; with `is_look` all are. `lost` are those that have ended: they are asked for at
        once, then less and less often.
        """
        with self._changed:
            new = set(names) - (set() if is_look else self._wanted - (set(lost) - self._lost))
            self._wanted, self._lost = frozenset(names), frozenset(lost)
            self._said = {name: said for name, said in self._said.items() if name in self._lost}
        if not names:
            self._stop()
        elif not self._followers:
            self._followers = mine = tuple(_Follower(engine, self._on_event) for engine in ENGINES)
            asker = threading.Thread(target=self._ask, args=(mine,), name="containers", daemon=True)
            for thread in (*mine, asker):
                thread.start()
        self._want(new)

    def read(self) -> None:
        """Drain what made it readable."""
        with suppress(BlockingIOError):
            self._reader.recv(4096)

    def take(self) -> Mapping[str, int | BindingError]:
        """Return the processes that were found since the last call, or why there is none.

        Use them at once: process numbers are used again.
        """
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

    def _on_event(self, started: Started | None) -> None:
        self._want({name for name in self._wanted if started is None or started.is_called(name)})

    def _want(self, names: Collection[str]) -> None:
        with self._changed:
            self._unasked.update(names)
            self._changed.notify_all()

    def _ask(self, mine: tuple[_Follower, ...]) -> None:
        """Ask engines, one container at a time, while these followers are in use. A thread runs it.

        A lost container may return without an event, so it is asked for again and again.
        """
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
            if error.problem.code in KNOWN and (name not in self._lost or self._is_news(name, error)):
                self._note(name, error)
        except (SgDataplaneError, OSError):  # its engine doesn't answer; an event may come later
            return

    def _is_news(self, name: str, error: BindingError) -> bool:
        """Whether something else was said of this lost container before."""
        with self._changed:
            said, self._said[name] = self._said.get(name), str(error)
        return said != str(error)

    def _note(self, name: str, found: int | BindingError) -> None:
        with self._changed:
            if self._is_ended:
                return
            self._found[name] = found
        with suppress(OSError):  # full: it is readable
            self._writer.send(b"\0")


class _Follower(threading.Thread):
    """A thread that follows the events of one engine, and starts again when they end.

    The engine need not run yet.
    """

    def __init__(self, engine: str, on_event: Callable[[Started | None], None]) -> None:
        super().__init__(name=engine, daemon=True)
        self._engine, self._on_event = engine, on_event
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._events: Events | None = None

    def run(self) -> None:
        wait, since = FIRST_WAIT_S, time.time()
        while not self._is_over.is_set():
            began = time.time()
            with suppress(OSError):
                self._follow(since)
                since = time.time()  # the next attempt reports what starts in between
            wait = FIRST_WAIT_S if time.time() - began > LAST_WAIT_S else min(2 * wait, LAST_WAIT_S)
            self._is_over.wait(wait)

    def _follow(self, since: float) -> None:
        with self._lock:
            if self._is_over.is_set():
                return
            self._events = Events(self._engine, since)
        try:
            for started in self._events:
                self._on_event(started)
        finally:
            self._events.close()

    def stop(self) -> None:
        """Let the thread end soon."""
        with self._lock:
            self._is_over.set()
            if self._events is not None:
                self._events.end()

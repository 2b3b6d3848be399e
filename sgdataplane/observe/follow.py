"""A loop that follows what is denied in several namespaces at once, for a while.

Owns the loop. Is given where to listen. Must not know who asks, or how it is shown.

A socket in a namespace, or a held path, keeps it alive after its last process. So once a second we check whether each
namespace would still exist without us, and release it if not.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from typing import Self

from sgdataplane.errors import HostError
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.observe.denied import Denied, EnforcedPlace, Forged, Listener, Unlogged

TICK_S = 1.0
Told = tuple["Followed", Denied | Unlogged | Forged]


@dataclass(frozen=True, eq=False)
class Followed:
    """A namespace where policies are enforced; some fields are as in EnforcedPlace."""

    name: str
    """The name that people read."""
    held: Callable[[], AbstractContextManager[str | None]]
    """Gives a path that leads there while it is held; None if the namespace has ended."""
    is_there: Callable[[], bool]
    """Tells whether it exists without us."""
    interfaces: Mapping[str, str]
    placement: Placement
    state: CloudState | None = None


class Follow:
    """A listener to several namespaces, from the beginning of the block to its end."""

    def __init__(self, sources: Iterable[Followed]) -> None:
        self._sources = tuple(sources)
        self._open: dict[Followed, tuple[Listener, ExitStack]] = {}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        """Begin to listen; a namespace that has ended is left out.

        Raises:
            HostError: A namespace can't be listened to.
            UnsupportedError: The kernel can't do it.
        """
        try:
            for source in self._sources:
                self._begin(source)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for source in tuple(self._open):
            self._end(source)
        self._selector.close()

    def _begin(self, source: Followed) -> None:
        with ExitStack() as stack:
            path = stack.enter_context(source.held())
            if path is None:
                return
            listener = Listener(EnforcedPlace(path, source.interfaces, source.placement, source.state))
            stack.callback(listener.close)
            self._selector.register(listener, selectors.EVENT_READ, source)
            self._open[source] = listener, stack.pop_all()

    def _end(self, source: Followed) -> None:
        listener, stack = self._open.pop(source)
        self._selector.unregister(listener)
        stack.close()

    def entries(self, until: float | None) -> Iterator[Told]:
        """Yield what is denied until that time, or until no namespace is left.

        `until` is by time.monotonic(); None is without end.
        """
        tick = time.monotonic() + TICK_S
        while self._open and (until is None or time.monotonic() < until):
            now = time.monotonic()
            wait = min(tick, tick if until is None else until) - now
            for key, _ in self._selector.select(max(0.0, wait)):
                yield from self._receive(key.data)
            if time.monotonic() >= tick:
                tick = time.monotonic() + TICK_S
                yield from self._tick()

    def rest(self) -> Iterator[Told]:
        """Yield what has come until now and wasn't yielded yet."""
        yield from self._tick()

    def _receive(self, source: Followed) -> Iterator[Told]:
        """Yield what has come from one namespace."""
        with suppress(HostError, OSError):  # the kernel refuses; we ask again
            yield from ((source, entry) for entry in self._open[source][0].read())

    def _tick(self) -> Iterator[Told]:
        """Yield what has come from all namespaces, and release those that have ended."""
        for source, (listener, _) in tuple(self._open.items()):
            with suppress(HostError, OSError):  # the kernel refuses; we ask again
                yield from ((source, entry) for entry in listener.tick())
            if not source.is_there():
                self._end(source)

"""What a person at a terminal sees while a command works: how many steps are done, or for how long it has been working.

Owns the one line on stderr's terminal that shows this; elsewhere nothing is shown. Is given labels of our own. Must not
know what works. All other printing (output.py) clears the line first.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TextIO

from sgdataplane.terminal.output import Guard, bare_stderr
from sgdataplane.visible import visible

_CLEAR_LINE = "\r\x1b[K"
QUIET_SECONDS = 1.0  # work that is shorter than this shows no progress
REDRAW_SECONDS = 0.1


class Progress:
    """Shows "label 12/380" on one line of a terminal once work has gone on for a second; elsewhere nothing.

    `total` is 0 where it isn't known.

        with Progress("probing", total=380) as progress: ... progress.advance()
    """

    def __init__(
        self, label: str, total: int, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._label, self._total, self._clock = visible(label), total, clock
        self._stream = bare_stderr() if stream is None else stream
        self._visible = self._stream.isatty()
        self._done = 0
        self._next_draw = clock() + QUIET_SECONDS
        self._drawn = False

    def expect(self, total: int) -> None:
        """Set the number of steps in all."""
        self._total = total

    def advance(self, steps: int = 1) -> None:
        """Count `steps` more as done, and show that if it is time to."""
        self._done += steps
        now = self._clock()
        if self._visible and now >= self._next_draw:
            self._next_draw = now + REDRAW_SECONDS
            self._drawn = True
            total = f"/{self._total}" if self._total else ""
            self._write(f"{_CLEAR_LINE}{self._label} {self._done}{total}")

    def _write(self, text: str) -> None:
        Guard.before_writing()
        self._stream.write(text)
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            self._write(_CLEAR_LINE)


class Working:
    """The line "label: 3 s" on a terminal, from the first second on until anything else is shown.

    A timer's signal draws it, so that the work needs no calls. It goes straight to the descriptor, because the signal
    may come amid a write.
    """

    def __init__(self, label: str, terminal: int) -> None:
        self.is_drawn = False
        self._is_ended = False
        self._label, self._terminal, self._began = visible(label), terminal, time.monotonic()

    def draw(self, *_: object) -> None:
        """Draw the line with the time so far, unless it has ended."""
        if not self._is_ended:
            self.is_drawn = True
            os.write(self._terminal, f"{_CLEAR_LINE}{self._label}: {time.monotonic() - self._began:.0f} s".encode())

    def end(self) -> None:
        """Clear the line, and draw it no more."""
        if self._is_ended:
            return
        self._is_ended = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self.is_drawn:
            os.write(self._terminal, _CLEAR_LINE.encode())


@contextmanager
def working(label: str, *, quiet: float = QUIET_SECONDS) -> Iterator[Working | None]:
    """Show for how long the block has been working, after `quiet` seconds, if stderr is a terminal."""
    terminal = _terminal_of(bare_stderr())
    is_main = threading.current_thread() is threading.main_thread()  # which alone gets signals
    if terminal is None or not is_main or not hasattr(signal, "setitimer"):
        yield None
        return
    line = Working(label, terminal)
    previous, before = signal.signal(signal.SIGALRM, line.draw), Guard.before_writing
    Guard.before_writing = line.end
    signal.setitimer(signal.ITIMER_REAL, quiet, QUIET_SECONDS)
    try:
        yield line
    finally:
        line.end()
        Guard.before_writing = before
        signal.signal(signal.SIGALRM, previous)


def _terminal_of(stream: TextIO) -> int | None:
    try:
        found = stream.fileno()
    except (OSError, ValueError):  # it is no file
        return None
    return found if os.isatty(found) else None

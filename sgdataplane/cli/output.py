"""How the command line prints: JSON, aligned tables, colour, warnings and progress.

Owns the form of the output; is given plain values. Must not know what they mean.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TextIO

from sgdataplane.visible import json_text

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_NUMBER = re.compile(r"-?\d[\d.,]*%?")
QUIET_SECONDS = 1.0  # nothing shorter than this shows progress
REDRAW_SECONDS = 0.1


def print_json(value: object) -> None:
    """Prints one JSON document on stdout, keys in the order given."""
    print(json_text(value, indent=2))


def use_colour(stream: TextIO) -> bool:
    """True on a terminal, unless the environment asks for none (NO_COLOR, https://no-color.org, or TERM=dumb)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in red, green, yellow, bold or dim where `stream` (stdout if None) can show it."""
    if not use_colour(stream or sys.stdout):
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def warn(text: str) -> None:
    """Prints a warning on stderr."""
    print(paint("warning:", "yellow", sys.stderr), text, file=sys.stderr)


class _Warnings(logging.Handler):
    """Shows what the product logs to the person who waits for it."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(getattr(record, "sentence", record.getMessage()))


@contextmanager
def log_shown() -> Iterator[None]:
    """Warnings that the product logs meanwhile are shown, in words for people where the record has a `sentence`."""
    logger, handler = logging.getLogger("sgdataplane"), _Warnings(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def render_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, two spaces between, numbers to the right; no line ends in spaces."""
    body = [tuple(row) for row in rows]
    columns = list(zip(headers, *body, strict=True))
    widths = [max(map(_width, column)) for column in columns]
    right = [bool(body) and all(_NUMBER.fullmatch(_ESCAPES.sub("", cell)) for cell in column[1:]) for column in columns]
    return "\n".join(_line(row, widths, right) for row in (tuple(headers), *body))


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for cell, width, to_right in zip(cells, widths, right, strict=True):
        space = " " * (width - _width(cell))
        padded.append(space + cell if to_right else cell + space)
    return "  ".join(padded).rstrip()


def _width(cell: str) -> int:
    return len(_ESCAPES.sub("", cell))


class Progress:
    """Shows "label 12/380" on one line of a terminal while work goes on for over a second; elsewhere nothing.

    with Progress("probing", total=380) as progress: ... progress.advance()
    """

    def __init__(
        self, label: str, total: int, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._label, self._total, self._clock = label, total, clock
        self._stream = stream or sys.stderr
        self._visible = self._stream.isatty()
        self._done = 0
        self._next_draw = clock() + QUIET_SECONDS
        self._drawn = False

    def expect(self, total: int) -> None:
        """Says anew how many steps there are in all."""
        self._total = total

    def advance(self, steps: int = 1) -> None:
        """Counts `steps` more as done."""
        self._done += steps
        now = self._clock()
        if self._visible and now >= self._next_draw:
            self._next_draw = now + REDRAW_SECONDS
            self._drawn = True
            self._write(f"\r\x1b[K{self._label} {self._done}/{self._total}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            self._write("\r\x1b[K")

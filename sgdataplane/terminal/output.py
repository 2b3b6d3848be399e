"""How the command line answers: exit codes, lines, JSON, aligned tables, colours, errors and warnings.

Owns the form of the output, and the promise that a terminal obeys nothing in it except sgdataplane's own colours. Takes
plain values. Must not know what they mean.

All output goes through this module: `say` prints one line, whatever is in it; `say_block` prints several lines of our
own. Behind them stands a Guard, which main() puts in front of both streams. What arrives by another way (argparse, a
traceback, a forgotten place) is made visible there. A colour is written as a mark that only this process knows, and the
Guard turns that mark into the terminal's escape; so text that others wrote can't have colours.
"""

from __future__ import annotations

import argparse
import enum
import logging
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import UTC, datetime
from typing import Any, ClassVar, TextIO, cast

from sgdataplane.errors import StateFileError
from sgdataplane.visible import json_text, visible, visible_block, width

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
_INK = f"\x1b{os.urandom(8).hex()}"
_PLAIN = f"{_INK}[0m"
_INKED = re.compile(rf"({_INK}\[[0-9]+m)")  # in a group, so that a split keeps it, at odd places
_NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?%?")  # matches no IPv4 address
_UTC_TIME = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\b")
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"  # control sequences of ECMA-48
MAX_FITTED = 1_000  # rows; fitting more of them takes longer than half a second
MIN_ROOM = 40  # in less room, tables would be columns of single characters


class Exit(enum.IntEnum):
    """The exit codes that other programs rely on."""

    DONE = 0
    NO = 1
    USAGE = 2
    KERNEL = 3
    NOT_ROOT = 4
    INPUT = 5
    INTERNAL = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130  # 128 + SIGINT, as shells count
    BROKEN_PIPE = 141  # 128 + SIGPIPE
    TERMINATED = 143  # 128 + SIGTERM


# `make docs` writes docs/reference/exit-codes.md from this.
EXIT_MEANINGS: Mapping[Exit, str] = {
    Exit.DONE: "the command did its work",
    Exit.NO: "the answer is no: a disagreement, a state that `check` refuses, findings with `--fail-on` or"
    " `--strict`, something that opens, or can't be judged, with `--fail-on-open`, an expectation that fails, an ENI"
    " that isn't in force, a revision that isn't in force at a host",
    Exit.USAGE: "wrong usage of the command line",
    Exit.KERNEL: "the kernel refused, or lacks a feature",
    Exit.NOT_ROOT: "the command needs root",
    Exit.INPUT: "the input can't be used: not found, refused, or nothing to do in it",
    Exit.INTERNAL: "a bug in sgdataplane",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
    Exit.BROKEN_PIPE: "the program that read the output has ended",
    Exit.TERMINATED: "terminated (SIGTERM) while it changed a lab",
}


class Guard:
    """A stream that passes on lines and its own colours, and makes visible all else that a terminal would obey.

    All other attributes are those of the stream behind it.

    Attributes:
        unguarded: the stream behind it.
        colour: when it passes on colours (COLOUR_CHOICES).
    """

    before_writing: ClassVar[Callable[[], None]] = lambda: None  # clears a line of progress (progress.py)

    def __init__(self, unguarded: TextIO) -> None:
        self.unguarded, self.colour = unguarded, "auto"

    def write(self, text: str) -> int:
        """Write the text with its colours, and with everything else made visible."""
        Guard.before_writing()
        parts = _INKED.split(text)
        parts[::2] = map(visible_block, parts[::2])
        parts[1::2] = [f"\x1b{ink.removeprefix(_INK)}" for ink in parts[1::2]]
        self.unguarded.write("".join(parts))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts one after the other."""
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # of a stream
        return getattr(self.unguarded, name)


@contextmanager
def guard_output() -> Iterator[None]:
    """Put a Guard in front of stdout and stderr while the block runs."""
    with redirect_stdout(cast("TextIO", Guard(sys.stdout))), redirect_stderr(cast("TextIO", Guard(sys.stderr))):
        yield


def bare_stderr() -> TextIO:
    """Return stderr without its Guard, for a line without text of others."""
    return cast("TextIO", getattr(sys.stderr, "unguarded", sys.stderr))


def say(text: str = "", *, flush: bool = False) -> None:
    """Print one line; a line break inside `text` is spelt out."""
    print(one_line(text), flush=flush)


def say_block(text: str, end: str = "\n") -> None:
    """Print several lines of our own. Text of others in them must be on one line already (`one_line`)."""
    print(_apart(visible_block, text), end=end)


def say_screen(lines: Sequence[str]) -> None:
    """Draw a terminal anew with these lines, from its top."""
    _write_bare(HOME)
    for line in lines:
        print(one_line(line), end="", flush=True)
        _write_bare(f"{REST_OF_LINE}\n")
    _write_bare(REST_OF_SCREEN)


def _write_bare(control: str) -> None:
    """Write a control sequence of our own, which the terminal obeys."""
    stream = cast("TextIO", getattr(sys.stdout, "unguarded", sys.stdout))
    stream.write(control)
    stream.flush()


def say_aside(text: str) -> None:
    """Print one line on stderr, below what was printed before, even if both streams are one pipe or file."""
    with suppress(OSError, ValueError, AttributeError):  # nobody reads it any more, or it was closed
        sys.stdout.flush()
    print(one_line(text), file=sys.stderr, flush=True)


def complain(error: object, word: str = "error:") -> None:
    """Print an error on stderr, as one block for each problem of the input.

    All lines of a block except the first are indented, so that none looks like another error.
    """
    for block in error.problems if isinstance(error, StateFileError) else (error,):
        _say_hanging(paint(word, "red", sys.stderr), str(block))


def warn(text: str) -> None:
    """Print a warning on stderr; all lines except the first are indented."""
    _say_hanging(paint("warning:", "yellow", sys.stderr), text)


def _say_hanging(word: str, text: str) -> None:
    first, *rest = text.split("\n")
    say_aside(f"{word} {first}")
    for line in rest:
        say_aside(line if line.startswith("  ") else f"  {line}")


def print_json(value: object) -> None:
    """Print one JSON document on stdout, with its keys in the order given."""
    print(json_text(value, indent=2))


def one_line(text: str) -> str:
    """Return the text on one line, with its colours."""
    return _apart(visible, text)


def _apart(made_visible: Callable[[str], str], text: str) -> str:
    parts = _INKED.split(text)
    parts[::2] = map(made_visible, parts[::2])
    return "".join(parts)


COLOUR_CHOICES = ("auto", "always", "never")


def choose_colour(choice: str) -> None:
    """Set when both streams have colours: always, never, or as the terminal and the environment say."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Guard):
            stream.colour = choice


def use_colour(stream: TextIO) -> bool:
    """Return whether a stream has colours.

    If the user hasn't chosen, it has them if it is a terminal and the environment allows them (NO_COLOR,
    https://no-color.org; TERM=dumb).
    """
    if not isinstance(stream, Guard) or stream.colour != "auto":
        return isinstance(stream, Guard) and stream.colour == "always"
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """Return the text in red, green, yellow, bold or dim where `stream` (stdout if None) can show it."""
    if not use_colour(stream or sys.stdout):
        return text
    return f"{_INK}[{_COLOURS[colour]}m{text}{_PLAIN}"


class _Warnings(logging.Handler):
    """Shows log records as warnings on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; its `sentence`, if it has one, is for people."""
        warn(getattr(record, "sentence", record.getMessage()))


@contextmanager
def log_shown() -> Iterator[None]:
    """Show the warnings that the product logs while the block runs."""
    logger, handler = logging.getLogger("sgdataplane"), _Warnings(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def room() -> int:
    """Return the number of columns of the terminal; 80 without one, or what COLUMNS says."""
    return max(MIN_ROOM, shutil.get_terminal_size((80, 24)).columns)


def say_hanging(lead: str, text: str, colour: str = "") -> None:
    """Print the text beside `lead`, on as many lines as it needs."""
    for before, line in _hung(lead, text, room()):
        say(before + (paint(line, colour) if colour else line))


def hanging(lead: str, text: str) -> str:
    """Return the text beside `lead`, on as many lines as a terminal needs; in a pipe, one line. It has no colours."""
    return "\n".join(f"{before}{line}" for before, line in _hung(lead, text, _space()))


def _hung(lead: str, text: str, space: int) -> Iterator[tuple[str, str]]:
    beside = _width(lead)
    for line in textwrap.wrap(one_line(text), max(MIN_ROOM, space - beside), break_on_hyphens=False) or [""]:
        yield lead, line
        lead = " " * beside


def _space() -> int:
    return room() if _has_terminal() else sys.maxsize


def render_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, indent: int = 0) -> str:
    """Return a table whose columns are as wide as their widest cell and two spaces apart.

    Numbers are aligned right, and no line ends in spaces. Each cell is one line, whatever is in it. Where a terminal
    hasn't room for that, cells take several lines, unless there are so many rows that only a program would read them.
    `indent` is the number of spaces before each line.
    """
    space = _space() - indent
    return "\n".join(" " * indent + line for line in _table_lines(headers, rows, space))


def _has_terminal() -> bool:
    """Return whether lines can be too long for the reader; in a pipe, only if COLUMNS says so."""
    return sys.stdout.isatty() or bool(os.environ.get("COLUMNS"))


def _table_lines(headers: Sequence[str], rows: Iterable[Sequence[str]], space: int) -> Iterator[str]:
    body = [tuple(map(one_line, row)) for row in rows]
    head = tuple(map(one_line, headers))
    columns = list(zip(head, *body, strict=True))
    widths = [max(map(_width, column)) for column in columns]
    right = [bool(body) and all(_NUMBER.fullmatch(_INKED.sub("", cell)) for cell in column[1:]) for column in columns]
    if sum(widths) + 2 * (len(widths) - 1) <= space or len(body) > MAX_FITTED:
        yield from (_line(row, widths, right) for row in (head, *body))
        return
    from sgdataplane.terminal.layout import lay_out

    yield from map(_colour_line, lay_out(_spans(head), map(_spans, body), right, space))


def _spans(cells: Iterable[str]) -> list[tuple[tuple[str, str], ...]]:
    """Return each cell as texts with the marks of their colours."""
    return [_cell_spans(cell) for cell in cells]


def _cell_spans(cell: str) -> tuple[tuple[str, str], ...]:
    parts = _INKED.split(cell)
    inks = ("", *parts[1::2])
    return tuple((text, "" if ink == _PLAIN else ink) for ink, text in zip(inks, parts[::2], strict=True) if text)


def _colour_line(line: Sequence[tuple[str, str]]) -> str:
    """Return a line of such texts, without spaces at its end."""
    while line and not line[-1][0].strip(" "):
        line = line[:-1]
    *before, (last, ink) = line or [("", "")]
    spans = (*before, (last.rstrip(" "), ink))
    return "".join(f"{ink}{text}{_PLAIN}" if ink else text for text, ink in spans)


class Columns:
    """Lines that come one by one, with their cells below each other.

    `widths` are those of the first columns, where they are known before. Where a terminal shows them, a column is as
    wide as its widest cell so far.
    """

    def __init__(self, *widths: int) -> None:
        self._widths = list(widths)

    def line(self, cells: Sequence[str]) -> str:
        """Return the next line."""
        shown = tuple(map(one_line, cells))
        widths = self._widths if sys.stdout.isatty() else [*self._widths]
        widths += [0] * (len(shown) - len(widths))
        widths[: len(shown)] = map(max, widths, map(_width, shown))
        return _line(shown, widths[: len(shown)], [False] * len(shown))


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for cell, columns, to_right in zip(cells, widths, right, strict=True):
        space = " " * (columns - _width(cell))
        padded.append(space + cell if to_right else cell + space)
    return "  ".join(padded).rstrip()


def _width(cell: str) -> int:
    return width(_INKED.sub("", cell))


def endpoint(address: object, port: int | None) -> str:
    """Return an address and its port, if it has one: "192.0.2.1:22", "[2001:db8::1]:22"."""
    text = str(address)
    if port is None:
        return text
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def iso_time(seconds: float, precision: str = "milliseconds") -> str:
    """Return a time since the epoch as in JSON: "2026-01-31T12:00:00.000Z"."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def time_now() -> str:
    """Return the time now, in seconds, as model/modes.py writes times."""
    return iso_time(datetime.now(UTC).timestamp(), "seconds")


def local_time(time: str | float, form: str = "%Y-%m-%dT%H:%M:%S.%f") -> str:
    """Return a time as people read it: in the local time zone, with its offset from UTC (Z for none).

    The time is given as in JSON or in seconds since the epoch. Programs get UTC, in JSON.
    """
    try:
        at = datetime.fromisoformat(time) if isinstance(time, str) else datetime.fromtimestamp(time, UTC)
    except ValueError:
        return str(time)
    here = at.astimezone()
    text, offset = here.strftime(form), here.strftime("%z")
    digits = text[:-3] if form.endswith("%f") else text
    return f"{digits}Z" if int(offset[:5]) == 0 else f"{digits}{offset[:3]}:{offset[3:5]}"


def whole_seconds(time: str | float | None) -> str:
    """Return the local time without milliseconds; "" for none."""
    return "" if time is None or time == "" else local_time(time, "%Y-%m-%dT%H:%M:%S")


def localize_times(text: str) -> str:
    """Return a message with its times as people read them; in JSON, and in messages of the agent, they are in UTC."""
    return _UTC_TIME.sub(lambda found: whole_seconds(found[0]), text)


def paint_verdict(verdict: str) -> str:
    """Return the verdict with its colour: accept in green, drop in red."""
    colour = {"accept": "green", "drop": "red"}.get(verdict)
    return verdict if colour is None else paint(verdict, colour)


def schema_hint(parser: argparse.ArgumentParser) -> str:
    """Return the command that describes what a verb prints with --json."""
    return f"sgdp schema {'-'.join(parser.prog.split()[1:])}"


def print_any_text() -> None:
    """Let stdout and stderr spell what their encoding lacks: that of a Windows console often has one alphabet."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and getattr(stream, "encoding", "utf-8").lower().replace("-", "") != "utf8":
            reconfigure(errors="backslashreplace")

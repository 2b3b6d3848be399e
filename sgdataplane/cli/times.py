"""Arguments that name times and spans of time: `--since`, `--until`, `--for`.

Owns how they are read. Must not know what is asked about that time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from sgdataplane.history.span import TIME_WORDS, parse_span, parse_time
from sgdataplane.terminal.arguments import Parser, reading


def read_time(text: str) -> float:
    """Parse a time as the type of an argument; return seconds since 1970."""
    return reading(partial(parse_time, now=time.time()))(text)


def read_span(longest: str) -> Callable[[str], int]:
    """Return the type of an argument that is a span of time, up to `longest`, in seconds.

    `longest` is written as a span, too.
    """

    def read(text: str) -> int:
        seconds = parse_span(text)
        if seconds > parse_span(longest):
            raise ValueError(f"{text!r} is more than {longest}")
        return seconds

    return reading(read)


def add_since(parser: Parser, default: str | None, words: str = "from then on") -> None:
    """Add `--since`. `default` is written as text; None if the option may be left out."""
    shown = "" if default is None else f"; default: {default}"
    since = None if default is None else read_time(default)
    help_text = f"{words}: {TIME_WORDS}{shown}"
    parser.add_argument("--since", type=read_time, default=since, metavar="TIME", help=help_text)


def add_time(parser: Parser, default: str | None = "1h") -> None:
    """Add `--since` and `--until`."""
    add_since(parser, default)
    parser.add_argument("--until", type=read_time, default=None, metavar="TIME", help="until then (default: now)")

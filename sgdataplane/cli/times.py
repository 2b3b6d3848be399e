"""Arguments that name times: `--since`, `--until`.

Owns how they are read. Must not know what is asked about that time.
"""

from __future__ import annotations

import argparse
import time

from sgdataplane.history.span import TIME_WORDS, parse_time
from sgdataplane.terminal.arguments import Parser


def read_time(text: str) -> float:
    """The type of a time: seconds since 1970."""
    try:
        return parse_time(text, time.time())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_since(parser: Parser, default: str | None, words: str = "from then on") -> None:
    """`--since`. `default`: as text; None if it may be left out."""
    shown = "" if default is None else f"; default: {default}"
    since = None if default is None else read_time(default)
    help_text = f"{words}: {TIME_WORDS}{shown}"
    parser.add_argument("--since", type=read_time, default=since, metavar="TIME", help=help_text)


def add_time(parser: Parser, default: str | None = "1h") -> None:
    """`--since` and `--until`."""
    add_since(parser, default)
    parser.add_argument("--until", type=read_time, default=None, metavar="TIME", help="until then (default: now)")

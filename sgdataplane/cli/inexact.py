"""`--inexact`, and loading a state with it: another cloud's rules that have no exact equivalent here.

Owns the option's words. Must not know which rules these are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sgdataplane.statefile import Loaded, Memory
from sgdataplane.terminal.arguments import Parser, choices_of, load_state

WAYS = ("refuse", "widen", "narrow")
WORDS = (
    "with groups of AWS or OpenStack: what to do with a rule that can't be said exactly here: refuse the state"
    " (default), let the rule accept more (widen), or leave it out (narrow)"
)


def add_inexact(parser: Parser) -> None:
    """Add the option."""
    parser.add_argument("--inexact", choices=WAYS, default=WAYS[0], metavar="WAY", help=WORDS)


def load_as_asked(
    arguments: argparse.Namespace, path: Path, memory: Memory | None = None, *, is_as_written: bool = False
) -> Loaded:
    """Load a state as `--profile` and `--inexact` say.

    StateFileError with everything that is wrong with it.
    """
    profile = choices_of(arguments).profile
    return load_state(path, profile, memory, arguments.inexact, is_as_written=is_as_written)

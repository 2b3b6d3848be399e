"""What every family of verbs is built with: the parser class, the exit codes, and the question for root.

Owns these three. Is given nothing. Must not know any verb.
"""

from __future__ import annotations

import argparse
import enum
import os
from collections.abc import Callable, Mapping
from typing import TypeAlias

from sgdataplane.errors import PrivilegeError


class Exit(enum.IntEnum):
    """The exit codes that other programs rely on."""

    DONE = 0
    NO = 1
    USAGE = 2
    KERNEL = 3
    NOT_ROOT = 4
    INPUT = 5
    INTERNAL = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130  # 128 + SIGINT, as shells say it
    BROKEN_PIPE = 141  # 128 + SIGPIPE


# `make docs` writes docs/reference/exit-codes.md from this.
EXIT_MEANINGS: Mapping[Exit, str] = {
    Exit.DONE: "done",
    Exit.NO: "the answer is no: a disagreement, a state that `check` refuses, findings under `--strict`",
    Exit.USAGE: "wrong usage of the command line",
    Exit.KERNEL: "the kernel refused, or can't do it",
    Exit.NOT_ROOT: "this needs root",
    Exit.INPUT: "the input can't be used: not found, refused, nothing in it to do",
    Exit.INTERNAL: "a bug of ours",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
    Exit.BROKEN_PIPE: "the reader of our output went away",
}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose verbs all take --debug too, so that it may be added at the end of a line."""

    def __init__(self, *, add_help: bool = True, **kwargs: object) -> None:
        super().__init__(add_help=add_help, allow_abbrev=False, **kwargs)  # type: ignore[arg-type]
        self.color = False  # from Python 3.14 on; these wouldn't be our colours (output.py)
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")


Subparsers: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001  # what add_subparsers() returns
Run: TypeAlias = Callable[[argparse.Namespace], int]


def require_root(what: str, run: str) -> None:
    """Raises PrivilegeError unless we are root; `what` needs it ("a lab"), `run` is the command that would work."""
    if os.geteuid() != 0:
        raise PrivilegeError(f"root ({what})", run)

"""The entry of `sgdp`: finds the verb, runs it, and turns whatever happens into one message and one exit code.

Owns the exit codes' meaning and the wording of a bug report; is given the arguments. Must not know what a verb does.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from sgdataplane import __version__
from sgdataplane.cli.command import Exit, Parser, Run, Subparsers
from sgdataplane.cli.output import complain, guarded
from sgdataplane.errors import HostError, KernelError, PrivilegeError, SgDataplaneError

# From the special to the general: the first that fits decides. Whatever else is ours speaks of the input.
EXIT_CODES: tuple[tuple[type[SgDataplaneError], Exit], ...] = (
    (PrivilegeError, Exit.NOT_ROOT),
    (KernelError, Exit.KERNEL),
    (HostError, Exit.KERNEL),
    (SgDataplaneError, Exit.INPUT),  # StateFileError, LimitError, BindingError; LabError: e.g. no such lab or node
)


def families() -> tuple[Callable[[Subparsers], None], ...]:
    """The `register` of every family of verbs, in the order of the help; imported only when `sgdp` runs."""
    from sgdataplane.cli import (
        agent,
        attach,
        counters,
        diff,
        explain,
        lab,
        log,
        policy,
        replay,
        report,
        sessions,
        state,
        trace,
    )

    families = (state, policy, explain, diff, lab, replay, report, attach, agent, sessions, counters, log, trace)
    return tuple(family.register for family in families)


def build_parser() -> Parser:
    """The whole command line."""
    parser = Parser(prog="sgdp", description="Security groups enforced in the Linux kernel, and a lab to see it.")
    parser.add_argument("--version", action="version", version=f"sgdp {__version__}")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    for register in families():
        register(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `argv` (the process's own if None) and returns the exit code; on a usage error argparse exits at once."""
    with guarded():
        arguments = build_parser().parse_args(argv)
        return run_verb(arguments.run, arguments)


def run_verb(run: Run, arguments: argparse.Namespace) -> int:
    """What `run` returns; or, where it raises, the message on stderr and the exit code that the error stands for."""
    try:
        code = run(arguments)
        sys.stdout.flush()  # here, so that a reader who went away is noticed here
    except BrokenPipeError:
        _discard_stdout()
        return Exit.BROKEN_PIPE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the one place that must let nothing through
        return report(error, debug=getattr(arguments, "debug", False))
    return code


def report(error: Exception, *, debug: bool) -> int:
    """Prints what went wrong on stderr, with the traceback if `debug`; returns the exit code."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, SgDataplaneError):
        complain(error)
        return next(code for kind, code in EXIT_CODES if isinstance(error, kind))
    complain(bug_report(error), "internal error:")
    return Exit.INTERNAL


def bug_report(error: Exception) -> str:
    """A short block: what happened, where, on what, and what to send."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return "\n".join(
        (
            f"{type(error).__name__}: {error}",
            f"  in:      {Path(frame.filename).name}:{frame.lineno} {frame.name}",
            f"  version: sgdp {__version__}, Python {platform.python_version()}, Linux {platform.release()}",
            "  This is a bug in sgdataplane, not in your input. Please report it with this block, the command and",
            "  the state file. --debug adds the traceback.",
        )
    )


def _discard_stdout() -> None:
    """Python flushes stdout once more on its way out; give it somewhere to write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())

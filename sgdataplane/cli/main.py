"""The entry of `sgdp`: finds the verb, runs it, and turns whatever happens into one message and one exit code.

Owns the list of verbs, the exit code of each error, and the wording of a bug report. Must not know what a verb does.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from sgdataplane import __version__
from sgdataplane.cli.arguments import Parser, Run, Verbs
from sgdataplane.cli.output import Exit, complain, guarded
from sgdataplane.errors import HostError, KernelError, PrivilegeError, SgDataplaneError

# module -> verb -> what `sgdp --help` says of it, in that order
VERBS: dict[str, dict[str, str]] = {
    "init": {"init": "write a commented state to begin with, or one of the containers that run here"},
    "state": {
        "check": "validate a state and list what is odd: open ports, dead rules, quotas nearly used",
        "schema": "print the JSON Schema of state files, for editors",
        "import": "convert the cloud's API answers or a Terraform state to a native state",
        "export": "write a state as the cloud's API answers, or as a native state",
    },
    "compile": {"compile": "print the nftables rules that would be loaded"},
    "explain": {"explain": "say whether a packet passes, and which rule decides"},
    "diff": {"diff": "list the traffic that another state would accept or drop instead"},
    "test": {"test": "hold expectations (`web -> db tcp/5432 accept`) against a state, or against packets"},
    "report": {"report": "write one HTML page: who reaches whom, rules with hits, findings, sessions"},
    "lab": {"lab": "build a state from network namespaces and send real packets through it"},
    "replay": {"replay": "send a capture's packets through a lab; show which flows pass, and by which rule"},
    "attach": {
        "attach": "bind an existing interface, for example a container's, to an ENI",
        "detach": "unbind an ENI's interface; with the last ENI of a namespace, our rules there go, too",
        "apply": "enforce a state on all attached ENIs once, and exit",
        "clear": "detach all ENIs and remove all rules of ours from their namespaces",
    },
    "agent": {
        "agent": "run the daemon that keeps all attached ENIs enforced",
        "status": "show what the running agent enforces; exit code 1 if it isn't healthy",
    },
    "sessions": {"sessions": "list live sessions, and the rule that let each one in"},
    "counters": {"counters": "show how many packets each rule decided about, and which rules never did"},
    "log": {"log": "show denied packets as they happen, and why each one was denied"},
    "trace": {"trace": "follow real packets through our chains, step by step"},
}
ABOUT = """\
Enforce cloud security groups in the Linux kernel, and try them in a lab.

A STATE is a file or folder with VPCs, security groups, rules, instances and
their ENIs (elastic network interfaces). Commands that only read a state need
no root and touch nothing. Commands that look at or change what the kernel
enforces need root."""
FIRST_STEPS = """\
first steps:
  sgdp check state.yaml         is the state valid, and does anything look odd?
  sudo sgdp lab up state.yaml   build its instances from network namespaces
  sudo sgdp lab matrix          send real packets between every pair
  sudo sgdp lab down            remove the lab
  sgdp explain --help           how to ask which rule lets a packet pass

`sgdp COMMAND --help` says more about each command. Exit codes: 0 done,
1 the answer is no, 2 wrong usage, 3 the kernel refused or can't do it,
4 not root, 5 the input can't be used, 70 a bug of ours."""
# The first that fits decides, from the special to the general. Every other error of ours is about the input.
EXIT_CODES: tuple[tuple[type[SgDataplaneError], Exit], ...] = (
    (PrivilegeError, Exit.NOT_ROOT),
    (KernelError, Exit.KERNEL),
    (HostError, Exit.KERNEL),
    (SgDataplaneError, Exit.INPUT),  # StateFileError, LimitError, BindingError; LabError: e.g. no such lab or node
)


def add_verbs(parser: Parser, argv: Sequence[str] | None) -> None:
    """Adds all verbs. Only the module of `argv`'s verb is imported and adds its arguments; the other verbs are just
    listed. None: all modules are imported."""
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    named = next((word for word in argv or () if not word.startswith("-")), "")
    for module, words in VERBS.items():
        verbs = Verbs(subparsers, words)
        if argv is None or named in words:
            import_module(f"sgdataplane.cli.{module}").register(verbs)
        else:
            verbs.list()


def build_parser(argv: Sequence[str] | None = None) -> Parser:
    """The command line as far as it is needed to read `argv` (`add_verbs`); None: the whole."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="sgdp", description=ABOUT, epilog=FIRST_STEPS, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"sgdp {__version__}")
    add_verbs(parser, argv)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `argv` (the process's own if None) and returns the exit code; on a usage error argparse exits at once."""
    given = sys.argv[1:] if argv is None else argv
    with guarded():
        arguments = build_parser(given).parse_args(given)
        return run_verb(arguments.run, arguments)


def run_verb(run: Run, arguments: argparse.Namespace) -> int:
    """What `run` returns. If it raises, prints the message on stderr and returns the exit code for that error."""
    try:
        code = run(arguments)
        sys.stdout.flush()  # now, so that a reader who went away is noticed in this function
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
    """A short block: what happened, where, on which system, and what to send us."""
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
    """Python flushes stdout once more when it exits; this gives it somewhere to write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())

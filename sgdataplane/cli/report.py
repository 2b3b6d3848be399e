"""`sgdp report`: a state on one page, and with it what the kernel has to tell where the state is in force.

Owns the arguments, and that the file is written whole or not at all. Must not know what stands on the page.
"""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sgdataplane.cli.arguments import add_choices, add_state, choices_of, load_state
from sgdataplane.cli.command import Exit, Subparsers, require_root
from sgdataplane.cli.output import say
from sgdataplane.host.files import Survives, replace_file, require_replaceable
from sgdataplane.model.choices import JUDGING, ON_HOSTS, Choices

if TYPE_CHECKING:
    from sgdataplane.model.options import Options
    from sgdataplane.model.state import CloudState
    from sgdataplane.report.content import Observed, Unobserved


def register(verbs: Subparsers) -> None:
    """Add the verb."""
    words = "one page for people: who reaches whom, rules with hits, findings, sessions"
    parser = verbs.add_parser("report", help=words, description=words)
    add_state(parser)
    parser.add_argument("--html", type=Path, metavar="FILE", required=True, help="the page, which needs no other file")
    lab = "take hits and sessions from this lab (default: from the ENIs that are attached on this host, if any are)"
    parser.add_argument("--name", metavar="N", help=lab)
    parser.add_argument("--bindings", type=Path, metavar="DIR", help="default: /run/sgdataplane/attached")
    add_choices(parser, JUDGING)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    from sgdataplane.cli.state import findings_of
    from sgdataplane.report.page import Subject, report_page
    from sgdataplane.report.render import render_report

    choices = choices_of(arguments, _base(arguments))
    loaded = load_state(arguments.state, choices.profile)
    observed = _observed(loaded.state, arguments, choices.options)
    page = report_page(Subject(str(arguments.state), loaded.state, findings_of(loaded, choices), observed, choices))
    write(render_report(page), arguments.html)
    say(f"{arguments.html}: {', '.join(f'{name} {value}' for name, value in page.facts)}")
    say(observed.told)
    return Exit.DONE


def _base(arguments: argparse.Namespace) -> Choices:
    """What holds unless it is chosen here: of a lab that was named, what holds there."""
    if arguments.name is None:
        return ON_HOSTS
    require_root("reading the counters and sessions of a lab", "sudo " + shlex.join(["sgdp", *sys.argv[1:]]))
    from sgdataplane.cli.observed import choices_of_lab

    return choices_of_lab(arguments.name)


def _observed(state: CloudState, arguments: argparse.Namespace, options: Options) -> Observed | Unobserved:
    from sgdataplane.report.content import Unobserved

    if arguments.name is None and os.geteuid() != 0:
        return Unobserved("no lab was named with --name, and only root can read what is attached on this host.")
    from sgdataplane.attach.registry import ATTACHED_DIR, Registry, current
    from sgdataplane.cli.observed import of_host, of_lab

    if arguments.name is not None:
        return of_lab(state, arguments.name)
    return of_host(state, current(Registry(arguments.bindings or ATTACHED_DIR).load()), options)


def write(text: str, path: Path) -> None:
    """Replace the file whole. StateFileError if it can't be written."""
    from sgdataplane.cli.state import refusal

    octets = text.encode("utf-8", "replace")  # a file's name need not be UTF-8
    try:
        if _is_special(path):
            path.write_bytes(octets)
        else:  # who loses power makes the page again
            replace_file(_aim(path), octets, Survives.THE_WRITER, writer=str(os.getpid()))
    except OSError as error:
        raise refusal(path, error.strerror or str(error)) from error


def require_writable(path: Path) -> None:
    """StateFileError where `write` couldn't; to be asked before what takes long. The file stays as it is."""
    from sgdataplane.cli.state import refusal

    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not _is_special(path):
            require_replaceable(_aim(path), writer=str(os.getpid()))
    except OSError as error:
        raise refusal(path, error.strerror or str(error)) from error


def _is_special(path: Path) -> bool:
    """A pipe, /dev/stdout (also where that leads to a file): what can't be replaced."""
    return path.exists() and (not path.is_file() or path.is_relative_to("/dev"))


def _aim(path: Path) -> Path:
    """A link is followed: /dev/stdout may be one to a file."""
    return Path(os.path.realpath(path))

"""`sgdp log`: denied packets, as they happen.

Owns the arguments. Must not know where that is (scopes.py), what is logged (observe/denied.py) or how it is written
(logformats.py).

It listens in each namespace itself, and the kernel tells one listener only: a second `sgdp log` of the same namespace
is refused.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sgdataplane.cli.arguments import ENI_HELP, read_seconds
from sgdataplane.cli.command import Exit, Subparsers, require_root
from sgdataplane.cli.output import say, say_aside
from sgdataplane.cli.scopes import look

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sgdataplane.observe.follow import Told

MAX_SECONDS = 1e6
WORDS = "denied packets as they happen: whose, which, and the rule or other cause"


def register(verbs: Subparsers) -> None:
    """Add the verb."""
    parser = verbs.add_parser("log", help=WORDS, description=WORDS)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--name", metavar="N", help="of that lab (default: what is attached here, else the lab lab)")
    where.add_argument("--config", type=Path, metavar="FILE", help="the agent's (default: /etc/sgdataplane/agent.toml)")
    parser.add_argument("--eni", metavar="ENI", help=f"only this ENI's: {ENI_HELP}")
    parser.add_argument("-f", "--follow", action="store_true", help="until Ctrl-C")
    parser.add_argument(
        "--seconds", type=read_seconds(MAX_SECONDS), default=5.0, metavar="S", help="without -f: how long (default: 5)"
    )
    help_text = "text (default), json, or the fields of the vendor's flow log: pydoc sgdataplane.cli.logformats"
    parser.add_argument("--format", choices=("text", "json", "flowlog"), default="text", help=help_text)
    help_text = "as --format json: an object a line, by sgdataplane/schemas/log.schema.json"
    parser.add_argument("--json", action="store_const", const="json", dest="format", help=help_text)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print until it is time to end, or until there is nothing left to listen to."""
    require_root("listening in other namespaces", "sudo " + shlex.join(["sgdp", *sys.argv[1:]]))
    from sgdataplane.observe.follow import Follow

    found = look(arguments)
    eni_id = None if arguments.eni is None else found.eni(arguments.eni)
    sources = [scope.source for scope in (found.all if eni_id is None else (found.having(eni_id),))]
    with Follow(sources) as follow:
        places = "1 namespace" if len(sources) == 1 else f"{len(sources)} namespaces"
        say_aside(f"listening in {places}")
        with suppress(KeyboardInterrupt):
            until = None if arguments.follow else time.monotonic() + arguments.seconds
            _show(follow.told(until), eni_id, arguments.format)
        _show(follow.rest(), eni_id, arguments.format)
    return Exit.DONE


def _show(told: Iterable[Told], eni_id: str | None, form: str) -> None:
    """`eni_id`: only that one's."""
    from sgdataplane.cli.logformats import FORMATS
    from sgdataplane.observe.denied import Denied

    for source, entry in told:
        if eni_id is None or not isinstance(entry, Denied) or entry.eni_id == eni_id:
            line = FORMATS[form](source.name, source.state, entry)
            if line is not None:
                say(line, flush=True)

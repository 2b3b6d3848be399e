"""`sgdp log`: denied packets, as they happen.

Owns the arguments, and where is listened to. Must not know what is logged (observe/denied.py) or how it is written
(logformats.py).

It listens in each namespace itself, and the kernel tells one listener only: a second `sgdp log` of the same namespace
is refused.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sgdataplane.cli.arguments import ENI_HELP, eni_of, read_seconds
from sgdataplane.cli.command import Exit, Subparsers, require_root
from sgdataplane.cli.output import say, say_aside

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sgdataplane.attach.registry import Binding
    from sgdataplane.lab.manage import Enforced
    from sgdataplane.model.state import CloudState
    from sgdataplane.observe.follow import Source, Told

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

    sources = _of_lab(arguments, arguments.name) if arguments.name is not None else _here(arguments)
    if arguments.eni is not None:
        sources = [_having(sources, arguments.eni)]
    with Follow(sources) as follow:
        places = "1 namespace" if len(sources) == 1 else f"{len(sources)} namespaces"
        say_aside(f"listening in {places}")
        with suppress(KeyboardInterrupt):
            _show(follow.told(None if arguments.follow else time.monotonic() + arguments.seconds), arguments)
        _show(follow.rest(), arguments)
    return Exit.DONE


def _show(told: Iterable[Told], arguments: argparse.Namespace) -> None:
    from sgdataplane.cli.logformats import FORMATS
    from sgdataplane.observe.denied import Denied

    for source, entry in told:
        if arguments.eni is None or not isinstance(entry, Denied) or entry.eni_id == arguments.eni:
            line = FORMATS[arguments.format](source.name, source.state, entry)
            if line is not None:
                say(line, flush=True)


def _having(sources: Iterable[Source], eni_id: str) -> Source:
    """Where the ENI is. LabError if it is nowhere."""
    from sgdataplane.errors import LabError

    known = sorted(eni for source in sources for eni in source.interfaces)
    found = [source for source in sources if eni_id in source.interfaces]
    if not found:
        raise LabError(f"ENI {eni_id}", f"it isn't enforced there; these are: {', '.join(known) or 'none'}")
    return found[0]


def _of_lab(arguments: argparse.Namespace, name: str) -> list[Source]:
    """Of a lab. The name of an ENI becomes its id."""
    from sgdataplane.lab import manage

    lab = manage.look(name)
    if arguments.eni is not None:
        arguments.eni = eni_of(lab.state, arguments.eni)
    return [_of_enforced(entry) for entry in lab.enforced]


def _of_enforced(entry: Enforced) -> Source:
    from sgdataplane.host import netns
    from sgdataplane.observe.follow import Source

    desired, there = entry.desired, partial(netns.is_same, entry.netns, netns.inode_of(entry.netns))
    held = partial(nullcontext, entry.netns)
    return Source(entry.name, held, there, desired.interfaces, desired.placement, desired.state)


def _here(arguments: argparse.Namespace) -> list[Source]:
    """What is attached, by namespace: workloads, and the routers of host placement. If nothing is, the lab `lab`. The
    name of an ENI becomes its id."""
    from sgdataplane.attach.registry import Registry
    from sgdataplane.cli.named import attached_eni
    from sgdataplane.daemon import config
    from sgdataplane.errors import LabError
    from sgdataplane.lab.record import LabFolder

    file = arguments.config
    known = config.load_config(file or config.CONFIG_FILE, must_exist=file is not None)
    bindings = Registry(known.bindings).load()
    by_place: dict[object, list[Binding]] = {}
    for binding in bindings:
        by_place.setdefault(binding.host_end.router if binding.host_end else binding.identity, []).append(binding)
    if not by_place and LabFolder("lab").load() is None:
        raise LabError("nothing to listen to", "nothing is attached here, and there is no lab of the name lab")
    if not by_place:
        return _of_lab(arguments, "lab")
    if arguments.eni is not None:
        arguments.eni = attached_eni(known, arguments.eni, {binding.eni_id for binding in bindings})
    state = _state(known.state)
    return [_of_bindings(some, state) for some in by_place.values()]


def _state(file: Path) -> CloudState | None:
    """What the agent enforces; None if it can't be read, for which the agent has its own words."""
    from sgdataplane.errors import StateFileError
    from sgdataplane.statefile import load

    try:
        return load(file, profile="unlimited").state  # its quotas are for the agent to judge
    except StateFileError:
        say_aside(f"{file} can't be read: rules are named as their counters are")
        return None


def _of_bindings(bindings: list[Binding], state: CloudState | None) -> Source:
    """Of one namespace."""
    from sgdataplane.host import netns
    from sgdataplane.host.identity import found, is_there
    from sgdataplane.model.placement import Placement
    from sgdataplane.observe.follow import Source

    first = bindings[0]
    if first.host_end is None:
        interfaces = {binding.eni_id: binding.ifname for binding in bindings}
        held, place = partial(found, first.identity, first.path), partial(is_there, first.identity, first.path)
        return Source(first.named, held, place, interfaces, Placement.INSTANCE, state)
    router = first.host_end.router
    interfaces = {binding.eni_id: binding.host_end.ifname for binding in bindings if binding.host_end}
    there = partial(netns.is_same, router, netns.inode_of(router))
    return Source(router, partial(nullcontext, router), there, interfaces, Placement.HOST, state)

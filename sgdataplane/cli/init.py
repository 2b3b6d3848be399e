"""`sgdp init`: a state to begin with.

Owns the arguments, the wording, and what is said at the head of a state of containers. Must not replace a file.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from sgdataplane.attach.containers import Running, list_running
from sgdataplane.attach.suggest import eni_ids, suggest_state
from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.model.words import pluralize
from sgdataplane.statefile import dump_native, load_text
from sgdataplane.terminal.arguments import Verbs
from sgdataplane.terminal.files import write_new
from sgdataplane.terminal.output import Exit, say, say_block
from sgdataplane.visible import visible

STARTER = resources.files("sgdataplane") / "statefile" / "starter.yaml"
HEAD = """\
# A state of sgdataplane, made from the containers that ran here. It lets pass what the engines let pass: containers of
# one network reach each other, everybody reaches a published port, and a container reaches everybody. Change it, then:
#
#   sgdp check {name}
{attach}
#   sudo sgdp apply {name}
#
# The interface's name is a guess: eth0 is usual for a container's first network, eth1 for the second.
#
# Every ENI is in audit mode: what its rules refuse passes, and is counted (sgdp counters --audited). To enforce an ENI,
# remove its mode and apply the state again.
"""
ATTACH = "#   sudo sgdp attach --eni {eni} --container {container} --ifname eth{number} --state {name}"


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = "It is an error if the file exists; it is never replaced."
    parser = verbs.add("init", run, more)
    words = "the new file (default: state.yaml); - for standard output"
    parser.add_argument("file", nargs="?", type=Path, default=Path("state.yaml"), metavar="FILE", help=words)
    words = "describe the running containers of podman and docker; needs access to their sockets"
    parser.add_argument("--from-containers", action="store_true", help=words)


def run(arguments: argparse.Namespace) -> int:
    """Write the file, which `sgdp check` accepts."""
    file: Path = arguments.file
    name = "state.yaml" if str(file) == "-" else shlex.quote(visible(str(file)))
    if arguments.from_containers:
        text, what = of_containers(list_running(), name)
    else:
        text, what = starter(name), "a web server and its database"
    load_text(text, file=name)
    if str(file) == "-":
        say_block(text, end="")
        return Exit.DONE
    write_new(text, file)
    say(f"{file}: {what}; the comments at its top say what to do next")
    return Exit.DONE


def starter(name: str) -> str:
    """Return the state of the package, with the file's own name in its comments."""
    return STARTER.read_text(encoding="utf-8").replace("state.yaml", name)


def of_containers(containers: Iterable[Running], name: str) -> tuple[str, str]:
    """Return a state of the containers, and what is in it, in words.

    Raises:
        StateFileError: None of them has an address.
    """
    held = [each for each in containers if eni_ids(each)]
    if not held:
        expected = "a running container with an IPv4 address of its own"
        where, message = Where("the containers of this machine"), "there is nothing to protect"
        raise StateFileError((Problem(where, "InvalidContainer.NotFound", message, "", expected),))
    lines = [
        ATTACH.format(eni=eni, container=each.name, number=number, name=name)
        for each in held
        for number, eni in enumerate(eni_ids(each))
    ]
    head = HEAD.format(name=name, attach="\n".join(lines))
    return head + dump_native(suggest_state(held)), pluralize(len(held), "container")

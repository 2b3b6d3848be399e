"""`sgdp lab up --api`: a lab of whole hosts that follow the API, while the command runs.

Owns what it prints. Must not hold logic beyond asking the lab.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from sgdataplane.errors import HostError
from sgdataplane.lab import manage
from sgdataplane.model.words import pluralize
from sgdataplane.terminal.anywhere import extra
from sgdataplane.terminal.arguments import Parser, choices_of, get_choices, read_for
from sgdataplane.terminal.output import Exit, say, say_aside, warn
from sgdataplane.visible import visible

if TYPE_CHECKING:
    from sgdataplane.lab.hosts.guests import Guest
    from sgdataplane.lab.hosts.hostslab import HostsLab

LISTEN = "127.0.0.1:8080"
AUTHORITY = "SSL_CERT_FILE"  # where OpenSSL's users find whom to trust
EACH_S = 0.5  # how often the API is asked what is wanted


def add_arguments(parser: Parser) -> None:
    """Add the options of `sgdp lab up` that are about whole hosts."""
    api = "whole hosts that follow an API of the lab's own, with etcd, relays and agents; until Ctrl-C"
    parser.add_argument("--api", action="store_true", help=api)
    listen = f"with --api: where the API answers, on loopback (default: {LISTEN})"
    parser.add_argument("--listen", metavar="ADDRESS:PORT", help=listen)


def refuse_unfit(arguments: argparse.Namespace) -> None:
    """Refuse options that don't go together with a usage error."""
    if not arguments.api:
        if arguments.listen is not None:
            arguments.parser.error("--listen needs --api")
        if arguments.state is None:
            arguments.parser.error("the following arguments are required: STATE")
        return
    names = [f"--{name.replace('_', '-')}" for name in get_choices(arguments) if name != "placement"]
    names += ["--external"] if arguments.external else []
    names += ["--time-scale"] if arguments.time_scale != 1.0 else []
    names += ["--name"] if arguments.name != "lab" else []
    if names:
        arguments.parser.error(f"with --api, hosts have their own agents: {', '.join(names)} can't be given")


def run(arguments: argparse.Namespace) -> int:
    """Build the lab, say how to reach it, and keep it until Ctrl-C or SIGTERM. Nothing of it stays."""
    with extra("api"):
        from sgdataplane.control.http.server import listen_at
        from sgdataplane.lab.hosts.hostslab import hosts_lab
        from sgdataplane.lab.hosts.portforwarder import forward_port
    at = read_for(arguments, lambda: listen_at(arguments.listen or LISTEN))
    with manage.terminate_like_interrupt(), suppress(KeyboardInterrupt):
        say_aside(f"building {pluralize(arguments.hosts, 'host')} and their control plane")
        with hosts_lab(arguments.hosts, choices_of(arguments).placement) as lab:
            inside = lab.sandbox.namespace.netns
            with forward_port(at.host, at.port, inside, lab.api_targets) as port:
                host = f"[{at.host}]" if ":" in at.host else at.host
                _say_how(lab, f"https://{host}:{port}")
                _keep(lab, arguments.state)
    say_aside("nothing of the lab is left")
    return Exit.DONE


def _say_how(lab: HostsLab, url: str) -> None:
    """Print what a shell needs, so that `sgdp group`, or an SDK, asks this API."""
    from sgdataplane.control.http.client import KEY, SECRET, URL

    given = {URL: url, KEY: lab.key[0], SECRET: lab.key[1], AUTHORITY: str(lab.authority_file)}
    for name, value in given.items():
        say(f"export {name}={shlex.quote(value)}")
    for component in lab.components:
        say_aside(f"{component.name}: {component.log}")
    for host in lab.hosts:
        say_aside(f"{host.name}: {shlex.join(host.namespace.enter())} COMMAND")


def _keep(lab: HostsLab, state: Path | None) -> None:
    """Put the state into the store, then keep workloads equal to it, for ever."""
    from sgdataplane.lab.hosts.housekeeping import Housekeeper, LabClient

    if state is not None:
        lab.import_state(state.absolute())
    keeper, never = Housekeeper(lab, LabClient(lab)), Event()
    trouble = ""
    while True:
        try:
            come, gone = keeper.turn()
        except HostError as error:
            if str(error) != trouble:
                warn(f"{error}; it is tried again")
            trouble = str(error)
        else:
            _say_changes(come, gone)
            trouble = ""
        never.wait(EACH_S)


def _say_changes(come: Iterable[Guest], gone: Iterable[Guest]) -> None:
    """Print which workloads have come and gone."""
    for guest in gone:
        say(f"{guest.eni_id} of {visible(guest.name)} has left {guest.host.name}")
    for guest in come:
        addresses = ", ".join(map(str, guest.plug.addresses))
        say(f"{guest.eni_id} ({addresses}) of {visible(guest.name)} is on {guest.host.name}: {_command(guest)}")


def _command(guest: Guest) -> str:
    """Return the command by which something runs in a workload."""
    return shlex.join(["nsenter", f"--net={guest.netns}", "COMMAND"])

"""The one probe that `sgdp lab probe` and `sgdp trace` send: FROM, TO and WHAT, or options.

Owns these arguments and how they are read. Must not know how a probe is sent.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sgdataplane.net.values import Protocol
from sgdataplane.terminal.arguments import NODE_HELP, Parser, flow_of, read_for, settle_ports

if TYPE_CHECKING:
    from sgdataplane.lab.ends import Asked
    from sgdataplane.lab.probe import Service

ENDS = {"sender": "FROM", "receiver": "TO", "what": "WHAT"}
OPTIONS = {"from_end": "--from", "to_end": "--to", "protocol": "--protocol", "port": "--port"}


def add_probe(parser: Parser, words: str = "the sender") -> None:
    """Add FROM, TO and WHAT; also `--from` and `--to`, which go with `Parser.add_flow`.

    `words` say what FROM is.
    """
    parser.add_argument("sender", nargs="?", metavar="FROM", help=f"{words}: {NODE_HELP}")
    parser.add_argument("receiver", nargs="?", metavar="TO", help="the receiver, likewise")
    parser.add_argument("what", nargs="?", metavar="WHAT", help="the service: tcp/22, tcp/ssh, icmp or proto/132")
    long_form = "in place of FROM, TO and WHAT, with --port or --protocol: "
    parser.add_argument("--from", dest="from_end", metavar="NODE", help=f"{long_form}the sender")
    parser.add_argument("--to", dest="to_end", metavar="NODE|IP", help="and the receiver")


def is_probe(arguments: argparse.Namespace) -> bool:
    """Return whether any end of a probe is given."""
    return any(getattr(arguments, name) is not None for name in (*ENDS, "from_end", "to_end"))


def parse_probe(arguments: argparse.Namespace) -> Asked:
    """Return the probe that is asked for; a usage error unless it is, in exactly one of both forms."""
    from sgdataplane.lab.ends import Asked

    if arguments.sender is None:
        sender, receiver, service = _of_options(arguments)
    else:
        sender, receiver, service = _of_words(arguments)
    return Asked(sender, receiver, service, arguments.source_port or 0)


def _of_words(arguments: argparse.Namespace) -> tuple[str, str, Service]:
    """Return sender, receiver and service, as FROM, TO and WHAT name them."""
    from sgdataplane.lab.probe import parse_services

    parser: Parser = arguments.parser
    for name, option in OPTIONS.items():
        if getattr(arguments, name) is not None:
            parser.error(f"{option}: FROM, TO and WHAT say it already")
    missing = [word for name, word in ENDS.items() if getattr(arguments, name) is None]
    if missing:
        parser.error(f"{' and '.join(missing)} is missing: give FROM, TO and WHAT, such as web db tcp/5432")
    services = read_for(arguments, lambda: parse_services(arguments.what))
    if len(services) > 1:
        parser.error(f"{arguments.what}: one packet is sent, so name one service, such as tcp/22")
    arguments.protocol = Protocol(services[0].protocol)
    settle_ports(arguments)
    return arguments.sender, arguments.receiver, services[0]


def _of_options(arguments: argparse.Namespace) -> tuple[str, str, Service]:
    """Return sender, receiver and service, as the options name them."""
    from sgdataplane.lab.probe import services_of

    if arguments.from_end is None or arguments.to_end is None:
        arguments.parser.error("say which packet: FROM, TO and WHAT, such as web db tcp/5432 (or --from and --to)")
    flow = flow_of(arguments)
    (service,) = read_for(arguments, lambda: services_of(flow))
    return arguments.from_end, arguments.to_end, service

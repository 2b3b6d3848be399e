"""The arguments that several verbs share: each is read, refused and described in one place.

Owns these. Is given texts and parsers. Must not know any verb.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from sgdataplane.net.ports import Traffic, parse_port
from sgdataplane.net.values import Address, PortRange, Prefix, Protocol

if TYPE_CHECKING:
    from sgdataplane.cli.command import Parser

T = TypeVar("T")


def reading(parse: Callable[[str], T]) -> Callable[[str], T]:
    """An argument's type from a parser of ours: what that says of a bad text is a usage error."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


# types of arguments

read_port = reading(parse_port)
read_protocol = reading(Protocol.parse)
read_address = reading(Address.parse)


def read_prefix(text: str) -> Prefix:
    """An address or CIDR block."""
    try:
        return Prefix.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address or CIDR block ({error})") from error


def read_limit(text: str) -> int:
    """How many at most."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def read_seconds(most: float) -> Callable[[str], float]:
    """A time, above 0 and up to `most`."""

    def read(text: str) -> float:
        found = _number(text)
        if not 0 < found <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, above 0 and up to {most:,.0f}")
        return found

    return read


def read_factor(text: str) -> float:
    """What something is multiplied by."""
    found = _number(text)
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


# arguments that belong together

PORT_HELP = "destination port (TCP and UDP), by number or by service, e.g. ssh"


def add_flow(parser: Parser, *, source_port: str) -> None:
    """`--protocol`, `--port` and `--source-port` of one flow. `source_port`: the last one's help."""
    words = "tcp, udp, icmp, icmpv6, gre or a number"
    parser.add_argument("--protocol", required=True, type=read_protocol, metavar="P", help=words)
    parser.add_argument("--port", type=read_port, metavar="N", help=PORT_HELP)
    parser.add_argument("--source-port", type=read_port, metavar="N", help=source_port)


def flow_of(parser: Parser, arguments: argparse.Namespace) -> Traffic:
    """What `add_flow` asked for; a usage error if ports don't fit the protocol."""
    asked: Protocol = arguments.protocol
    if asked.is_all:
        parser.error("--protocol all: a packet can't have it; name one protocol")
    if asked.has_ports != (arguments.port is not None):
        parser.error(f"--port: {'is needed with' if asked.has_ports else 'makes no sense with'} {asked}")
    if arguments.source_port is not None and not asked.has_ports:
        parser.error(f"--source-port: makes no sense with {asked}")
    return Traffic(asked, None if arguments.port is None else PortRange(arguments.port, arguments.port))

"""The arguments that several verbs share: each is read, refused and described in one place.

Owns these. Is given texts and parsers. Must not know any verb.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sgdataplane.cli.output import say
from sgdataplane.errors import LabError
from sgdataplane.model.choices import CHOICES, ON_HOSTS, Choices, OneOf, Several, Switch
from sgdataplane.model.options import Placement
from sgdataplane.net.ports import Port, Traffic, parse_port
from sgdataplane.net.values import IFNAME, Address, PortRange, Prefix, Protocol

if TYPE_CHECKING:
    from sgdataplane.cli.command import Parser
    from sgdataplane.model.state import CloudState
    from sgdataplane.statefile import Loaded, Memory

T = TypeVar("T")


def reading(parse: Callable[[str], T]) -> Callable[[str], T]:
    """An argument's type from a parser of ours: what that says of a bad text is a usage error."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def read_for(parser: Parser, parse: Callable[[], T]) -> T:
    """What `parse` returns; what it refuses is a usage error."""
    try:
        return parse()
    except (LabError, ValueError) as error:
        parser.error(str(error))


# types of arguments

_read_port = reading(parse_port)
_read_protocol = reading(Protocol.parse)
read_address = reading(Address.parse)


def read_prefix(text: str) -> Prefix:
    """An address or CIDR block."""
    try:
        return Prefix.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address or CIDR block ({error})") from error


def read_limit(text: str, most: int | None = None) -> int:
    """How many; at least one."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= (most or int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 {f'to {most}' if most else 'up'}")
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

PORT_HELP = "destination port (TCP and UDP), by number or service: 22, ssh, or tcp/22, which says the protocol, too"
PROTOCOL_HELP = "tcp, udp, icmp, icmpv6, gre or a number"


def add_flow(parser: Parser, *, port: str = PORT_HELP, source_port: str = "") -> None:
    """`--protocol`, `--port` and, if it is to be asked for, `--source-port`, of one flow or of all that are meant.
    `port`, `source_port`: their help."""
    parser.add_argument("--protocol", type=_read_protocol, metavar="P", help=PROTOCOL_HELP)
    parser.add_argument("--port", type=_read_port, metavar="N", help=port)
    if source_port:
        parser.add_argument("--source-port", type=_read_port, metavar="N", help=source_port)


def flow_of(parser: Parser, arguments: argparse.Namespace) -> Traffic:
    """What `add_flow` asked for; a usage error if ports don't fit the protocol."""
    if arguments.protocol is not None and arguments.protocol.is_all:
        parser.error("--protocol all: a packet can't have it; name one protocol")
    settle_ports(parser, arguments)
    asked: Protocol | None = arguments.protocol
    if asked is None:
        parser.error("--protocol: is needed, unless --port says it: --port tcp/22")
    if asked.has_ports and arguments.port is None:
        parser.error(f"--port: is needed with {asked}")
    return Traffic(asked, None if arguments.port is None else PortRange(arguments.port, arguments.port))


def settle_ports(parser: Parser, arguments: argparse.Namespace) -> None:
    """Turn `--port` and `--source-port`, as far as a verb has them, into numbers. The protocol that one is named with
    is asked for, too; a usage error where `--protocol` says another one, or one without ports."""
    for option, key in (("--port", "port"), ("--source-port", "source_port")):
        port: Port | None = getattr(arguments, key, None)
        if port is None:
            continue
        protocol: Protocol | None = arguments.protocol or port.protocol
        if protocol is not None and not protocol.has_ports:
            parser.error(f"{option}: makes no sense with {protocol}")
        if port.protocol not in (None, protocol):
            parser.error(f"{option} {port}: that is {port.protocol}, but {protocol} is asked for, too; leave one out")
        arguments.protocol = protocol
        setattr(arguments, key, port.number)


# names

ENI_HELP = "an ENI by its id, or by the id or name of its instance, if that has no other"
NODE_HELP = "a node by its id or its instance's name, or one of its ENIs or addresses"


def eni_of(state: CloudState, name: str) -> str:
    """The id of the ENI that is meant: by its own id, or by its instance's id or name if there is only that one.
    StateFileError with those that it could be, or the nearest known ones."""
    from sgdataplane.model.naming import look_up, names_of_enis

    return look_up(name, names_of_enis(state)).the_eni("no such ENI in the state", "an ENI of the state")


# a state, and the policy's choices

STATE_HELP = "a file, a folder, a pipe or - (standard input), native or the cloud's answers"


def _place(text: str) -> Path:
    from sgdataplane.statefile.source import STDIN

    return STDIN if text == "-" else Path(text)


def add_state(
    parser: argparse._ActionsContainer, name: str = "state", words: str = STATE_HELP, **kwargs: object
) -> None:
    """A state's place: `name` as of add_argument."""
    metavar = kwargs.pop("metavar", "STATE")
    parser.add_argument(name, type=_place, metavar=metavar, help=words, **kwargs)  # type: ignore[arg-type]


def load_state(path: Path, profile: str, memory: Memory | None = None) -> Loaded:
    """The state there; a pipe's writer is waited for. StateFileError with all that is wrong with it."""
    from sgdataplane.statefile import load

    return load(path, profile=profile, memory=memory, waits=True)


def refuse_twice(parser: Parser, *paths: Path | None) -> None:
    """A usage error if standard input stands for several of them: it can be read once."""
    from sgdataplane.statefile.source import STDIN

    if paths.count(STDIN) > 1:
        parser.error("- (standard input) can be read once: give one of them as a file")


def add_choices(parser: Parser, names: Iterable[str], base: Choices | None = ON_HOSTS) -> None:
    """An option for each of these choices. `base`: what holds for those that aren't given, as `choices_of` has it then;
    None: it depends, and the verb's own words say on what."""
    group = parser.add_argument_group("the policy's choices", "each is a key of agent.toml, too, with _ for -")
    for name in names:
        choice = CHOICES[name]
        default = "" if base is None else f" (default: {choice.text(base.value(name))})"
        option, words = f"--{name.replace('_', '-')}", f"{choice.meaning}{default}"
        match choice:
            case OneOf():
                group.add_argument(option, choices=choice.words, help=words)
            case Switch():
                group.add_argument(option, action=argparse.BooleanOptionalAction, default=None, help=words)
            case Several():
                group.add_argument(option, type=_several(choice), metavar="LIST", help=f"{words}; `none`, or A,B,...")


def add_uplinks(parser: Parser) -> None:
    """`--uplink`, which host placement alone has."""
    words = "an interface of the router that leads elsewhere (host placement); may be given again"
    parser.add_argument("--uplink", action="append", default=[], metavar="IF", type=_uplink, help=words)


def uplinks_of(parser: Parser, arguments: argparse.Namespace) -> tuple[str, ...]:
    """Those that were given; a usage error if there is no router that could have them."""
    if arguments.uplink and choices_of(arguments).placement is not Placement.HOST:
        parser.error("--uplink needs --placement host: without it there is no router")
    return tuple(arguments.uplink)


def _uplink(text: str) -> str:
    """One that ends in * stands for all that begin so."""
    if not IFNAME.fullmatch(text.removesuffix("*")):
        expected = "a name is 1 to 15 letters, digits and any of _ . -, and may end in *"
        raise argparse.ArgumentTypeError(f"{text!r} is no interface's name that rules can have: {expected}")
    return text


def _several(choice: Several) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        entries = [] if text == "none" else text.split(",")
        if choice.read(entries) is None:
            raise argparse.ArgumentTypeError(f"{text!r} is not {choice.expected}, with commas between, or `none`")
        return entries

    return read


def chosen(arguments: argparse.Namespace) -> dict[str, object]:
    """The choices that were given, by name."""
    given = {name: getattr(arguments, name, None) for name in CHOICES}
    return {name: CHOICES[name].read(value) for name, value in given.items() if value is not None}


def choices_of(arguments: argparse.Namespace, base: Choices = ON_HOSTS) -> Choices:
    """All choices: those that were given, and for the others what holds without."""
    return base.over(chosen(arguments))


def say_choices(choices: Choices, base: Choices = ON_HOSTS) -> None:
    """A line for people that says how a state was judged, if not as usual: else nothing."""
    unlike = tuple(choices.unlike(base))
    if unlike:
        say(f"chosen: {', '.join(unlike)}")

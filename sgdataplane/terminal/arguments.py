"""What verbs are built from: the parser, the arguments that several verbs share, and the check for root.

Owns how each of these arguments is described, read and refused. Takes texts and parsers. Must not know any verb.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeAlias, TypeVar

from sgdataplane.errors import LabError, PrivilegeError
from sgdataplane.model.choices import CHOICES, ON_HOSTS, Choices, Number, OneOf, Several, Switch
from sgdataplane.net.ports import Port, Traffic, parse_port
from sgdataplane.net.values import IFNAME, Address, PortRange, Prefix, Protocol
from sgdataplane.terminal.anywhere import require_linux
from sgdataplane.terminal.output import COLOUR_CHOICES, Exit, complain, say, say_aside, time_now

if TYPE_CHECKING:
    from sgdataplane.statefile import Loaded, Memory

T = TypeVar("T")
ENI_HELP = "an ENI's id; or the id or name of an instance that has one ENI"
NODE_HELP = "an instance's id or name, an external host, an ENI or an address"
STATE_HELP = (
    "VPCs, groups, rules and ENIs, native or as the cloud's answers: a file, folder, pipe or - (standard input); "
    "may be left out if SGDP_STATE names one"
)
PORT_HELP = "destination port of TCP or UDP: 22, ssh, or tcp/22, which names the protocol, too"
PROTOCOL_HELP = "tcp, udp, icmp, icmpv6, gre or a protocol number"
CONFIG_HELP = "the agent's configuration (default: /etc/sgdataplane/agent.toml)"
Run: TypeAlias = Callable[[argparse.Namespace], int]


def reading(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return the type of an argument that `parse` reads; its ValueError becomes a usage error."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def read_for(arguments: argparse.Namespace, parse: Callable[[], T]) -> T:
    """Return what `parse` returns; its LabError or ValueError becomes a usage error."""
    try:
        return parse()
    except (LabError, ValueError) as error:
        parser: Parser = arguments.parser
        parser.error(str(error))


# types of one argument

_read_port = reading(parse_port)
_read_protocol = reading(Protocol.parse)
read_address = reading(Address.parse)


def read_prefix(text: str) -> Prefix:
    """Read an address or CIDR block."""
    try:
        return Prefix.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address or CIDR block ({error})") from error


def read_limit(text: str, most: int | None = None) -> int:
    """Read a number of things, from 1 to `most`."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= (most or int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 {f'to {most}' if most else 'up'}")
    return int(text)


def read_seconds(most: float) -> Callable[[str], float]:
    """Return the type of a time in seconds, above 0 and up to `most`."""

    def read(text: str) -> float:
        found = _number(text)
        if not 0 < found <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, above 0 and up to {most:,.0f}")
        return found

    return read


def read_factor(text: str) -> float:
    """Read a factor above 0."""
    found = _number(text)
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _place(text: str) -> Path:
    from sgdataplane.statefile.source import STDIN

    return STDIN if text == "-" else Path(text)


def usual_state() -> Path | None:
    """Return the state that is meant where the user names none: that in SGDP_STATE, or None."""
    named = os.environ.get("SGDP_STATE")
    return _place(named) if named else None


def usual_lab() -> str | None:
    """Return the lab that is meant where the user names none: that in SGDP_LAB, or None."""
    return os.environ.get("SGDP_LAB") or None


def _uplink(text: str) -> str:
    """Read an interface's name; a * at its end stands for any ending."""
    if not IFNAME.fullmatch(text.removesuffix("*")):
        expected = "a name is 1 to 15 letters, digits and any of _ . -, and may end in *"
        raise argparse.ArgumentTypeError(f"{text!r} is not an interface name that a rule can have: {expected}")
    return text


def _several(choice: Several) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        entries = [] if text == "none" else text.split(",")
        if choice.read(entries) is None:
            raise argparse.ArgumentTypeError(f"{text!r} is not {choice.expected}, separated by commas, or `none`")
        return entries

    return read


def _make_bounded(choice: Number) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
        if choice.read(number) is None:
            raise argparse.ArgumentTypeError(f"{text!r} is not {choice.expected}")
        return number

    return read


# the parser


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return "; did you mean this one?" if a known word is like this one; else ""."""
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose verbs all take --debug and --color, too, so that users can add these at the end."""

    def __init__(self, *, add_help: bool = True, **kwargs: object) -> None:
        super().__init__(add_help=add_help, allow_abbrev=False, **kwargs)  # type: ignore[arg-type]
        self.color = False  # from Python 3.14 on; these wouldn't be our colours (output.py)
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks of errors")
        words = "colours: auto (default: on a terminal, unless NO_COLOR is set), always or never"
        self.add_argument("--color", choices=COLOUR_CHOICES, default=argparse.SUPPRESS, metavar="WHEN", help=words)

    def parse_args(  # type: ignore[override]  # argparse's takes namespaces of any class
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse as argparse does, but refuse an unknown option with the nearest known one."""
        found, extras = self.parse_known_args(args, namespace)
        if extras and not getattr(found, "takes_anything", False):
            parser: Parser = getattr(found, "parser", self)
            unknown = next((word for word in extras if word.startswith("-")), extras[0])
            known = [option for action in parser._actions for option in action.option_strings]
            parser.error(f"unrecognized arguments: {' '.join(extras)}{did_you_mean(unknown.partition('=')[0], known)}")
        return found

    def error(self, message: str) -> NoReturn:
        """Exit with what is wrong and which command shows help.

        The whole usage before that would hide what is wrong.
        """
        complain(message)
        say_aside(f"help:  {self.prog} --help")
        self.exit(Exit.USAGE)

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """Check as argparse does, and name the nearest choice."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += did_you_mean(str(value), list(map(str, action.choices or ())))
            raise

    def add_json(self, where: str, group: argparse._ActionsContainer | None = None) -> None:
        """Add `--json`, to a group if one is given; `where` names the page that describes its keys."""
        (group or self).add_argument("--json", action="store_true", help=f"print JSON ({where})")

    def add_state(
        self,
        name: str = "state",
        words: str = STATE_HELP,
        *,
        metavar: str = "STATE",
        nargs: str | None = None,
        group: argparse._ActionsContainer | None = None,
    ) -> None:
        """Add an argument or option that takes a state, to a group if one is given.

        The argument `state` may be left out if the environment names one.
        """
        usual = usual_state() if name == "state" else None
        nargs = "?" if usual else nargs
        (group or self).add_argument(name, type=_place, default=usual, metavar=metavar, nargs=nargs, help=words)

    def add_flow(self, *, port: str = PORT_HELP, source_port: str = "") -> None:
        """Add `--protocol`, `--port` and, if it has a help text, `--source-port`.

        `port` and `source_port` are the help texts.
        """
        self.add_argument("--protocol", type=_read_protocol, metavar="P", help=PROTOCOL_HELP)
        self.add_argument("--port", type=_read_port, metavar="N", help=port)
        if source_port:
            self.add_argument("--source-port", type=_read_port, metavar="N", help=source_port)

    def add_where(
        self, default: str = "that in SGDP_LAB, or what is attached on this host; if nothing is, the lab named lab"
    ) -> None:
        """Add `--name` and `--config`, which say where a verb looks (scopes.py)."""
        where = self.add_mutually_exclusive_group()
        where.add_argument("--name", metavar="N", help=f"look into the lab of this name (default: {default})")
        where.add_argument("--config", type=Path, metavar="FILE", help=CONFIG_HELP)

    def add_config(self, words: str = CONFIG_HELP) -> None:
        """Add `--config`."""
        self.add_argument("--config", type=Path, metavar="FILE", help=words)

    def add_bindings(self) -> None:
        """Add `--bindings`."""
        words = "where attached ENIs are recorded (default: /run/sgdataplane/attached)"
        self.add_argument("--bindings", type=Path, metavar="DIR", help=words)

    def add_uplinks(self) -> None:
        """Add `--uplink`, for host placement."""
        words = "with host placement: a router's interface to other networks, eth0 or wg*; can be repeated"
        self.add_argument("--uplink", action="append", default=[], metavar="IF", type=_uplink, help=words)

    def add_choices(self, names: Iterable[str], base: Choices | None = ON_HOSTS) -> None:
        """Add an option for each of these choices.

        `base` has the values of options that aren't given (`choices_of`). If it is None, no default is shown, because
        it depends.
        """
        group = self.add_argument_group("policy options", "each is also a key of agent.toml, with _ instead of -")
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
                    words += "; A,B,... or `none`"
                    group.add_argument(option, type=_several(choice), metavar="LIST", help=words)
                case Number():
                    group.add_argument(option, type=_make_bounded(choice), metavar="N", help=words)


class Summary(NamedTuple):
    """What a list of verbs says of one."""

    what: str
    """What it does."""
    example: str = ""
    """A command line."""


@dataclass(frozen=True, slots=True)
class Verbs:
    """Verbs of a parser."""

    subparsers: argparse._SubParsersAction[Parser]  # it has no other name
    """What add_subparsers() returned."""
    summaries: Mapping[str, Summary]
    """What lists say of each verb, by its name."""

    def add(self, name: str, run: Run | None, *more: str) -> Parser:
        """Add a verb and return its parser.

        The sentences in `more` are in the verb's own help only. `run` is None for a verb that has verbs of its own.
        """
        what, example = self.summaries[name]
        description = " ".join((f"{what[0].upper()}{what[1:]}.", *more))
        epilog = f"example: {example}" if example else None
        parser = self.subparsers.add_parser(name, help=what, description=description, epilog=epilog)
        parser.set_defaults(run=run, parser=parser, verb=parser.prog.removeprefix("sgdp "))
        return parser

    @classmethod
    def below(cls, parser: Parser, summaries: Mapping[str, Summary], *, are_needed: bool = True) -> Verbs:
        """Return the verbs below a verb; `are_needed` says that it does nothing by itself."""
        made = parser.add_subparsers(title="commands", metavar="ACTION", required=are_needed, parser_class=Parser)
        return cls(made, summaries)

    def list(self) -> None:
        """Add all verbs without any arguments."""
        for name, summary in self.summaries.items():
            self.subparsers.add_parser(name, help=summary.what)


def require_root(what: str) -> None:
    """Raise a PrivilegeError unless this process is root; `what` needs root ("a lab").

    The error has the command that would work.
    """
    require_linux()
    if os.geteuid() != 0:
        raise PrivilegeError(f"root ({what})", "sudo " + shlex.join(["sgdp", *sys.argv[1:]]))


# what the arguments mean


def flow_of(arguments: argparse.Namespace) -> Traffic:
    """Return the one flow that the arguments of `add_flow` name.

    A flow that isn't complete, or whose ports don't fit the protocol, is a usage error.
    """
    parser: Parser = arguments.parser
    if arguments.protocol is not None and arguments.protocol.is_all:
        parser.error("--protocol all: a packet has one protocol; name it")
    settle_ports(arguments)
    asked: Protocol | None = arguments.protocol
    if asked is None:
        parser.error("--protocol is needed, unless --port names it: --port tcp/22")
    if asked.has_ports and arguments.port is None:
        parser.error(f"--port is needed with {asked}")
    return Traffic(asked, None if arguments.port is None else PortRange(arguments.port, arguments.port))


def settle_ports(arguments: argparse.Namespace) -> None:
    """Replace `--port` and `--source-port`, if given, by numbers.

    A protocol in one of them (tcp/22), or that of a service which has just one (ssh), sets `--protocol`. It is a usage
    error if `--protocol` contradicts that, or has no ports.
    """
    parser: Parser = arguments.parser
    for option, key in (("--port", "port"), ("--source-port", "source_port")):
        port: Port | None = getattr(arguments, key, None)
        if port is None:
            continue
        protocol: Protocol | None = arguments.protocol or port.protocol or port.usual
        if protocol is not None and not protocol.has_ports:
            parser.error(f"{option}: {protocol} has no ports")
        if port.protocol not in (None, protocol):
            parser.error(f"{option} {port} is {port.protocol}, but {protocol} is asked for, too; leave one out")
        arguments.protocol = protocol
        setattr(arguments, key, port.number)


def load_state(
    path: Path, profile: str, memory: Memory | None = None, inexact: str = "import", *, is_as_written: bool = False
) -> Loaded:
    """Load the state, waiting for the writer of a pipe.

    ENIs whose audit is over are in mode enforce, unless the state is wanted as it is written. `inexact` is what a
    verb's option of that name says.

    Raises:
        StateFileError: has everything that is wrong with the state.
    """
    from sgdataplane.statefile import load

    loaded = load(path, profile=profile, inexact=inexact, memory=memory, waits=True)
    return loaded if is_as_written else replace(loaded, state=loaded.state.at(time_now()))


def refuse_twice(arguments: argparse.Namespace, *paths: Path | None) -> None:
    """Refuse as a usage error that several paths are standard input, which can be read only once."""
    from sgdataplane.statefile.source import STDIN

    if paths.count(STDIN) > 1:
        arguments.parser.error("- (standard input) can be read only once: give the other one as a file")


def uplinks_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return the uplinks that were given; it is a usage error if no router can have them."""
    if arguments.uplink and not choices_of(arguments).placement.is_outside:
        arguments.parser.error("--uplink needs --placement host: without it there is no router")
    return tuple(arguments.uplink)


def get_choices(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the choices that were given, by name."""
    given = {name: getattr(arguments, name, None) for name in CHOICES}
    return {name: CHOICES[name].read(value) for name, value in given.items() if value is not None}


def choices_of(arguments: argparse.Namespace, base: Choices = ON_HOSTS) -> Choices:
    """Return all choices: those that were given, and `base` for the others."""
    return base.over(get_choices(arguments))


def say_choices(choices: Choices, base: Choices = ON_HOSTS) -> None:
    """Print the choices that differ from `base`, if any do."""
    unlike = tuple(choices.unlike(base))
    if unlike:
        say(f"options: {', '.join(unlike)}")

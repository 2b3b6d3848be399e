"""`sgdp completion`: the script by which a shell completes sgdp's commands, made from the parser.

Owns which arguments complete as files and folders, and the use of shtab, which is imported here alone. Must not know
any other verb: the parser tells of them.
"""

from __future__ import annotations

import argparse
from argparse import Action, ArgumentParser
from collections.abc import Mapping
from pathlib import Path

from sgdataplane.terminal.arguments import Verbs
from sgdataplane.terminal.output import Exit, say_block

SHELLS = ("bash", "zsh", "fish")


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = "Debian's package has installed it already. Here and now: `source <(sgdp completion bash)`."
    parser = verbs.add("completion", run, more)
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    say_block(completion(arguments.shell), end="")
    return Exit.DONE


def completion(shell: str) -> str:
    """Return what `shell` loads. A list of verbs says of each what `sgdp --help` says."""
    import shtab

    from sgdataplane.cli.main import build_parser

    parser = build_parser()
    _prepare(parser)
    found: str = shtab.complete(parser, shell=shell)
    return found


def verbs_of(parser: ArgumentParser) -> Mapping[str, tuple[ArgumentParser, str]]:
    """Return the verbs below a parser, each with what the list of verbs says of it."""
    return {
        listed.dest: (action.choices[listed.dest], listed.help or "")
        for action in actions_of(parser)
        for listed in action._choices_actions  # noqa: SLF001  # argparse has no other way to them
    }


def actions_of(parser: ArgumentParser) -> list[argparse._SubParsersAction[ArgumentParser]]:
    """Return the parser's actions that stand for a list of verbs."""
    actions = parser._actions  # noqa: SLF001
    return [action for action in actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001


def _prepare(parser: ArgumentParser) -> None:
    """Say at each argument of the parser, and of the verbs below, whether it completes as a file or a folder."""
    import shtab

    for verb, summary in verbs_of(parser).values():
        verb.description = summary
        _prepare(verb)
    for action in filter(_reads_a_path, parser._actions):  # noqa: SLF001
        action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]


def _reads_a_path(action: Action) -> bool:
    """Return whether an argument is a path."""
    try:
        return callable(action.type) and isinstance(action.type("x"), Path)
    except (argparse.ArgumentTypeError, TypeError, ValueError):  # whatever argparse takes for a refusal
        return False

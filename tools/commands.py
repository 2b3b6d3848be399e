"""The reference page of all commands, made from the parser.

Owns its layout. Is given nothing: it asks the parser for every verb. Must not know what a verb does.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from itertools import chain

from sgdataplane.cli.main import build_parser

EVERYWHERE = {"help", "debug", "color"}  # of every command: said once, at the top


def parts() -> Iterator[str]:
    """The page's parts below its title."""
    yield (
        "A command that needs root says so. Every command takes `-h`, which prints its help, `--debug`, which shows"
        " tracebacks of errors, and `--color auto|always|never`. A `STATE` is a file, a folder, a pipe or `-`"
        " ([State files](../state.md)). [Exit codes](exit-codes.md) are the same for all commands."
    )
    verbs = list(walk(build_parser(None)))
    yield table(("command", "does"), ((f"[`{p.prog}`](#{anchor(p)})", words) for p, words in verbs))
    for parser, _ in verbs:
        yield from section(parser)


def walk(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """Every verb below this parser, with what the list of verbs says of it."""
    for action in subparsers(parser):
        words = {choice.dest: choice.help or "" for choice in action._get_subactions()}
        for name, child in action.choices.items():
            yield child, words.get(name, "")
            yield from walk(child)


def subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse._SubParsersAction[argparse.ArgumentParser]]:
    return (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def anchor(parser: argparse.ArgumentParser) -> str:
    return parser.prog.replace(" ", "-")


def section(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## {parser.prog}"
    yield clean(parser.description or "")
    yield f"```text\n{synopsis(parser)}\n```"
    rows = [row(parser, action) for action in parser._actions if is_shown(action)]
    if rows:
        yield table(("argument", "means"), rows)
    if parser.epilog:
        yield clean(parser.epilog.replace("example: ", "Example: `", 1)) + "`"


def is_shown(action: argparse.Action) -> bool:
    is_verb = isinstance(action, argparse._SubParsersAction)
    return not is_verb and action.dest not in EVERYWHERE and action.help != argparse.SUPPRESS


def synopsis(parser: argparse.ArgumentParser) -> str:
    """In a form that doesn't depend on argparse's version."""
    shown = [action for action in parser._actions if is_shown(action)]
    verbs = ("ACTION ..." if action.required else "[ACTION ...]" for action in subparsers(parser))
    needed = (f"{action.option_strings[-1]} {value(action)}" for action in shown if is_needed(action))
    optional = ["[OPTION...]"] if any(a.option_strings and not a.required for a in shown) else []
    places = (place(action) for action in shown if not action.option_strings)
    return " ".join(chain([parser.prog], needed, optional, places, verbs))


def is_needed(action: argparse.Action) -> bool:
    return bool(action.option_strings) and action.required


def place(action: argparse.Action) -> str:
    match action.nargs:
        case None:
            return value(action)
        case "?":
            return f"[{value(action)}]"
        case "*" | argparse.REMAINDER:
            return f"[{value(action)}...]"
        case _:
            return f"{value(action)}..."


def row(parser: argparse.ArgumentParser, action: argparse.Action) -> tuple[str, str]:
    told = clean(parser._get_formatter()._expand_help(action))
    if not action.option_strings:
        return f"`{place(action)}`", told
    takes = f" {value(action)}" if action.nargs != 0 else ""
    return ", ".join(f"`{option}{takes}`" for option in action.option_strings), told


def value(action: argparse.Action) -> str:
    if action.choices and action.metavar is None:
        return "|".join(map(str, action.choices))
    found = action.metavar or action.dest.upper()
    return found if isinstance(found, str) else " ".join(found)


def clean(text: str) -> str:
    """On one line, and without what Markdown would read as markup."""
    return " ".join(text.split()).replace("<", "\\<").replace("*", "\\*")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    return "\n".join(lines((head, ("---",) * len(head), *rows)))


def lines(rows: Iterable[Iterable[str]]) -> Iterator[str]:
    for each in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in each)} |"

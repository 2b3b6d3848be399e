"""`sgdp compile`: the rules that would be loaded; touches nothing.

Owns the arguments and the wording. Must not decide anything itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from pprint import pformat

from sgdataplane.cli.inexact import add_inexact, load_as_asked
from sgdataplane.enforce import Desired, Settings, build
from sgdataplane.enforce.preview import NamespaceRules, as_text, namespaces, tables
from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.model import words
from sgdataplane.model.choices import JUDGING, ON_HOSTS
from sgdataplane.model.decision import RULE
from sgdataplane.model.state import GroupRef, PrefixListRef
from sgdataplane.model.words import pluralize
from sgdataplane.net.ranges import Ranges
from sgdataplane.net.values import Direction
from sgdataplane.nft.ir import Table
from sgdataplane.policy.dimensions import FURTHER
from sgdataplane.policy.resolve import HostPolicy, Permission, RemoteAddresses, resolve
from sgdataplane.terminal.arguments import ENI_HELP, Verbs, choices_of, uplinks_of
from sgdataplane.terminal.files import write_folder
from sgdataplane.terminal.output import Exit, one_line, render_table, say, say_aside, say_block

HEADERS = ("PRIORITY", "VERDICT", "PROTOCOL", "PORTS", "REMOTE", "RULE")


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = "The same state always gives the same text. Touches nothing."
    parser = verbs.add("compile", run, more)
    parser.add_state()
    parser.add_argument("--eni", metavar="ENI", help=f"only the namespace of this ENI (default: all): {ENI_HELP}")
    words = "what to print: permissions in words (policy), the compiler's values (ir), or nftables text (default: text)"
    parser.add_argument("--stage", choices=STAGES, default="text", help=words)
    words = "prove, for every packet, that the rules do what the state says; refuse them if not"
    parser.add_argument("--prove", action="store_true", help=words)
    words = "write a file for each namespace into a new or empty folder; nft loads each of the texts"
    parser.add_argument("-o", dest="output", type=Path, metavar="FOLDER", help=words)
    parser.add_uplinks()
    add_inexact(parser)
    parser.add_choices(("placement", *JUDGING, "sessions_per_eni"))


def run(arguments: argparse.Namespace) -> int:
    """Print each namespace's rules at the given stage, or write a file for each.

    With --prove, only rules that are proven right count. The proof is reported on stderr, so that stdout stays the same
    and loads as it is.
    """
    choices, uplinks = choices_of(arguments), uplinks_of(arguments)
    state = load_as_asked(arguments, arguments.state, is_as_written=True).state
    unlike = ", ".join(choices.unlike(replace(ON_HOSTS, placement=choices.placement)))
    found = namespaces(state, arguments.eni, choices.placement)
    if arguments.output is None and arguments.stage == "text":
        refuse_several(found)
    files: dict[str, str] = {}
    for each in found:
        desired = Desired(state, each.interfaces, choices.options, choices.placement, uplinks)
        text = permissions(desired) if arguments.stage == "policy" else ""
        if arguments.prove or not text:
            proven = build(desired, Settings(prove=arguments.prove))
            if proven.proof is not None:
                say_aside(f"{each.title}: {proven.proof}")
            text = text or TABLES[arguments.stage](tables(proven))
        comment = "" if arguments.stage == "policy" else "# "  # that one is for people alone
        head = one_line(f"{comment}{each.title}" + (f"; options: {unlike}" if unlike else ""))
        if arguments.output is None:
            say_block(f"{head}\n{text}", end="")
        files[f"{each.name}.{SUFFIXES[arguments.stage]}"] = f"{head}\n{text}"
    if arguments.output is not None:
        write_folder(files, arguments.output)
        say(f"{arguments.output}: {pluralize(len(files), 'file')}")
    return Exit.DONE


def refuse_several(found: Sequence[NamespaceRules]) -> None:
    """Raise StateFileError for rules of several namespaces in one text: nft would load them all into one."""
    if len(found) > 1:
        named = ", ".join(each.name for each in found[:3]) + (", ..." if len(found) > 3 else "")
        message = "one text can't be loaded into several namespaces"
        expected = "--eni ENI for the namespace of one, -o FOLDER for a file for each, or --stage policy for a list"
        problem = Problem(Where(), "InvalidTarget.SeveralNamespaces", message, f"{len(found)}: {named}", expected)
        raise StateFileError((problem,))


def permissions(desired: Desired) -> str:
    """Return the permissions of each ENI, strongest first, with the number of addresses that each remote has."""
    policy = resolve(desired.state, desired.interfaces, desired.options)
    return "".join(
        f"{eni.eni_id} {direction.value}\n"
        + render_table(HEADERS, rows_of(policy, policy.profiles[eni.profile].permissions(direction)), indent=2)
        + "\n"
        for eni in policy.enis
        for direction in Direction
    )


def rows_of(policy: HostPolicy, permissions: Iterable[Permission]) -> Iterator[tuple[str, ...]]:
    """Return a row for each permission, with the cells of HEADERS."""
    return (_cells(policy, permission) for permission in permissions)


def _cells(policy: HostPolicy, permission: Permission) -> tuple[str, ...]:
    decision = permission.decision
    return (
        str(decision.priority) if decision.cause == RULE else "",
        decision.verdict.value,
        str(permission.protocol),
        _ports(permission),
        _remote(policy, permission),
        words.name(decision) if decision.cause == RULE else decision.cause,
    )


def _ports(permission: Permission) -> str:
    """Return the ports, and what else the permission looks at (FURTHER)."""
    asked = ((each, each.of_either(permission)) for each in FURTHER)
    further = (each.phrase.format(_ranges(ranges)) for each, ranges in asked if ranges is not None)
    return " ".join((_ranges(permission.ports), *further))


def _ranges(ranges: Ranges | None) -> str:
    if ranges is None:
        return "any"
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges) or "none"


def _remote(policy: HostPolicy, permission: Permission) -> str:
    remote = permission.remote
    narrowing = "" if permission.narrowing is None else f" at {permission.narrowing}"
    match remote:
        case None:
            return f"any{narrowing}"
        case GroupRef(name) | PrefixListRef(name):
            return f"{name} ({_count(policy.remotes[remote].values())}){narrowing}"
        case _:
            return f"{remote}{narrowing}"


def _count(found: Collection[RemoteAddresses]) -> str:
    """Say how many addresses and prefixes a group or prefix list stands for."""
    addresses = sum(len(one.singles) for one in found)
    prefixes = sum(len(one.ranges) for one in found)
    parts = [pluralize(addresses, "address", "es")] if addresses else []
    parts += [pluralize(prefixes, "prefix", "es")] if prefixes else []
    return ", ".join(parts) or "nobody"


def as_values(tables: Iterable[Table]) -> str:
    """Return the compiler's own values, as Python writes them."""
    return "".join(pformat(table, width=120) + "\n" for table in tables)


TABLES = {"ir": as_values, "text": as_text}
SUFFIXES = {"policy": "txt", "ir": "txt", "text": "nft"}
STAGES = ("policy", *TABLES)

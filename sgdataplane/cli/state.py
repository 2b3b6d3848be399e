"""`sgdp check`, `import` and `export`: a state's files looked at, read from elsewhere, and written for elsewhere.

Is given arguments; asks statefile and policy, and prints. Must not judge or convert anything itself.
"""

from __future__ import annotations

import argparse
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from sgdataplane.cli.arguments import add_choices, add_state, choices_of, load_state, say_choices
from sgdataplane.cli.command import Exit, Subparsers
from sgdataplane.cli.output import complain, paint, print_json, say, say_aside, say_block
from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.model.choices import JUDGING

if TYPE_CHECKING:
    from sgdataplane.model.choices import Choices
    from sgdataplane.model.state import CloudState
    from sgdataplane.policy.findings import Finding
    from sgdataplane.statefile import Loaded

COLOURS = {"high": "red", "warning": "yellow", "info": "dim"}


def register(subparsers: Subparsers) -> None:
    """Add the three verbs."""
    add_check(subparsers)
    add_import(subparsers)
    add_export(subparsers)


def add_check(subparsers: Subparsers) -> None:
    help_text = "load a state, validate it, and say what is odd about it; touches nothing"
    parser = subparsers.add_parser("check", help=help_text, description=help_text)
    add_state(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.add_argument("--strict", action="store_true", help="exit 1 if there are findings")
    add_choices(parser, JUDGING)
    parser.set_defaults(run=check)


def add_import(subparsers: Subparsers) -> None:
    help_text = "turn the cloud's answers or a Terraform state into a native state"
    parser = subparsers.add_parser("import", help=help_text, description=help_text)
    words = "a folder of the cloud's answers, *.tfstate, a pipe or - (standard input)"
    add_state(parser, "source", words, metavar="SOURCE")
    parser.add_argument("-o", dest="output", metavar="FILE", type=Path, help="write there instead of to stdout")
    parser.add_argument("--from", dest="kind", choices=("auto", "ecs", "terraform"), default="auto")
    add_choices(parser, ("profile",))
    parser.set_defaults(run=import_state)


def add_export(subparsers: Subparsers) -> None:
    help_text = "write a state as the cloud's answers, or as a native state"
    parser = subparsers.add_parser("export", help=help_text, description=help_text)
    add_state(parser)
    parser.add_argument("--to", dest="kind", choices=("ecs", "native"), required=True)
    parser.add_argument("-o", dest="output", metavar="PATH", type=Path, help="folder (ecs) or file (native)")
    add_choices(parser, ("profile",))
    parser.set_defaults(run=export_state, parser=parser)


def check(arguments: argparse.Namespace) -> int:
    choices = choices_of(arguments)
    try:
        loaded = load_state(arguments.state, choices.profile)
    except StateFileError as error:
        if arguments.json:
            print_json({"ok": False, "errors": [as_error(problem) for problem in error.problems], "findings": []})
        else:
            complain(error)
        return Exit.NO  # to other verbs such a state can't be used; whether it can is what this one was asked
    findings = findings_of(loaded, choices)
    if arguments.json:
        print_json({"ok": True, "errors": [], "findings": [as_finding(finding) for finding in findings]})
    else:
        say(summary(loaded.state))
        say_choices(choices)
        print_findings(findings)
    return Exit.NO if findings and arguments.strict else Exit.DONE


def findings_of(loaded: Loaded, choices: Choices) -> tuple[Finding, ...]:
    """All that is odd about a state: what was seen while it was read, its rules, its quotas."""
    from sgdataplane.analyse.review import review
    from sgdataplane.statefile import near_quotas

    return (
        *loaded.findings,
        *review(loaded.state, options=choices.options),
        *near_quotas(loaded.state, choices.profile),
    )


def as_error(problem: Problem) -> dict[str, object]:
    """A problem under the keys of `check --json`, with the value and what would be right in its message."""
    where = {"file": problem.where.file, "line": problem.where.line, "pointer": problem.where.pointer}
    value = f": {problem.value}" if problem.value else ""
    expected = f"; expected {problem.expected}" if problem.expected else ""
    return {"code": problem.code, "message": problem.message + value + expected, "where": where}


def as_finding(finding: Finding) -> dict[str, object]:
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "message": finding.message,
        "advice": finding.advice,
        "subject": dict(finding.subject),
    }


def summary(state: CloudState) -> str:
    counts = (
        (len(state.vpcs), "VPC"),
        (len(state.security_groups), "security group"),
        (sum(len(group.rules) for group in state.security_groups), "rule"),
        (len(state.instances), "instance"),
        (len(state.network_interfaces), "ENI"),
    )
    return paint("ok", "green") + ": " + ", ".join(f"{count} {name}{'s' * (count != 1)}" for count, name in counts)


def print_findings(findings: tuple[Finding, ...]) -> None:
    """One line each, the gravest first; after those of one code what to do about them."""
    order = list(COLOURS)
    rows = sorted(findings, key=lambda finding: (order.index(finding.severity.value), finding.code))
    width = max((len(finding.code) for finding in rows), default=0)
    for (severity, code), alike in groupby(rows, key=lambda finding: (finding.severity.value, finding.code)):
        for finding in alike:
            about = " ".join(value for _, value in finding.subject)
            text = f"{about}: {finding.message}" if about else finding.message
            say(f"{paint(f'{severity:7}', COLOURS[severity])}  {code:{width}}  {text}")
        say(f"{'':9}{'':{width}}  {paint(f'-> {finding.advice}', 'dim')}")


def import_state(arguments: argparse.Namespace) -> int:
    from sgdataplane.statefile import dump_native, load_terraform

    profile = choices_of(arguments).profile
    is_terraform = arguments.kind == "terraform" or (arguments.kind == "auto" and arguments.source.suffix == ".tfstate")
    if is_terraform:
        loaded = load_terraform(arguments.source, profile=profile, waits=True)
    else:
        loaded = load_state(arguments.source, profile)
    for finding in loaded.findings:
        say_aside(f"note: {finding.message}")
    put(dump_native(loaded.state), arguments.output)
    return Exit.DONE


def export_state(arguments: argparse.Namespace) -> int:
    from sgdataplane.statefile import dump_ecs, dump_native

    if arguments.kind == "ecs" and arguments.output is None:
        arguments.parser.error("--to ecs writes a folder of files: say which with -o")
    state = load_state(arguments.state, choices_of(arguments).profile).state
    if arguments.kind == "native":
        put(dump_native(state), arguments.output)
    else:
        put_folder(dump_ecs(state), arguments.output)
    return Exit.DONE


def put(text: str, output: Path | None) -> None:
    """To the file, or to stdout."""
    if output is None:
        say_block(text, end="")
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise refusal(output, error.strerror or str(error)) from error


def put_folder(files: dict[str, str], folder: Path) -> None:
    """To a new or empty folder: an older answer left there would be read as part of this state."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise refusal(folder, "the folder isn't empty")
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise refusal(folder, error.strerror or str(error)) from error


def refusal(output: Path, message: str) -> StateFileError:
    where, expected = Where(str(output)), "a place that can be written to"
    return StateFileError((Problem(where, "InvalidTarget.NotWritable", message.lower(), expected=expected),))

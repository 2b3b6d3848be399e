"""`sgdp check`, `schema`, `import` and `export`: they check, describe or convert a state.

Owns the arguments and the wording. Must not judge or convert anything itself.
"""

from __future__ import annotations

import argparse
from importlib import resources
from itertools import groupby
from pathlib import Path

from sgdataplane.analyse.review import review
from sgdataplane.cli.inexact import add_inexact, load_as_asked
from sgdataplane.cli.sarif import as_sarif, report_refusal
from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.model.choices import JUDGING, Choices
from sgdataplane.model.state import CloudState
from sgdataplane.model.words import pluralize
from sgdataplane.policy.findings import Finding
from sgdataplane.statefile import Loaded, dump_ecs, dump_native, load_placed, near_quotas
from sgdataplane.statefile.addressed import with_addresses
from sgdataplane.terminal.arguments import Verbs, choices_of, say_choices
from sgdataplane.terminal.files import write, write_folder
from sgdataplane.terminal.output import Exit, complain, paint, print_json, say, say_aside, say_block, say_hanging

SCHEMAS, SUFFIX = resources.files("sgdataplane") / "schemas", ".schema.json"
ORIGINS = ("ecs", "terraform", "aws", "openstack", "native")
COLOURS = {"high": "red", "warning": "yellow", "info": "dim"}  # the gravest first


def register(verbs: Verbs) -> None:
    """Add the verbs."""
    add_check(verbs)
    add_schema(verbs)
    add_import(verbs)
    add_export(verbs)


def add_check(verbs: Verbs) -> None:
    """Add `check`."""
    more = "Touches nothing. The exit code is 1 if the state is refused. As a gate, use `--fail-on high`."
    parser = verbs.add("check", check, more)
    parser.add_state()
    form = parser.add_mutually_exclusive_group()
    parser.add_json("sgdataplane/schemas/check.schema.json", form)
    form.add_argument("--sarif", action="store_true", help="print SARIF 2.1.0, for code scanning")
    help_text = "exit code 1 also if there are findings of this severity or a higher one: info, warning or high"
    parser.add_argument("--fail-on", choices=tuple(reversed(COLOURS)), metavar="SEVERITY", help=help_text)
    parser.add_argument("--strict", action="store_true", help="the same as --fail-on info")
    add_inexact(parser)
    parser.add_choices(JUDGING)


def add_schema(verbs: Verbs) -> None:
    """Add `schema`."""
    more = "Editors check and complete state files with it. Other names: what a command prints with --json."
    parser = verbs.add("schema", print_schema, more)
    words = "what to describe (default: state)"
    parser.add_argument("name", nargs="?", choices=schemas(), default="state", metavar="NAME", help=words)


def schemas() -> tuple[str, ...]:
    """Return the names of the schemas that the package has."""
    files = (file.name for file in SCHEMAS.iterdir())
    return tuple(sorted(name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX)))


def add_import(verbs: Verbs) -> None:
    """Add `import`."""
    parser = verbs.add("import", import_state)
    words = "a folder of the cloud's answers, a Terraform state or plan, a pipe or - (standard input)"
    parser.add_state("source", words, metavar="SOURCE")
    words = f"refuse a source of another cloud or format than this one: {', '.join(ORIGINS)} (default: take any)"
    parser.add_argument("--from", dest="origin", choices=ORIGINS, metavar="FORMAT", help=words)
    parser.add_argument("-o", dest="output", metavar="FILE", type=Path, help="write to FILE instead of stdout")
    add_inexact(parser)
    parser.add_choices(("profile",))


def add_export(verbs: Verbs) -> None:
    """Add `export`."""
    parser = verbs.add("export", export_state)
    parser.add_state()
    words = "the cloud's answers (ecs), or the native format"
    parser.add_argument("--to", dest="kind", choices=("ecs", "native"), required=True, help=words)
    words = "a new or empty folder (ecs), or a file (native; default: stdout)"
    parser.add_argument("-o", dest="output", metavar="PATH", type=Path, help=words)
    add_inexact(parser)
    parser.add_choices(("profile",))


def check(arguments: argparse.Namespace) -> int:
    """Print whether the state is valid, and findings.

    Exit 1 if it is refused, or has findings that --fail-on or --strict asks about.
    """
    choices = choices_of(arguments)
    try:
        loaded = load_placed(arguments.state, profile=choices.profile, inexact=arguments.inexact)
    except StateFileError as error:
        if arguments.sarif:
            print_json(report_refusal(error.problems))
        elif arguments.json:
            print_json({"ok": False, "errors": [as_error(problem) for problem in error.problems], "findings": []})
        else:
            complain(error)
        return Exit.NO  # other verbs say INPUT; this one was asked whether the state can be used
    findings = findings_of(loaded if arguments.json or arguments.sarif else with_addresses(loaded), choices)
    if arguments.json:
        found = [as_finding(finding) for finding in findings]
        print_json({"ok": True, "errors": [], "findings": found, **loaded.places.as_json()})
    elif arguments.sarif:
        print_json(as_sarif(findings, loaded))
    else:
        say(summary(loaded.state))
        say_choices(choices)
        print_findings(findings)
    least = "info" if arguments.strict else arguments.fail_on
    return Exit.NO if least and any(is_at_least(finding, least) for finding in findings) else Exit.DONE


def is_at_least(finding: Finding, severity: str) -> bool:
    """Return whether a finding is of that severity or a higher one."""
    order = list(COLOURS)
    return order.index(finding.severity.value) <= order.index(severity)


def print_schema(arguments: argparse.Namespace) -> int:
    """Print a schema, as the package has it."""
    say_block((SCHEMAS / f"{arguments.name}{SUFFIX}").read_text(encoding="utf-8"), end="")
    return Exit.DONE


def findings_of(loaded: Loaded, choices: Choices) -> tuple[Finding, ...]:
    """Return everything that is odd about a state: in its files, in its rules, in its quotas."""
    return (
        *loaded.findings,
        *review(loaded.state, options=choices.options, pending=loaded.pending),
        *near_quotas(loaded.state, choices.profile),
    )


def as_error(problem: Problem) -> dict[str, object]:
    """Return a problem with the keys of `check --json`; its message includes the value and what would be right."""
    where = {"file": problem.where.file, "line": problem.where.line, "pointer": problem.where.pointer}
    value = f": {problem.value}" if problem.value else ""
    expected = f"; expected {problem.expected}" if problem.expected else ""
    return {"code": problem.code, "message": problem.message + value + expected, "where": where}


def as_finding(finding: Finding) -> dict[str, object]:
    """Return a finding with the keys of `check --json`."""
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "message": finding.message,
        "advice": finding.advice,
        "subject": dict(finding.subject),
    }


def summary(state: CloudState) -> str:
    """Say that the state is valid, and how much of everything it has."""
    counts = (
        (len(state.vpcs), "VPC"),
        (len(state.security_groups), "security group"),
        (sum(len(group.rules) for group in state.security_groups), "rule"),
        (len(state.instances), "instance"),
        (len(state.network_interfaces), "ENI"),
    )
    return paint("ok", "green") + ": " + ", ".join(pluralize(*count) for count in counts)


def print_findings(findings: tuple[Finding, ...]) -> None:
    """Print a line for each finding, the gravest first, and what to do about it below.

    That is printed once, where it is the same for several in a row.
    """
    order = list(COLOURS)
    rows = sorted(findings, key=lambda finding: (order.index(finding.severity.value), finding.code))
    width = max((len(finding.code) for finding in rows), default=0)
    for advice, group in groupby(rows, key=lambda finding: finding.advice):
        for number, finding in enumerate(group):
            _say_finding(finding, width)
            if not number:
                say_hanging(f"{'':9}{'':{width}}  ", f"-> {advice}", "dim")


def _say_finding(finding: Finding, width: int) -> None:
    severity = finding.severity.value
    text = about_finding(finding)
    say_hanging(f"{paint(f'{severity:7}', COLOURS[severity])}  {finding.code:{width}}  ", text)


def about_finding(finding: Finding) -> str:
    """Return the message, behind the objects that it is about."""
    about = " ".join(value for _, value in finding.subject)
    return f"{about}: {finding.message}" if about else finding.message


def import_state(arguments: argparse.Namespace) -> int:
    """Write the native state; say on stderr what is odd about the source."""
    loaded = load_as_asked(arguments, arguments.source, is_as_written=True)
    if arguments.origin not in (None, loaded.origin):
        message, expected = f"this is of the format {loaded.origin}", f"what --from {arguments.origin} stands for"
        problem = Problem(Where(str(arguments.source)), "InvalidSource.OtherFormat", message, expected=expected)
        raise StateFileError((problem,))
    for finding in loaded.findings:
        say_aside(f"note: {about_finding(finding)}")
    put(dump_native(loaded.state), arguments.output)
    return Exit.DONE


def export_state(arguments: argparse.Namespace) -> int:
    """Write the state in the format that --to names."""
    if arguments.kind == "ecs" and arguments.output is None:
        arguments.parser.error("--to ecs writes a folder of files: name it with -o")
    state = load_as_asked(arguments, arguments.state, is_as_written=True).state
    if arguments.kind == "native":
        put(dump_native(state), arguments.output)
    else:
        write_folder(dump_ecs(state), arguments.output)
    return Exit.DONE


def put(text: str, output: Path | None) -> None:
    """Write to the file, or print."""
    if output is None:
        say_block(text, end="")
    else:
        write(text, output)

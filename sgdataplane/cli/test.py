"""`sgdp test`: it checks expectations against a policy, or with --live against packets.

Owns the arguments, the wording, the JSON keys (sgdataplane/schemas/test.schema.json) and the JUnit file. Must not judge
anything itself.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from sgdataplane.cli.inexact import add_inexact, load_as_asked
from sgdataplane.cli.inforce import state_in_force
from sgdataplane.errors import Problem, StateFileError
from sgdataplane.model.choices import JUDGING, Choices
from sgdataplane.model.words import pluralize
from sgdataplane.terminal.arguments import (
    Parser,
    Verbs,
    choices_of,
    get_choices,
    require_root,
    say_choices,
    usual_state,
)
from sgdataplane.terminal.files import require_writable, write
from sgdataplane.terminal.output import Exit, hanging, paint, print_json, say, say_block
from sgdataplane.visible import visible

if TYPE_CHECKING:
    from sgdataplane.lab.expectations import Judged, Row

OWN_LAB = ""  # what --live without a name stands for


@dataclass(frozen=True, slots=True)
class Tested:
    """One expectation, and what was found about each of its probes."""

    row: Row
    found: tuple[Judged, ...]

    @property
    def mistakes(self) -> tuple[str, ...]:
        """What isn't as the expectation says, a line for each probe."""
        return tuple(f"{each.probe}: {each.mistake}" for each in self.found if each.mistake)


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = (
        "A file has one expectation a line: FROM -> TO WHAT[,WHAT...] accept|drop [RULE], such as "
        "`web -> db tcp/5432 accept`. An end is an instance's name or id, an ENI, or an address. Without --live "
        "nothing is sent and no root is needed. The exit code is 1 if an expectation fails."
    )
    parser = verbs.add("test", run, more)
    parser.add_argument("files", nargs="+", type=Path, metavar="EXPECTATIONS", help="files with expectations")
    parser.add_state("--state", "the state that is judged; with --live LAB it is that lab's own")
    live = "send packets (root): in the running lab LAB, or in one that is built for this from --state, and removed"
    parser.add_argument("--live", nargs="?", const=OWN_LAB, metavar="LAB", help=live)
    parser.add_argument("--junit", type=Path, metavar="FILE", help="also write the results as JUnit XML")
    parser.add_json("sgdataplane/schemas/test.schema.json")
    add_inexact(parser)
    parser.add_choices(("placement", *JUDGING))


def run(arguments: argparse.Namespace) -> int:
    """Print the expectations that fail, each with the reason. Exit 1 if there are any."""
    check_options(arguments)
    if arguments.junit is not None:
        require_writable(arguments.junit)
    choices = choices_of(arguments)
    rows = read_files(arguments.files)
    began = time.monotonic()
    tested = gather(rows, judge(arguments, choices, rows))
    if arguments.junit is not None:
        write(as_junit(tested, time.monotonic() - began), arguments.junit)
    if arguments.json:
        print_json(as_json(tested, choices, is_live=arguments.live is not None))
    else:
        say_choices(choices)
        print_text(tested)
    return Exit.NO if any(each.mistakes for each in tested) else Exit.DONE


def check_options(arguments: argparse.Namespace) -> None:
    """Refuse options that contradict each other with a usage error. PrivilegeError if packets need root."""
    parser: Parser = arguments.parser
    if arguments.live:
        if arguments.state is not None:
            parser.error(f"--live {arguments.live}: that lab has a state already; leave --state out")
        for name in get_choices(arguments):
            option = f"--{name.replace('_', '-')}"
            parser.error(f"--live {arguments.live}: that lab has its own policy options; leave {option} out")
    else:
        arguments.state = arguments.state or usual_state() or state_in_force(arguments)
        if arguments.state is None:
            needed = "--state is needed, unless --live names a running lab, SGDP_STATE a state, or an agent runs here"
            parser.error(needed)
    if arguments.live is not None:
        require_root("test --live")


def read_files(paths: Sequence[Path]) -> tuple[Row, ...]:
    """Return the rows of all files. StateFileError with everything that is wrong in any of them."""
    from sgdataplane.lab.expectations import read_rows

    rows: list[Row] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            rows += read_rows(path)
        except StateFileError as error:
            problems += error.problems
    if problems:
        raise StateFileError(tuple(problems))
    return tuple(rows)


def judge(arguments: argparse.Namespace, choices: Choices, rows: Sequence[Row]) -> list[Judged]:
    """Return what is found about each probe of the rows."""
    from sgdataplane.lab import manage
    from sgdataplane.lab.expectations import judge_by_packets, judge_by_policy, plan_lab, with_hosts_of
    from sgdataplane.lab.temporary import temporary_lab

    if arguments.live:
        with manage.watch(arguments.live) as lab:
            return list(judge_by_packets(lab, rows))
    state = load_as_asked(arguments, arguments.state).state
    record = replace(manage.default_record(f"test{os.getpid()}"), choices=choices)
    record = with_hosts_of(record, state, rows)
    if arguments.live is None:
        return list(judge_by_policy(plan_lab(record, state), rows))
    planned_lab = plan_lab(record, state)
    list(judge_by_policy(planned_lab, rows))  # a row that can't be asked is refused before anything is built
    with temporary_lab(planned_lab.record, state, manage.enforce_policy) as lab:
        return list(judge_by_packets(lab, rows))


def gather(rows: Iterable[Row], judged: Iterable[Judged]) -> list[Tested]:
    """Return the findings by row, in the order of the rows."""
    found: dict[Row, list[Judged]] = {row: [] for row in rows}
    for each in judged:
        found[each.row].append(each)
    return [Tested(row, tuple(of_row)) for row, of_row in found.items()]


# for people


def print_text(tested: Sequence[Tested]) -> None:
    """Print the expectations that fail, and how many hold."""
    failed = [each for each in tested if each.mistakes]
    for each in failed:
        say(f"{paint('fails', 'red')}  {each.row.where}: {each.row.text}")
        for mistake in each.mistakes:
            say_block(hanging("       ", mistake))
    holds = "holds" if len(tested) - len(failed) == 1 else "hold"
    fails = "fails" if len(failed) == 1 else "fail"
    counts = f"{len(tested) - len(failed)} {holds}, {len(failed)} {fails}"
    say(f"{pluralize(len(tested), 'expectation')}: {paint(counts, 'red' if failed else 'green')}")


# for programs


def as_json(tested: Sequence[Tested], choices: Choices, *, is_live: bool) -> dict[str, object]:
    """Return the document of `--json`."""
    return {
        "ok": not any(each.mistakes for each in tested),
        "live": is_live,
        "results": [_result_as_json(each) for each in tested],
        "choices": choices.of_judging(),
    }


def _result_as_json(tested: Tested) -> dict[str, object]:
    where = tested.row.where
    return {
        "file": where.file,
        "line": where.line,
        "expectation": tested.row.text,
        "ok": not tested.mistakes,
        "cells": [_cell_as_json(each) for each in tested.found],
    }


def _cell_as_json(judged: Judged) -> dict[str, object]:
    probe, service = judged.probe, judged.probe.service
    return {
        **judged.expected.decision.as_json(),
        "expected": judged.row.verdict,
        "observed": None if judged.observed is None else judged.observed.verdict,
        "from": probe.source.node,
        "to": probe.target.node,
        "from_address": str(probe.source.address),
        "to_address": str(probe.target.address),
        "service": str(service),
        "where": judged.expected.where or None,
        "ok": judged.is_right,
        "mistake": judged.mistake or None,
    }


def as_junit(tested: Sequence[Tested], seconds: float) -> str:
    """Return the results as JUnit XML, a suite a file, as CI systems read it."""
    root = ET.Element("testsuites", {"name": "sgdp test", "time": f"{seconds:.3f}", **_counts(tested)})
    files = dict.fromkeys(each.row.where.file for each in tested)
    for file in files:
        of_file = [each for each in tested if each.row.where.file == file]
        suite = ET.SubElement(root, "testsuite", {"name": visible(file), **_counts(of_file)})
        for each in of_file:
            about = {"name": visible(each.row.text), "classname": visible(file), "file": visible(file)}
            case = ET.SubElement(suite, "testcase", about | {"line": str(each.row.where.line)})
            if each.mistakes:
                failure = ET.SubElement(case, "failure", message=visible(each.mistakes[0]))
                failure.text = "\n".join(map(visible, each.mistakes))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _counts(tested: Sequence[Tested]) -> dict[str, str]:
    failed = sum(bool(each.mistakes) for each in tested)
    return {"tests": str(len(tested)), "failures": str(failed), "errors": "0", "skipped": "0"}

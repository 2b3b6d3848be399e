"""`sgdp diff`: the traffic whose verdict changes from one state to another; touches nothing.

Owns the arguments, the wording and the JSON keys (sgdataplane/schemas/diff.schema.json). Must not compare anything
itself.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sgdataplane.analyse.diff import EniDiff, Exposure, StateDiff, VerdictChange
from sgdataplane.analyse.document import change_as_json, exposure_as_json
from sgdataplane.cli.arguments import Verbs, choices_of, load_state, refuse_twice, say_choices, usual_state
from sgdataplane.cli.output import Exit, paint, render_table, say, say_aside, say_block
from sgdataplane.cli.progress import Progress
from sgdataplane.errors import Problem, StateFileError
from sgdataplane.model import words
from sgdataplane.model.choices import JUDGING, ON_HOSTS, Choices
from sgdataplane.model.state import CloudState
from sgdataplane.model.words import counted
from sgdataplane.net.values import Direction
from sgdataplane.policy.dimensions import (
    FURTHER,
    LOCAL,
    PORT,
    PORTS,
    PROTOCOL,
    PROTOCOLS,
    REMOTE,
    Dimension,
)
from sgdataplane.statefile import load_plan
from sgdataplane.statefile.memory import Memory
from sgdataplane.visible import json_text, visible

OLD_HELP = "a state as every command takes one; may be left out if SGDP_STATE names it"
NAMED = 3  # ENIs with the same change, before the others are only counted
HEADERS = ("PROTOCOL", "PORTS", "REMOTE", "BEFORE", "AFTER")
COLOURS = {"opens": "green", "closes": "red"}
MOST_MARKDOWN = 60_000  # characters; GitHub takes comments of 65,536


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    more = (
        "The answer is exact: nothing is listed if and only if no packet's verdict changes. If OLD is a Terraform plan "
        "(terraform show -json PLANFILE) and there is no NEW, its planned state is compared with the one before it; "
        "any other single state is NEW, and is compared with the one that SGDP_STATE names. Touches nothing."
    )
    parser = verbs.add("diff", run, more)
    parser.add_state("old", OLD_HELP, metavar="OLD")
    parser.add_state("new", "the state to compare with; it may have another format", metavar="NEW", nargs="?")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown, for a comment on a pull request")
    parser.add_json("sgdataplane/schemas/diff.schema.json", form)
    help_text = "exit code 1 if NEW opens a port to the internet: most public addresses can reach it, and can't in OLD"
    parser.add_argument("--fail-on-open", action="store_true", help=help_text)
    parser.add_choices(JUDGING)


def run(arguments: argparse.Namespace) -> int:
    """Prints the changes. Exit 1 under --fail-on-open if a port opens to the internet."""
    refuse_twice(arguments, arguments.old, arguments.new or usual_state())
    choices = choices_of(arguments)
    diff = StateDiff(*load_both(arguments, choices.profile), choices.options)
    concerned = diff.concerned()
    with Progress("comparing", len(concerned)) as progress:
        found = [one for one in compared(diff, concerned, progress) if one.changes]
    if arguments.json:
        print_document(diff, found, choices)
    elif arguments.markdown:
        say_block(as_markdown(diff, found, tuple(choices.unlike(ON_HOSTS))))
    else:
        say_choices(choices)
        print_text(diff, found)
    is_open = any(one.exposures for one in found)
    return Exit.NO if is_open and arguments.fail_on_open else Exit.DONE


def load_both(arguments: argparse.Namespace, profile: str) -> tuple[CloudState, CloudState]:
    """OLD and NEW, or both states of a plan. StateFileError with everything that is wrong in either. The only one that
    is given is NEW, if the environment names OLD and it isn't a plan."""
    if arguments.new is None:
        before, after = load_plan(arguments.old, profile=profile, waits=True, before=usual_state())
        for finding in after.findings:
            say_aside(f"note: {finding.message}")
        return before.state, after.state
    memory = Memory()
    states: list[CloudState] = []
    problems: list[Problem] = []
    with Progress("loading", 2) as progress:
        for path in (arguments.old, arguments.new):
            try:
                states.append(load_state(path, profile, memory).state)
            except StateFileError as error:
                problems += error.problems
            progress.advance()
    if problems:
        raise StateFileError(tuple(problems))
    return states[0], states[1]


def compared(diff: StateDiff, concerned: Iterable[str], progress: Progress) -> Iterator[EniDiff]:
    for eni_id in concerned:
        yield diff.at(eni_id)
        progress.advance()


def print_document(diff: StateDiff, found: Iterable[EniDiff], choices: Choices) -> None:
    """Prints JSON with one change a line: with indents, 100,000 of them would take seven times as long."""
    changes = [json_text(change_as_json(change)) for one in found for change in one.changes]
    say_block("\n".join(('{"changes": [', ",\n".join(changes), "],")))
    exposures = [exposure_as_json(exposure) for one in found for exposure in one.exposures]
    rest = {"added": diff.added, "removed": diff.removed, "opened_to_internet": exposures}
    rest |= {"choices": choices.of_judging()}
    say(json_text(rest)[1:])


@dataclass(frozen=True, slots=True)
class Section:
    """ENIs with the same changes in one direction. `where`: "only in NEW" or "only in OLD", else empty."""

    direction: Direction
    enis: tuple[str, ...]
    where: str
    rows: tuple[tuple[str, ...], ...]


def sections(diff: StateDiff, found: Sequence[EniDiff]) -> list[Section]:
    presence = dict.fromkeys(diff.added, "only in NEW") | dict.fromkeys(diff.removed, "only in OLD")
    groups: dict[tuple[str, Direction, tuple[tuple[str, ...], ...]], list[str]] = {}
    for one in found:
        for direction in Direction:
            rows = tuple(row_of(change) for change in one.changes if change.direction is direction)
            if rows:
                groups.setdefault((presence.get(one.eni_id, ""), direction, rows), []).append(one.eni_id)
    return [Section(direction, tuple(enis), where, rows) for (where, direction, rows), enis in groups.items()]


def print_text(diff: StateDiff, found: Sequence[EniDiff]) -> None:
    """Prints the changes by ENI and direction; ENIs with the same changes share a table."""
    for each in sections(diff, found):
        title = f"{each.direction.value} of {words.first_of(each.enis, NAMED)}"
        say(paint(title, "bold") + (f" ({each.where})" if each.where else ""))
        rows = [(paint(first, COLOURS[first]), *rest) for first, *rest in each.rows]
        say_block(render_table(("VERDICT", *HEADERS), rows, indent=2))
    if not found:
        say("no traffic changes its verdict")
    for text, enis in exposed(found).items():
        say(f"{paint('opens to the internet:', 'red')} {text}, at {words.first_of(enis, NAMED)}")
    for where, enis in (("only in NEW:", diff.added), ("only in OLD:", diff.removed)):
        if enis:
            say(f"{where} {words.first_of(enis, NAMED)}")
    if found:
        say(summary(found))


def exposed(found: Iterable[EniDiff]) -> dict[str, list[str]]:
    """What opens to the internet, with the ENIs at which it does."""
    texts: dict[str, list[str]] = {}
    for exposure in (exposure for one in found for exposure in one.exposures):
        texts.setdefault(exposed_text(exposure), []).append(exposure.eni_id)
    return texts


def summary(found: Sequence[EniDiff]) -> str:
    changes = [change for one in found for change in one.changes]
    opening = sum(change.is_opening for change in changes)
    changed = f"{counted(len(changes), 'change')} at {counted(len(found), 'ENI')}"
    return f"{changed}: {opening:,} open, {len(changes) - opening:,} close"


def exposed_text(exposure: Exposure) -> str:
    family = exposure.family
    ports = f" {PORTS.short(exposure.ports, family)}" if exposure.ports else ""
    return f"{PROTOCOLS.short(exposure.protocol, family)}{ports} over {family.value}"


def row_of(change: VerdictChange) -> tuple[str, ...]:
    return (
        "opens" if change.is_opening else "closes",
        cell(change, PROTOCOL),
        cell(change, PORT, *FURTHER),
        cell(change, REMOTE, LOCAL),
        words.ranked(change.before),
        words.ranked(change.after),
    )


def cell(change: VerdictChange, first: Dimension, *others: Dimension) -> str:
    """The range in one dimension, and behind it those in others, if they are restricted."""
    behind = (each.phrase.format(text_of(change, each)) for each in others if change.of(each) is not None)
    return " ".join((text_of(change, first), *behind))


def text_of(change: VerdictChange, dimension: Dimension) -> str:
    interval = change.of(dimension)
    return "any" if interval is None else dimension.domain.short(interval, change.family)


# for a comment on a pull request


def as_markdown(diff: StateDiff, found: Sequence[EniDiff], unusual: Sequence[str]) -> str:
    """The same as Markdown: what opens to the internet first, then a table for each group of ENIs. `unusual`: policy
    options that aren't the usual ones, in words."""
    if not found and not diff.added and not diff.removed:
        return "### No traffic changes its verdict"
    blocks = ["### Traffic changes its verdict", summary(found)]
    if unusual:
        blocks.append(f"Options: {escaped(', '.join(unusual))}")
    for text, enis in exposed(found).items():
        blocks.append(f"> [!CAUTION]\n> Opens to the internet: **{escaped(text)}**, at {names_in_code(enis)}")
    for where, enis in (("Only in the new state:", diff.added), ("Only in the old state:", diff.removed)):
        if enis:
            blocks.append(f"{where} {names_in_code(enis)}")
    length, left = sum(map(len, blocks)), 0
    for each in sections(diff, found):
        block = section_as_markdown(each)
        length += len(block)
        if length <= MOST_MARKDOWN:
            blocks.append(block)
        else:
            left += len(each.rows)
    if left:
        blocks.append(f"{counted(left, 'more row')} would make this too long; `sgdp diff` prints them.")
    return "\n\n".join(blocks)


def section_as_markdown(section: Section) -> str:
    where = f" ({section.where})" if section.where else ""
    header = ("VERDICT", *HEADERS)
    lines = [
        f"**{section.direction.value}** of {names_in_code(section.enis)}{where}\n",
        f"| {' | '.join(title.lower() for title in header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(map(escaped, row))} |" for row in section.rows),
    ]
    return "\n".join(lines)


def names_in_code(enis: Sequence[str]) -> str:
    """ENIs' ids, which are letters, digits, dots, dashes and underscores."""
    named = ", ".join(f"`{eni}`" for eni in enis[:NAMED])
    return named if len(enis) <= NAMED else f"{named} and {len(enis) - NAMED:,} more"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!])", r"\\\1", visible(text))

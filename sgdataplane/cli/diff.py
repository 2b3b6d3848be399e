"""`sgdp diff`: the traffic whose verdict changes from one state to another; touches nothing.

Owns the arguments, the wording and the JSON keys (sgdataplane/schemas/diff.schema.json). Must not compare anything
itself.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.difference import Difference, compare
from sgdataplane.analyse.document import difference_as_json
from sgdataplane.analyse.view import Exposure, VerdictChange
from sgdataplane.analyse.wouldopen import place_name, sentences, text_of
from sgdataplane.cli.inexact import add_inexact, load_as_asked
from sgdataplane.errors import Problem, StateFileError
from sgdataplane.model import words
from sgdataplane.model.choices import JUDGING, ON_HOSTS, Choices
from sgdataplane.model.words import pluralize
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
from sgdataplane.policy.findings import KINDS, not_judged
from sgdataplane.statefile import Loaded, load_plan
from sgdataplane.statefile.addressed import with_addresses
from sgdataplane.statefile.memory import Memory
from sgdataplane.statefile.places import Origins
from sgdataplane.terminal.arguments import Verbs, choices_of, refuse_twice, say_choices, usual_state
from sgdataplane.terminal.output import Exit, hanging, paint, render_table, say, say_aside, say_block
from sgdataplane.terminal.progress import Progress
from sgdataplane.visible import json_text, visible

if TYPE_CHECKING:
    from sgdataplane.cli.diffpast import OpenedRows
    from sgdataplane.cli.ending import EndingSessions

OLD_HELP = "a state as every command takes one; may be left out if SGDP_STATE names it"
NAMED = 3  # ENIs with the same change, before the others are only counted
HEADERS = ("PROTOCOL", "PORTS", "REMOTE", "BEFORE", "AFTER")
COLOURS = {"opens": "green", "closes": "red"}
NAMED_BLIND = 20  # in Markdown
MAX_MARKDOWN = 60_000  # characters; GitHub takes comments of 65,536


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = (
        "The answer is exact: nothing is listed if and only if no packet's verdict changes. A group that the change "
        "concerns is also judged as if an ENI of any address joined it: what that ENI would accept is listed. If OLD "
        "is a Terraform plan (terraform show -json PLANFILE) and there is no NEW, its planned state is compared with "
        "the one before it; any other single state is NEW, and is compared with the one that SGDP_STATE names. Touches "
        "nothing."
    )
    parser = verbs.add("diff", run, more)
    parser.add_state("old", OLD_HELP, metavar="OLD")
    parser.add_state("new", "the state to compare with; it may have another format", metavar="NEW", nargs="?")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown, for a comment on a pull request")
    parser.add_json("sgdataplane/schemas/diff.schema.json", form)
    help_text = (
        "exit code 1 if NEW opens a port to the internet: most public addresses can reach it, and can't in OLD; also if"
        " that can't be judged"
    )
    parser.add_argument("--fail-on-open", action="store_true", help=help_text)
    help_text = "the same if NEW opens anything, to or from anybody"
    parser.add_argument("--fail-on-any-open", action="store_true", help=help_text)
    add_inexact(parser)
    about = (
        "also list the live sessions that NEW would end, in a lab or at what is attached here, and, if the agent keeps "
        "history, the packets dropped in the last hour that NEW would accept; needs root"
    )
    parser.add_argument("--live", action="store_true", help=about)
    parser.add_where()
    parser.add_choices(JUDGING)


def run(arguments: argparse.Namespace) -> int:
    """Print the changes. Exit 1 if something opens that an option asks about, or can't be judged."""
    refuse_twice(arguments, arguments.old, arguments.new or usual_state())
    choices = choices_of(arguments)
    before, after = load_both(arguments)
    origins = Origins({**before.places.addresses, **after.places.addresses})
    if not arguments.json:
        before, after = with_addresses(before, after), with_addresses(after)
    result = compare_states(before, after, choices)
    seen = _look(arguments, (before, after), choices, result) if arguments.live else None
    if arguments.json:
        print_document(result, choices, {**origins.as_json(), **({} if seen is None else seen.as_json())})
    elif arguments.markdown:
        say_block(as_markdown(result, tuple(choices.unlike(ON_HOSTS))))
    else:
        say_choices(choices)
        print_text(result)
    if seen is not None and not arguments.json:
        seen.say(is_markdown=arguments.markdown)
    fails = (arguments.fail_on_open and result.is_exposed) or (arguments.fail_on_any_open and result.is_open)
    return Exit.NO if fails else Exit.DONE


@dataclass(frozen=True, slots=True)
class SeenTraffic:
    """What --live shows: traffic that was seen and that the change concerns."""

    ending: EndingSessions
    opened: OpenedRows | None
    """Dropped packets that NEW would accept; None if no history is kept."""

    def say(self, *, is_markdown: bool) -> None:
        """Print both, below the changes."""
        if self.opened is not None:
            self.opened.say(is_markdown=is_markdown)
        self.ending.say(is_markdown=is_markdown, is_always=True)

    def as_json(self) -> Mapping[str, object]:
        """Return the keys that --live adds."""
        return {
            "sessions": self.ending.as_json(),
            "dropped": None if self.opened is None else self.opened.as_json(),
        }


def _look(
    arguments: argparse.Namespace, states: tuple[Loaded, Loaded], choices: Choices, result: Difference
) -> SeenTraffic:
    """Look at live sessions and at the last hour's history."""
    from sgdataplane.cli.difflive import live_endings
    from sgdataplane.cli.diffpast import OpenedRows
    from sgdataplane.cli.ending import EndingSessions

    before = states[0].state
    diff = StateDiff(before, states[1].state, choices.options)
    ending = EndingSessions(live_endings(arguments, diff, result.changes))
    return SeenTraffic(ending, OpenedRows.read(arguments, before, diff, result.changes))


def compare_states(before: Loaded, after: Loaded, choices: Choices) -> Difference:
    """Return what `compare()` finds, with what can't be judged in either file."""
    diff = StateDiff(before.state, after.state, choices.options, after.pending)
    with Progress("comparing", 0) as progress:
        return compare(diff, not_judged(before.findings, after.findings), progress)


def load_both(arguments: argparse.Namespace) -> tuple[Loaded, Loaded]:
    """Return OLD and NEW, or both states of a plan.

    If only one state is given, the environment names OLD, and it isn't a plan, then it is NEW.

    Raises:
        StateFileError: Something is wrong in either; the error lists everything.
    """
    if arguments.new is None:
        profile, inexact = choices_of(arguments).profile, arguments.inexact
        before, after = load_plan(arguments.old, profile=profile, inexact=inexact, waits=True, before=usual_state())
        say_notes(after)
        return before, after
    memory = Memory()
    states: list[Loaded] = []
    problems: list[Problem] = []
    with Progress("loading", 2) as progress:
        for path in (arguments.old, arguments.new):
            try:
                states.append(load_as_asked(arguments, path, memory))
            except StateFileError as error:
                problems += error.problems
            progress.advance()
    if problems:
        raise StateFileError(tuple(problems))
    return states[0], states[1]


def say_notes(loaded: Loaded) -> None:
    """Say on stderr what was odd in how the state was written.

    What can't be judged is part of the answer instead.
    """
    for finding in loaded.findings:
        if not KINDS[finding.code].is_blind:
            say_aside(f"note: {finding.message}")


def print_document(result: Difference, choices: Choices, more: Mapping[str, object]) -> None:
    """Print JSON with one change a line: with indents, 100,000 of them would take seven times as long.

    `more` are keys beside those of the difference.
    """
    document = difference_as_json(result)
    for name, before in (("changes", "{"), ("would_open", "")):
        say_block("\n".join((f'{before}"{name}": [', ",\n".join(map(json_text, document.pop(name))), "],")))
    say(json_text({**document, **more, "choices": choices.of_judging()})[1:])


@dataclass(frozen=True, slots=True)
class Section:
    """ENIs with the same changes in one direction."""

    direction: Direction
    enis: tuple[str, ...]
    where: str
    """"only in NEW" or "only in OLD", else empty."""
    rows: tuple[tuple[str, ...], ...]
    """The changes, as row_of() has them."""


def sections(result: Difference) -> list[Section]:
    """Return the changes by ENI and direction; ENIs with the same changes share a section."""
    presence = dict.fromkeys(result.added, "only in NEW") | dict.fromkeys(result.removed, "only in OLD")
    groups: dict[tuple[str, Direction, tuple[tuple[str, ...], ...]], list[str]] = {}
    for one in result.enis:
        for direction in Direction:
            rows = tuple(row_of(change) for change in one.changes if change.direction is direction)
            if rows:
                groups.setdefault((presence.get(one.eni_id, ""), direction, rows), []).append(one.eni_id)
    return [Section(direction, tuple(enis), where, rows) for (where, direction, rows), enis in groups.items()]


def print_text(result: Difference) -> None:
    """Print the changes by ENI and direction; ENIs with the same changes share a table.

    Then come what would open at ENIs that aren't there, what opens to the internet, and what can't be judged.
    """
    for each in sections(result):
        title = f"{each.direction.value} of {words.first_of(each.enis, NAMED)}"
        say(paint(title, "bold") + (f" ({each.where})" if each.where else ""))
        rows = [(paint(first, COLOURS[first]), *rest) for first, *rest in each.rows]
        say_block(render_table(("VERDICT", *HEADERS), rows, indent=2))
    for text in sentences(result.would_open, result.enis):
        say_block(hanging("", text))
    if not result.enis and not result.would_open and not result.not_judged:
        say("no traffic changes its verdict")
    for text, places in collect_exposures(result).items():
        say_block(hanging(f"{paint('opens to the internet:', 'red')} ", f"{text}, at {words.first_of(places, NAMED)}"))
    for finding in result.not_judged:
        say_block(hanging(f"{paint('not judged:', 'red')} ", finding.message))
    for where, enis in (("only in NEW:", result.added), ("only in OLD:", result.removed)):
        if enis:
            say(f"{where} {words.first_of(enis, NAMED)}")
    if result.enis or result.would_open or result.not_judged:
        say(summary(result))


def collect_exposures(result: Difference) -> dict[str, list[str]]:
    """Return what opens to the internet, with the ENIs at which it does; with the groups, if it does at no ENI."""
    texts: dict[str, list[str]] = {}
    for exposure in (exposure for one in result.enis for exposure in one.exposures):
        texts.setdefault(describe_exposure(exposure), []).append(exposure.eni_id)
    at_enis = set(texts)
    for one in result.would_open:
        for exposure in one.exposures:
            if describe_exposure(exposure) not in at_enis:
                texts.setdefault(describe_exposure(exposure), []).append(place_name(one))
    return texts


def summary(result: Difference) -> str:
    """Return how many changes there are of each kind, in one line."""
    changes = [change for one in result.enis for change in one.changes]
    opening = sum(change.is_opening for change in changes)
    changed = f"{pluralize(len(changes), 'change')} at {pluralize(len(result.enis), 'ENI')}"
    text = f"{changed}: {opening:,} open, {len(changes) - opening:,} close" if changes else "no change at any ENI"
    counts = {
        "would open at ENIs that aren't there": sum(not e.is_there for e in result.would_open for _ in e.changes),
        "would open for groups that aren't in the state": sum(e.is_there for e in result.would_open for _ in e.changes),
        "not judged": len(result.not_judged),
    }
    return "; ".join((text, *(f"{count:,} {what}" for what, count in counts.items() if count)))


def describe_exposure(exposure: Exposure) -> str:
    """Return what opens to the internet: protocol, ports and address family."""
    family = exposure.family
    ports = f" {PORTS.short(exposure.ports, family)}" if exposure.ports else ""
    return f"{PROTOCOLS.short(exposure.protocol, family)}{ports} over {family.value}"


def row_of(change: VerdictChange) -> tuple[str, ...]:
    """Return a change as cells: whether it opens, then those of HEADERS."""
    return (
        "opens" if change.is_opening else "closes",
        cell(change, PROTOCOL),
        cell(change, PORT, *FURTHER),
        cell(change, REMOTE, LOCAL),
        words.cite_decision(change.before),
        words.cite_decision(change.after),
    )


def cell(change: VerdictChange, first: Dimension, *others: Dimension) -> str:
    """Return the range in one dimension, and behind it those in others, if they are restricted."""
    behind = (each.phrase.format(text_of(change, each)) for each in others if change.of(each) is not None)
    return " ".join((text_of(change, first), *behind))


# for a comment on a pull request


def as_markdown(result: Difference, unusual: Sequence[str]) -> str:
    """Return the changes as Markdown, bounded in size.

    What opens to the internet and what can't be judged comes first, then what would open at ENIs that aren't there,
    then a table for each group of ENIs. `unusual` are the policy options that aren't the usual ones, in words.
    """
    if not (result.enis or result.would_open or result.not_judged or result.added or result.removed):
        return "### No traffic changes its verdict"
    blocks = ["### Traffic changes its verdict", summary(result)]
    if unusual:
        blocks.append(f"Options: {escape(', '.join(unusual))}")
    for text, places in collect_exposures(result).items():
        blocks.append(f"> [!CAUTION]\n> Opens to the internet: **{escape(text)}**, at {names_in_code(places)}")
    blocks += [f"> [!CAUTION]\n> Not judged: {escape(finding.message)}" for finding in result.not_judged[:NAMED_BLIND]]
    if len(result.not_judged) > NAMED_BLIND:
        blocks.append(
            f"> [!CAUTION]\n> {len(result.not_judged) - NAMED_BLIND:,} more can't be judged; `sgdp diff` lists them."
        )
    for where, enis in (("Only in the new state:", result.added), ("Only in the old state:", result.removed)):
        if enis:
            blocks.append(f"{where} {names_in_code(enis)}")
    rows = [(f"- {escape(text)}", 1) for text in sentences(result.would_open, result.enis)]
    tables = [(section_as_markdown(each), len(each.rows)) for each in sections(result)]
    return "\n\n".join(fitting(blocks, [*rows, *tables]))


def fitting(blocks: list[str], more: Iterable[tuple[str, int]]) -> list[str]:
    """Return the blocks, and as many more as there is room for, each of which comes with the number of its rows."""
    length, left = sum(map(len, blocks)), 0
    kept = list(blocks)
    for block, size in more:
        length += len(block)
        if length <= MAX_MARKDOWN:
            kept.append(block)
        else:
            left += size
    if left:
        kept.append(f"{pluralize(left, 'more row')} would make this too long; `sgdp diff` prints them.")
    return kept


def section_as_markdown(section: Section) -> str:
    """Return a section as a table with a title."""
    where = f" ({section.where})" if section.where else ""
    header = ("VERDICT", *HEADERS)
    lines = [
        f"**{section.direction.value}** of {names_in_code(section.enis)}{where}\n",
        f"| {' | '.join(title.lower() for title in header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(map(escape, row))} |" for row in section.rows),
    ]
    return "\n".join(lines)


def names_in_code(enis: Sequence[str]) -> str:
    """Return names as code in Markdown: ids of ENIs, or of groups with their words."""
    named = ", ".join(f"`{visible(eni).replace('`', '')}`" for eni in enis[:NAMED])
    return named if len(enis) <= NAMED else f"{named} and {len(enis) - NAMED:,} more"


def escape(text: str) -> str:
    """Escape a text so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!])", r"\\\1", visible(text))

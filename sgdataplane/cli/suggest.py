"""`sgdp suggest`: a narrower policy that carries what was seen, with evidence; touches nothing.

Owns the arguments, the wording and the JSON keys (sgdataplane/schemas/suggest.schema.json). Must not solve anything.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import groupby
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING

from sgdataplane.cli.diff import print_text
from sgdataplane.cli.suggestsources import Sources, add_sources, check_sources
from sgdataplane.errors import LabError, Problem, StateFileError, Where
from sgdataplane.model import words
from sgdataplane.model.choices import JUDGING
from sgdataplane.model.naming import eni_of, look_up
from sgdataplane.model.state import CloudState, GroupRef, PrefixListRef, SecurityGroupRule
from sgdataplane.model.words import first_of, pluralize
from sgdataplane.net.ports import Traffic
from sgdataplane.net.values import Protocol
from sgdataplane.statefile import dump_native
from sgdataplane.suggest.describe import add_descriptions
from sgdataplane.suggest.document import evidence_as_json, suggestion_as_json
from sgdataplane.suggest.evidence import SeenFlow, gather
from sgdataplane.suggest.make import in_reading_order
from sgdataplane.suggest.result import Preferences, RefusedFlow, SeenSummary, SuggestedRule, Suggestion
from sgdataplane.suggest.solve import suggest
from sgdataplane.terminal.arguments import ENI_HELP, Parser, Verbs, choices_of, load_state, say_choices
from sgdataplane.terminal.files import require_empty_folder, write_folder
from sgdataplane.terminal.output import (
    Exit,
    paint,
    print_json,
    render_table,
    say,
    say_aside,
    say_block,
    say_hanging,
    whole_seconds,
)

if TYPE_CHECKING:
    from sgdataplane.model.options import Options

HEADERS = ("DIRECTION", "TRAFFIC", "OTHER END", "SESSIONS", "ENDS", "IN PLACE OF", "ADDRESSES", "SERVICES")
PLACE = HEADERS.index("IN PLACE OF")  # nothing, for new rules
NAMED, SHOWN = 6, 20
FILE = "state.yaml"
BIG = 1 << 20  # from here on numbers are written as powers of two


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = (
        "Each flow that STATE accepts passes under the suggestion, too, and nothing passes that STATE refuses. Drop "
        "rules stay. It is only printed; -o writes it. Applies nothing."
    )
    parser = verbs.add("suggest", run, more)
    parser.add_state(nargs="?")
    add_sources(parser)
    which = parser.add_mutually_exclusive_group()
    about = f"change only the groups of this ENI; can be repeated; {ENI_HELP}"
    which.add_argument("--eni", dest="enis", action="append", default=[], metavar="ENI", help=about)
    about = "change only this group, by its id or name; can be repeated"
    which.add_argument("--group", dest="groups", action="append", default=[], metavar="GROUP", help=about)
    about = "only ports that were seen (exact), or also those between near ports from 1024 on (range)"
    parser.add_argument("--ports", choices=("exact", "range"), default="exact", help=f"{about}; default: exact")
    about = "write ends as groups, lists and addresses (group), as lists and blocks (prefix), or as addresses"
    ends = ("group", "address", "prefix")
    parser.add_argument("--ends", choices=ends, default="group", help=f"{about}; default: group")
    about = "make rules also for what passed although STATE refuses it"
    parser.add_argument("--allow-audited", action="store_true", help=about)
    about = "keep the evidence of each new rule as its description"
    parser.add_argument("--describe", action="store_true", help=about)
    about = f"write the suggested state to this new or empty folder, as {FILE}"
    parser.add_argument("-o", dest="output", type=Path, metavar="DIR", help=about)
    parser.add_json("sgdataplane/schemas/suggest.schema.json")
    parser.add_choices(JUDGING)


def run(arguments: argparse.Namespace) -> int:
    """Print the suggestion. Exit 5 if nothing was seen at any ENI of the state."""
    check_sources(arguments)
    if arguments.output is not None:
        require_empty_folder(arguments.output)
    choices = choices_of(arguments)
    state = load_state(state_of(arguments), choices.profile).state
    sources = Sources(arguments, state, choices.options)
    flows = gather(sources.read())
    found = make_suggestion(arguments, state, flows, choices.options)
    if arguments.describe:
        found = add_descriptions(found)
    if arguments.output is not None:
        changed = {group.security_group_id for group in found.after.security_groups} - set(found.untouched)
        write_folder({FILE: dump_native(in_reading_order(found.after, changed))}, arguments.output)
    if arguments.json:
        evidence = {**evidence_as_json(SeenSummary.of(flows)), "notes": sources.notes}
        print_json({"evidence": evidence, **suggestion_as_json(found), "choices": choices.of_judging()})
    else:
        say_choices(choices)
        print_suggestion(found, flows, sources.notes, is_asked=arguments.allow_audited)
        say_next(arguments)
    return Exit.DONE


def state_of(arguments: argparse.Namespace) -> Path:
    """Return STATE; with --live or --history, the one that is in force if none is named."""
    if arguments.state is None and (arguments.live or arguments.history):
        from sgdataplane.cli.explain import find_enforced_state

        return find_enforced_state(arguments)
    path: Path | None = arguments.state
    if path is None:
        parser: Parser = arguments.parser
        parser.error("name a STATE, or set SGDP_STATE")
    return path


def make_suggestion(
    arguments: argparse.Namespace, state: CloudState, flows: tuple[SeenFlow, ...], options: Options
) -> Suggestion:
    """Return the suggestion that the arguments ask for. LabError if there is nothing to make one of."""
    judged = {eni.network_interface_id for eni in state.judged_enis}
    if not any(flow.eni_id in judged for flow in flows):
        raise LabError("evidence", "no session in it belongs to an ENI of the state, so there is nothing to suggest")
    preferences = Preferences(
        groups_of(arguments, state), arguments.ports, arguments.ends, arguments.allow_audited,
        choices_of(arguments).profile,
    )  # fmt: skip
    return suggest(state, flows, preferences, options)


def groups_of(arguments: argparse.Namespace, state: CloudState) -> frozenset[str] | None:
    """Return the groups that --eni and --group name; None if neither is given.

    Raises:
        StateFileError: A name is that of none or several.
    """
    if arguments.enis:
        enis = [state.eni[eni_of(state, name)] for name in arguments.enis]
        return frozenset(group_id for eni in enis for group_id in eni.security_group_ids)
    if not arguments.groups:
        return None
    known = {group.security_group_id: (group.security_group_name,) for group in state.security_groups}
    problems, found = [], set[str]()
    for name in arguments.groups:
        named = look_up(name, known)
        if len(named.ids) == 1:
            found.add(named.ids[0])
        else:
            message = "several groups have this name" if named.ids else "no such group in the state"
            near = ", ".join(named.ids or named.near)
            problems.append(
                Problem(Where(), "InvalidSecurityGroupId.NotFound", message, name, f"a group, such as {near}")
            )
    if problems:
        raise StateFileError(tuple(problems))
    return frozenset(found)


# for people


def print_suggestion(found: Suggestion, flows: tuple[SeenFlow, ...], notes: list[str], *, is_asked: bool) -> None:
    """Print the rules by group, what goes, what would change, and what this can't know."""
    seen = SeenSummary.of(flows)
    enis = len({flow.eni_id for flow in flows})
    say(f"{pluralize(seen.sessions, 'session')} seen at {pluralize(enis, 'ENI')}{_between(seen)}")
    say("(a session between two ENIs is seen at both)")
    old = [one for one in found.rules if not one.is_new]
    for group_id, rules in groupby(old, key=lambda one: one.group_id):
        say()
        say(paint(group_id, "bold"))
        say_block(render_table(HEADERS, [_row(one) for one in rules], indent=2))
    new = [(one.group_id, *_row(one)[:PLACE], *_row(one)[PLACE + 1 :]) for one in found.rules if one.is_new]
    if new:
        say()
        say(paint("new, as asked, though STATE refuses it:", "yellow"))
        say_block(render_table(("GROUP", *HEADERS[:PLACE], *HEADERS[PLACE + 1 :]), new, indent=2))
    say()
    for lead, text in _changes(found):
        say_hanging(f"{lead} ", text)
    _print_refused(found.refused, is_asked=is_asked)
    say()
    say(paint("what would change:", "bold"))
    print_text(found.difference)
    say()
    say(paint("what this can't know:", "bold"))
    for note in _unknown(found, seen, notes):
        say_hanging("- ", note)


def _between(seen: SeenSummary) -> str:
    """Say from when to when something was seen; nothing if that isn't known."""
    if seen.first is None or seen.last is None:
        return ""
    return f", from {whole_seconds(seen.first)} to {whole_seconds(seen.last)}"


def _row(one: SuggestedRule) -> tuple[str, ...]:
    sessions = f"{one.observed.sessions:,}"
    return (
        one.rule.direction.value,
        _traffic(one.rule),
        _end(one),
        f"{sessions}, none answered" if one.observed.is_unanswered else sessions,
        f"{one.observed.ends:,}",
        "unchanged" if one.is_kept else ", ".join(one.replaces),
        of_all(one.measure.addresses, one.measure.addresses_before),
        of_all(one.measure.services, one.measure.services_before),
    )


def _traffic(rule: SecurityGroupRule) -> str:
    text = str(rule.ip_protocol) if rule.ip_protocol.is_all else str(Traffic(rule.ip_protocol, rule.port_range))
    if rule.port_list_id:
        text = f"{rule.ip_protocol}/{rule.port_list_id}"
    return text if rule.source_port_range is None else f"{text} from {rule.source_port_range}"


def _end(one: SuggestedRule) -> str:
    """Return the other end of a rule, with how many of a group's or list's members were seen."""
    match one.rule.remote:
        case GroupRef(name) | PrefixListRef(name):
            seen, members = one.members or (0, 0)
            family = (
                f", {one.rule.narrowing.family.value}" if one.rule.narrowing and not one.rule.narrowing.length else ""
            )
            return f"{name} ({seen:,} of {size(members)} seen{family})"
        case prefix:
            return str(prefix)


def of_all(now: int, before: int) -> str:
    """Say how much is accepted, and of how much until now if that was more."""
    return size(now) if now >= before else f"{size(now)} of {size(before)}"


def size(number: int) -> str:
    """Return a number as text; a large one as the next power of two."""
    return f"{number:,}" if number < BIG else f"2^{round(log2(number))}"


def _changes(found: Suggestion) -> Iterator[tuple[str, str]]:
    """Yield what else is different, beside the rules that were listed."""
    closed = sorted({group_id for group_id, _ in found.closing})
    if closed:
        text = f"{first_of(closed, NAMED)} (drop rules of priority 100 behind the rules above)"
        yield "closes the egress of", text
    if found.inner:
        yield "sets the inner policy to Drop:", first_of(sorted(found.inner), NAMED)
    used = {(one.group_id, name) for one in found.rules for name in one.replaces}
    gone = [one for one in found.unused if not one.stays]
    if gone:
        names = [words.rule_name(one.group_id, one.rule.security_group_rule_id) for one in gone]
        yield "removes what nothing has used:", first_of(names, SHOWN)
    kept = [one for one in found.unused if one.stays and (one.group_id, one.rule.security_group_rule_id) not in used]
    if kept:
        names = [words.rule_name(one.group_id, one.rule.security_group_rule_id) for one in kept]
        yield "keeps drop rules that nothing has met:", first_of(names, SHOWN)


def _print_refused(refused: tuple[RefusedFlow, ...], *, is_asked: bool) -> None:
    """Print what passed, has no rule, and is refused under the suggestion, too."""
    some = [one for one in refused if not one.is_allowed]
    if not some:
        return
    hint = ": no rule can allow it" if is_asked else " (--allow-audited makes rules for it):"
    say(paint("refused by STATE, though it passed", "yellow") + hint)
    rows = [_make_refused_row(one) for one in some[:SHOWN]]
    say_block(render_table(("ENI", "DIRECTION", "TRAFFIC", "OTHER END", "SESSIONS", "REFUSED BY"), rows, indent=2))
    if len(some) > SHOWN:
        say(f"  ... and {len(some) - SHOWN:,} more (--json has all)")


def _make_refused_row(one: RefusedFlow) -> tuple[str, ...]:
    packet = one.packet
    port = "" if packet.port is None else f"/{packet.port}"
    return (
        packet.eni_id,
        packet.direction.value,
        f"{Protocol(packet.protocol)}{port}",
        str(packet.remote),
        f"{one.flow.sessions:,}",
        words.cite_decision(one.decision),
    )


def _unknown(found: Suggestion, seen: SeenSummary, notes: list[str]) -> Iterator[str]:
    """Yield what the evidence can't tell, in sentences."""
    if seen.first is not None and seen.last is not None:
        yield f"the evidence spans {_span(seen.last - seen.first)}: traffic that comes more rarely isn't in it"
    unanswered = sum(one.observed.is_unanswered for one in found.rules)
    if unanswered:
        rules = "1 rule carries" if unanswered == 1 else f"{unanswered:,} rules carry"
        yield f"{rules} sessions that nobody answered: a scan, perhaps, or a service that was down"
    if found.silent:
        names = first_of(found.silent, NAMED)
        yield f"nothing was seen of {names}: what these ENIs need is taken to be what others in their groups need"
    if found.untouched:
        yield f"nothing was seen at any ENI of {first_of(found.untouched, NAMED)}, which stay as they are"
    if found.dropped:
        yield f"left out: {pluralize(found.dropped, 'session')} that STATE refuses, as nothing says that any passed"
    yield from found.notes
    yield from notes


def _span(seconds: float) -> str:
    """Return a time in its largest unit of which it has at least two."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.0f} {name}"
    return words.pluralize(round(seconds), "second")


def say_next(arguments: argparse.Namespace) -> None:
    """Say where the state is, and that nothing was applied."""
    if arguments.output is None:
        say_aside("nothing was written or applied; -o DIR writes the suggested state")
    else:
        say_aside(f"wrote {arguments.output / FILE}; nothing was applied")

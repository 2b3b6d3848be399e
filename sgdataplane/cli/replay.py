"""`sgdp replay`: it sends the packets of a capture through a lab, and shows what became of each flow.

Owns the arguments, the columns and the wording; JSON keys: sgdataplane/schemas/replay.schema.json. Must not know how
packets are sent, or judge any.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from sgdataplane.lab import manage
from sgdataplane.lab.manage import Lab, enforce_policy
from sgdataplane.lab.replay.capture import Capture
from sgdataplane.lab.replay.endpoints import Mapping, parse_maps
from sgdataplane.lab.replay.flows import FlowChange, ReplayedFlow, Report, changes
from sgdataplane.lab.replay.octets import name_of
from sgdataplane.lab.replay.page import replay_page
from sgdataplane.lab.replay.run import Replay
from sgdataplane.lab.replay.stage import build_lab, own_name
from sgdataplane.model import words
from sgdataplane.model.choices import IN_LAB, JUDGING
from sgdataplane.model.words import pluralize
from sgdataplane.report.render import render_page
from sgdataplane.terminal.arguments import (
    NODE_HELP,
    Verbs,
    choices_of,
    get_choices,
    load_state,
    read_for,
    refuse_twice,
    require_root,
    say_choices,
    usual_state,
)
from sgdataplane.terminal.files import require_writable, write
from sgdataplane.terminal.output import Exit, paint, print_json, render_table, say
from sgdataplane.terminal.progress import Progress

HEADERS = ("FLOW", "PACKETS", "DELIVERED", "EXPECTED", "VERDICT", "DECIDED BY")
CHANGE_HEADERS = ("FLOW", "PACKETS", "DELIVERED", "THEN", "DECIDED BY", "THEN BY")
SHOWN = 40  # rows of a table; --json has all


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = (
        "Compares what was delivered with what the policy says; exit code 1 if they differ. All packets stay in "
        "network namespaces. Needs root."
    )
    parser = verbs.add("replay", run, more)
    what = "a pcap or pcapng file, gzipped or not; a pipe, or - for standard input"
    parser.add_argument("capture", type=Path, metavar="CAPTURE", help=what)
    whose = parser.add_mutually_exclusive_group(required=usual_state() is None)
    parser.add_state("--state", "build a lab with this policy for the replay", group=whose)
    whose.add_argument("--name", metavar="N", help="use the running lab of this name")
    against = "replay again under this policy, and show the flows that are treated differently"
    parser.add_state("--against", against, metavar="NEW")
    which = f"let NODE stand for this address of the capture; can be repeated; NODE: {NODE_HELP}"
    parser.add_argument("--map", dest="maps", action="append", default=[], metavar="IP=NODE", help=which)
    real_time = "send at the capture's own pace, so that idle timeouts count"
    parser.add_argument("--real-time", action="store_true", help=real_time)
    parser.add_json("sgdataplane/schemas/replay.schema.json")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write an HTML page, a single file")
    parser.add_choices(("placement", *JUDGING), IN_LAB)


def run(arguments: argparse.Namespace) -> int:
    """Replay a capture. Exit 1 if a packet's fate isn't what the policy says, 5 if none was sent."""
    if arguments.name is None:
        arguments.state = arguments.state or usual_state()
    if arguments.name is not None and (arguments.against or get_choices(arguments)):
        names = ", ".join(("--against", *(f"--{name.replace('_', '-')}" for name in get_choices(arguments))))
        arguments.parser.error(f"{names}: for a lab that is built: give --state, not --name")
    refuse_twice(arguments, arguments.state, arguments.against)
    require_root("replay")
    reports = list(_replays(arguments))
    if arguments.html is not None:
        _write_page(arguments, reports)
    if arguments.json:
        print_json(_as_json(reports))
    else:
        say_choices(choices_of(arguments, IN_LAB), IN_LAB)
        for line in _as_text(arguments, reports):
            say(line)
    if any(report.disagreements for report in reports):
        return Exit.NO
    return Exit.DONE if any(report.sent for report in reports) else Exit.INPUT


def _replays(arguments: argparse.Namespace) -> Iterator[Report]:
    """Yield one report; with --against two."""
    maps = read_for(arguments, lambda: parse_maps(arguments.maps))
    if arguments.html is not None:
        require_writable(arguments.html)  # before a lab is built
    with Capture(arguments.capture, again=arguments.against is not None) as capture:
        if arguments.name is not None:
            with manage.watch(arguments.name) as lab:
                yield _replay(arguments, capture, lab, Mapping(maps))
            return
        choices = choices_of(arguments, IN_LAB)
        states = [load_state(path, choices.profile).state for path in (arguments.state, arguments.against) if path]
        for state in states:
            with build_lab(own_name(), state, choices, enforce_policy) as (lab, everybody):
                yield _replay(arguments, capture, lab, Mapping(maps, everybody))


def _replay(arguments: argparse.Namespace, capture: Capture, lab: Lab, mapping: Mapping) -> Report:
    """Replay the capture in one lab, and show how far it is."""
    replay = Replay(lab, mapping, is_shared=arguments.name is not None)
    megabyte, done = 1 << 20, 0
    with Progress("replaying, MB", capture.size // megabyte) as progress:

        def advance(octets: int) -> None:
            nonlocal done
            progress.advance(octets // megabyte - done)
            done = octets // megabyte

        return replay.run(capture, advance, is_real_time=arguments.real_time)


def _write_page(arguments: argparse.Namespace, reports: list[Report]) -> None:
    """Write the page of `--html`."""
    policies = (arguments.state or f"lab {arguments.name}", arguments.against)
    told = [(str(policy), report) for policy, report in zip(policies, reports, strict=False)]
    write(render_page(replay_page(name_of(arguments.capture), told)), arguments.html)


def _as_json(reports: list[Report]) -> dict[str, object]:
    first, *others = reports
    found = first.as_json()
    if others:
        found["against"] = others[0].as_json()
        found["changes"] = [change.as_json() for change in changes(first, others[0])]
        found["disagreements"] = sum(report.disagreements for report in reports)
    return found


def _as_text(arguments: argparse.Namespace, reports: list[Report]) -> Iterator[str]:
    first, *others = reports
    yield from _replay_lines(first)
    for other in others:
        yield from ("", f"Under {arguments.against}:")
        yield from _flows(other) if other.disagreements else (_count(other),)
        yield from _changes(changes(first, other))


def _replay_lines(report: Report) -> Iterator[str]:
    """Yield the lines about one replay."""
    yield f"{pluralize(report.read, 'packet')} read, {report.sent:,} sent in {report.seconds:.1f} s"
    if report.cut:
        yield paint("note:", "yellow") + f" {report.cut}; what came before it was replayed"
    if report.time_scale != 1.0:
        yield paint("note:", "yellow") + f" all session timeouts of this lab are multiplied by {report.time_scale:g}"
    if report.filled:
        yield f"{pluralize(report.filled, 'packet')} truncated in the capture and padded with zeros"
    yield from _list_left_out(report)
    yield from _mapping(report)
    yield ""
    yield from _flows(report)


def _list_left_out(report: Report) -> Iterator[str]:
    for entry in report.left_out.values():
        first = f"packet {entry.first}"
        which = first if entry.packets == 1 else f"{pluralize(entry.packets, 'packet')}, the first is {first}"
        yield f"left out: {which} ({entry.reason})"


def _mapping(report: Report) -> Iterator[str]:
    for address, (node, own) in list(report.mapped.items())[:SHOWN]:
        yield f"{address} is {node}" + ("" if own == address else f", as {own}")
    yield from _more(len(report.mapped), "addresses")
    if report.outside:
        yield f"{pluralize(report.outside, 'address', 'es')} outside every VPC, unchanged"


def _flows(report: Report) -> Iterator[str]:
    """Yield a table of flows, and what disagrees with the policy."""
    rows = report.order()
    yield from render_table(HEADERS, (_row(flow) for flow in rows[:SHOWN])).split("\n")
    yield from _more(len(rows), "flows")
    if report.rest.packets:
        rest = report.rest
        counts = f"{pluralize(rest.packets, 'packet')}, {rest.delivered} delivered, {rest.expected} expected"
        yield f"all other flows: {counts}"
    for flow in rows[:SHOWN]:
        if flow.problem:
            yield paint("disagreement:", "red") + f" {flow.name}: {flow.problem}"
    if report.strangers:
        strangers = pluralize(report.strangers, "packet")
        yield paint("disagreement:", "red") + f" {strangers} delivered that differ from all sent"
    yield _count(report)


def _count(report: Report) -> str:
    """Return how many flows there are, and how many disagree with the policy."""
    count, flows = report.disagreements, pluralize(len(report.flows), "flow")
    if not report.sent:
        return "nothing was replayed"
    verb = "disagrees" if count == 1 else "disagree"
    return f"{flows}, " + (paint(f"{count} {verb} with the policy", "red") if count else "all as expected")


def _row(flow: ReplayedFlow) -> tuple[str, ...]:
    verdict = flow.decision.verdict.value
    decided = words.cite_decision(flow.decision) + (f" at {flow.expectation.where}" if flow.expectation.where else "")
    return (
        flow.name,
        str(flow.packets),
        str(flow.delivered),
        str(flow.expected),
        paint(verdict, "green" if verdict == "accept" else "yellow"),
        "; ".join((decided, *flow.remarks)),
    )


def _changes(found: list[FlowChange]) -> Iterator[str]:
    """Yield a table of the flows that both policies treat differently."""
    if not found:
        yield "no flow is treated differently"
        return
    yield from render_table(CHANGE_HEADERS, (_change_row(change) for change in found[:SHOWN])).split("\n")
    yield from _more(len(found), "flows")
    yield f"{pluralize(len(found), 'flow')} {'is' if len(found) == 1 else 'are'} treated differently"


def _change_row(change: FlowChange) -> tuple[str, ...]:
    before, after = change.before, change.after
    flow = before or after
    assert flow is not None
    return (
        flow.name,
        str(flow.packets),
        str(before.delivered) if before else "-",
        str(after.delivered) if after else "-",
        words.cite_decision(before.decision) if before else "left out",
        words.cite_decision(after.decision) if after else "left out",
    )


def _more(count: int, what: str) -> Iterable[str]:
    return (f"... and {count - SHOWN} more {what} (--json has all)",) if count > SHOWN else ()

"""A replay as a page for people.

Owns how many rows the page has. It is given reports. Must not send anything, nor know HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from sgdataplane import __version__
from sgdataplane.lab.replay.flows import MAX_FLOWS, FlowChange, ReplayedFlow, Report, changes
from sgdataplane.model import words
from sgdataplane.model.words import pluralize
from sgdataplane.report import content

MAX_ROWS, MAX_CHANGES, MAX_ADDRESSES = 500, 500, 200

Told = tuple[str, Report]  # the policy's name for people, and the report of the replay under it


def replay_page(capture: str, told: Sequence[Told]) -> content.ReplayPage:
    """Return the page of one replay, or of two of the same capture under two policies.

    The replay to compare with comes last. The page's size is bounded, and it says what it leaves out. The same reports
    give the same page.
    """
    (_, first), *others = told
    found = [change for _, other in others for change in changes(first, other)]
    return content.ReplayPage(
        title=f"Replay of {PurePath(capture).name}",
        source=f"{capture}, replayed under {' and '.join(policy for policy, _ in told)}",
        version=__version__,
        facts=tuple(_facts(told, found)),
        changes=_changes(told, found) if others else None,
        runs=tuple(_run(f"run{number}", *entry) for number, entry in enumerate(told, 1)),
    )


def _facts(told: Sequence[Told], found: Sequence[FlowChange]) -> Iterator[tuple[str, str]]:
    first = told[0][1]
    yield "Packets read", f"{first.read:,}"
    yield "Sent", f"{first.sent:,}"
    yield "Left out", f"{sum(entry.packets for entry in first.left_out.values()):,}"
    yield "Flows", f"{len(first.flows):,}"
    yield "Disagree with the policy", f"{sum(report.disagreements for _, report in told):,}"
    if len(told) > 1:
        yield "Flows treated differently", f"{len(found):,}"
    if first.time_scale != 1.0:
        yield "Timeouts times", f"{first.time_scale:g}"


def _run(key: str, policy: str, report: Report) -> content.ReplayRun:
    return content.ReplayRun(
        key=key,
        policy=policy,
        summary=_summary(report),
        rows=tuple(map(_row, report.order()[:MAX_ROWS])),
        problems=tuple(_problems(report)),
        notes=tuple(_notes(report)),
        left_out=tuple((entry.reason, entry.packets, entry.first) for entry in report.left_out.values()),
        addresses=tuple((address, *end) for address, end in list(report.mapped.items())[:MAX_ADDRESSES]),
        addresses_notes=tuple(_addresses_notes(report)),
    )


def _summary(report: Report) -> str:
    if not report.sent:
        return "Nothing was replayed."
    count = report.disagreements
    found = f"{count:,} {'disagrees' if count == 1 else 'disagree'} with the policy" if count else "all as expected"
    return f"{pluralize(len(report.flows), 'flow')}, {found}."


def _problems(report: Report) -> Iterator[str]:
    if report.strangers:
        yield f"{pluralize(report.strangers, 'packet')} delivered that differ from all sent"
    if report.rest.problem:
        packets = pluralize(report.rest.disagreements, "packet")
        yield f"{packets} of flows that are reported together: {report.rest.problem}"


def _notes(report: Report) -> Iterator[str]:
    if report.cut:
        yield f"{report.cut}; what came before it was replayed."
    if report.filled:
        yield f"{pluralize(report.filled, 'packet')} truncated in the capture and padded with zeros."
    if len(report.flows) > MAX_ROWS:
        yield f"{len(report.flows):,} flows are too many for a page: it shows {MAX_ROWS}, those that disagree first."
    if report.rest.packets:
        rest = report.rest
        counts = f"{pluralize(rest.packets, 'packet')}, {rest.delivered:,} delivered, {rest.expected:,} expected"
        yield f"The first {MAX_FLOWS:,} flows are kept apart. All others together: {counts}."


def _addresses_notes(report: Report) -> Iterator[str]:
    if len(report.mapped) > MAX_ADDRESSES:
        yield f"{len(report.mapped):,} addresses are too many for a page: it shows {MAX_ADDRESSES}."
    if report.outside:
        yield f"{pluralize(report.outside, 'address', 'es')} outside every VPC, unchanged."


def _row(flow: ReplayedFlow) -> content.FlowRow:
    return content.FlowRow(_head(flow), flow.packets, flow.expected, _fate(flow), flow.problem)


def _head(flow: ReplayedFlow) -> content.Head:
    return content.Head(flow.name, f"{flow.sender} to {flow.receiver}")


def _fate(flow: ReplayedFlow) -> content.FlowFate:
    where, decision = flow.expectation.where, flow.decision
    return content.FlowFate(flow.delivered, decision.verdict.value, where, words.cite_decision(decision), flow.remarks)


def _changes(told: Sequence[Told], found: Sequence[FlowChange]) -> content.Changes:
    (before, first), (after, second) = told
    notes = []
    if len(found) > MAX_CHANGES:
        notes.append(f"{len(found):,} flows are too many for a page: it shows {MAX_CHANGES}.")
    if first.rest.packets or second.rest.packets:
        notes.append(f"Flows beyond the first {MAX_FLOWS:,} are not compared.")
    return content.Changes(before, after, tuple(_change_rows(found[:MAX_CHANGES])), tuple(notes))


def _change_rows(found: Sequence[FlowChange]) -> Iterator[content.ChangeRow]:
    for change in found:
        before, after = change.before, change.after
        flow = before or after
        assert flow is not None
        fates = [None if side is None else _fate(side) for side in (before, after)]
        yield content.ChangeRow(_head(flow), flow.packets, *fates)
